"""Train a model into a run folder.

The order of the samples is a function of the seed and the epoch, so the number of steps made is
the whole position in the data: a run that was interrupted, even killed, and then resumed ends with
the same weights, bit for bit, as one that was not.
"""

import dataclasses
import shutil
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning_fabric import Fabric

from lorae.data.datasets import Data
from lorae.data.frames import write_samples
from lorae.errors import InputError, unknown_name
from lorae.nn.autoencoder import build
from lorae.objectives.base import Objective
from lorae.objectives.registry import method
from lorae.training.devices import choose_precision, create_fabric
from lorae.training.loop import Stepper, optimize
from lorae.training.options import Options
from lorae.training.run_folder import Run, free_folder
from lorae.training.sampler import Sampler
from lorae.training.session import Session
from lorae.utils.files import temporary_folder
from lorae.utils.validation import check_memory


def train(
    options: Options | None = None,
    out: str | Path | None = None,
    *,
    data: Any = None,
    resume: bool = False,
    show: bool = True,
    **changes: Any,
) -> Run:
    """Train a model and return its run folder.

    Args:
        options: what to train; see :class:`lorae.training.options.Options`.
        out: the run folder; by default a new one in `runs/`, named after data and model.
        data: the samples, in place of the options' data: a data frame of pandas or polars, an
            array or a tensor n x D, n x h x w, n x h x w x c or n x c x h x w, which are saved in
            the run folder; or a path or name.
        resume: continue the run in `out`, which must have the same options, from its last
            checkpoint.
        show: show progress on standard error: a bar on a terminal, else lines.
        changes: options that differ from `options`, such as `steps=1000`.

    Raises:
        InputError: if an option, the data or the folder is unsuitable.
        Diverged: if the loss is not finite; the last good checkpoint is kept.
        Interrupted: after Ctrl-C or SIGTERM, once a checkpoint is saved.

    Example:
        >>> from tempfile import mkdtemp
        >>> run = train(data=torch.rand(50, 6), out=mkdtemp(), latent=2, steps=2, show=False)
        >>> run.model().encode(torch.rand(1, 6)).shape
        torch.Size([1, 2])
    """
    if unknown := set(changes) - {field.name for field in dataclasses.fields(Options)}:
        raise unknown_name("option", min(unknown), [f.name for f in dataclasses.fields(Options)])
    options = dataclasses.replace(options or Options(), **changes)
    if data is None or isinstance(data, str | Path):
        options = options if data is None else dataclasses.replace(options, data=str(data))
        return _train(options, options.load, out, resume=resume, show=show)
    with TemporaryDirectory() as folder:
        file = write_samples(data, Path(folder))
        options = dataclasses.replace(options, data=str(file))
        return _train(options, partial(_load, options), out, file=file, resume=resume, show=show)


def _load(options: Options) -> Data:
    """Load samples that were in memory; errors do not name their temporary file."""
    try:
        return options.load()
    except InputError as error:
        raise InputError(str(error).replace(options.data, "data")) from None


def _train(
    options: Options,
    load_data: Callable[[], Data],
    out: str | Path | None,
    *,
    file: Path | None = None,
    resume: bool,
    show: bool,
) -> Run:
    options.check()
    data = load_data()
    given, options = options, options.resolve(data)
    check_size(options, data)
    fabric = create_fabric(options)
    objective = build_objective(options, data)
    check_batch_size(options, objective, fabric.world_size)
    fabric.launch()
    run = _claim_folder(fabric, options, data, out, file, resume=resume)
    if not run.finished:
        session = Session(options, run, data, fabric, objective, show=show)
        if resume:
            session.restore()
        session.display.notes([*data.notes, *notes(options, data, given), *session.notes])
        session.run_to_end()
    return run


def build_objective(options: Options, data: Data) -> Objective:
    """Return the objective of a run over a model with fresh weights, after seeding torch."""
    torch.manual_seed(options.seed)
    model = build(options.architecture(data), data.shift, data.scale)
    if model.gaps is not None and data.factors is not None:
        model.gaps.set_factors(data.factors)
    return method(options.model).build_objective(model, options.weight, **options.settings)


def check_size(options: Options, data: Data) -> None:
    """Check that the weights, their gradients and Adam's two moments fit into memory."""
    architecture = options.architecture(data)
    # Some bridges and spectral norms compute with their weights, which none have here.
    plain = dataclasses.replace(architecture, bridge="none", settings={}, lipschitz=False)
    try:
        with torch.device("meta"):
            count = sum(one.numel() for one in build(plain).parameters())
        count += 0 if architecture.bridge == "none" else architecture.latent**2
    except InputError:
        raise
    except (RuntimeError, OverflowError, TypeError, ValueError):  # of sizes beyond 64 bits
        count = 2**63
    check_memory("latent and width", 16 * count, f"{options.model} and its optimizer")


def time_step(options: Options, data: Data) -> float:
    """Return the seconds that a training step takes here, the median of three after the first."""
    check_size(options, data)
    fabric = create_fabric(dataclasses.replace(options, devices=1, nodes=1, strategy="auto"))
    objective = build_objective(options, data)
    stepper = Stepper(objective, options, fabric, capture=options.capture)
    sampler = Sampler(data.train, fabric, batch_size=options.batch_size, seed=options.seed)
    times = [time.perf_counter()]
    for _ in optimize(stepper, sampler.batch, steps=4):
        stepper.check_loss()  # which waits for an accelerator
        times.append(time.perf_counter())
    return statistics.median(b - a for a, b in pairwise(times[1:]))


def notes(options: Options, data: Data, given: Options) -> list[str]:
    """Return remarks on resolved options that may surprise, and on what was chosen for `auto`."""
    values = data.train[0].numel()
    found = []
    if options.latent is not None and options.latent > values:
        found.append(f"latent is {options.latent}, more than the {values} values of a sample")
    if options.batch_size == len(data.train) - options.held_out(len(data.train)):
        found.append(f"a step takes all {options.batch_size} training samples")
    if given.precision == "auto":
        reason = choose_precision(options.model, options.device)[1]
        found.append(f"precision is {options.precision}: {reason}")
    return found


def check_batch_size(options: Options, objective: Objective, processes: int) -> None:
    """Check that every process gets an equal share of a batch, and one that is large enough."""
    if options.batch_size % processes:
        raise InputError(
            f"batch_size must be a multiple of the number of processes, {processes}, got "
            f"{options.batch_size}"
        )
    if options.batch_size < objective.min_batch_size:
        raise InputError(
            f"batch_size must be at least {objective.min_batch_size} for {options.model} with "
            f"these settings, got {options.batch_size}"
        )


def _claim_folder(
    fabric: Fabric,
    options: Options,
    data: Data,
    out: str | Path | None,
    file: Path | None,
    *,
    resume: bool,
) -> Run:
    """Let process 0 make or check the run folder; every process returns it or fails alike."""
    path, refusal = "", ""
    if fabric.is_global_zero:
        run = Run(free_folder(f"{data.name}-{options.model}") if out is None else Path(out))
        try:
            run.claim(_description(options, data, run.path, file), resume=resume)
            if file is not None:
                _keep_data(file, run.path / file.name)
            path = str(run.path)
        except InputError as error:
            refusal = str(error)
    path, refusal = fabric.broadcast((path, refusal))
    if refusal:
        raise InputError(refusal)
    return Run(Path(path))


def _description(options: Options, data: Data, folder: Path, file: Path | None) -> dict[str, Any]:
    """Return the content of `config.json`."""
    if file is not None:
        options = dataclasses.replace(options, data=str((folder / file.name).resolve()))
    return {
        "options": dataclasses.asdict(options),
        "data": {
            "name": data.name,
            "checksum": data.checksum,
            "train": len(data.train),
            "test": len(data.test),
            "shape": list(data.shape),
            "columns": data.columns,
            "schema": None if data.schema is None else dataclasses.asdict(data.schema),
            "notes": list(data.notes),
            "file": None if file is None else file.name,
        },
    }


def _keep_data(file: Path, to: Path) -> None:
    """Copy the samples into the run folder, unless they are there."""
    if not to.exists():
        with temporary_folder(to.parent) as folder:
            shutil.copyfile(file, folder / to.name)
            (folder / to.name).replace(to)
