"""Sweeps: one model trained with several seeds and weights, each into a run folder of its own."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import torch
from tqdm import tqdm

from lorae.errors import Diverged, InputError, Interrupted
from lorae.training.options import Options
from lorae.training.run_folder import Run
from lorae.training.train import train
from lorae.utils.files import check_new_folder, remove_leftovers
from lorae.utils.records import read_record, write_record
from lorae.utils.validation import check_range

FILE = ".sweep.json"  # hidden, so that the folder's other contents are the runs


def grid(
    options: Options, seeds: Sequence[int] = (), weights: Sequence[float] = ()
) -> dict[str, Options]:
    """Return the options of a sweep by the names of its runs: every weight with every seed.

    Example:
        >>> list(grid(Options(), seeds=(0, 1), weights=(1e-3,)))
        ['weight-0.001-seed-0', 'weight-0.001-seed-1']
    """
    members: dict[str, Options] = {}
    for weight in weights or (options.weight,):
        for seed in seeds or (options.seed,):
            name = f"seed-{seed}"
            if weights and weight is not None:
                name = f"weight-{float(weight)}-{name}"
            if name in members:
                raise InputError(f"seeds and weights must be distinct, got {name} twice")
            members[name] = dataclasses.replace(options, seed=seed, weight=weight)
            members[name].check()
    return members


def read_sweep(out: Path) -> dict[str, Options]:
    """Return the options of a sweep that was started in a folder, by the names of its runs."""
    if not (out / FILE).is_file():
        raise InputError(f"there is no sweep at {str(out)!r}: it holds no {FILE}")
    runs = read_record(out / FILE, dict[str, dict[str, Any]])
    return {name: Options.from_dict(fields) for name, fields in runs.items()}


def train_sweep(
    members: Mapping[str, Options],
    out: Path,
    *,
    resume: bool = False,
    processes: int | None = None,
    show: bool = True,
) -> list[Run]:
    """Train the runs of a sweep and return their folders, in order.

    Args:
        members: options of the runs by the names of their folders.
        out: the folder of the run folders, new or empty unless `resume`.
        resume: continue stopped runs, and start those that are missing.
        processes: number of processes, which share the cores; by default one for each core, or a
            single one with a GPU.
        show: show progress on standard error.

    Raises:
        InputError: if an option, the data or the folder is unsuitable.
        Diverged: if the loss of a run is not finite, after the other runs have ended.
        Interrupted: after Ctrl-C or SIGTERM in a training; a KeyboardInterrupt while this process
            waits for others.
    """
    check_range("processes", processes, 1)
    if not resume:
        check_new_folder(out)
        runs = {name: dataclasses.asdict(one) for name, one in members.items()}
        write_record(out / FILE, runs, new=True)
    remove_leftovers(out)
    count = process_count(processes, len(members))
    threads = None if count == 1 else max(1, joblib.cpu_count() // count)
    train_all = joblib.Parallel(count, return_as="generator")
    calls = [
        joblib.delayed(_train_member)(options, out / name, threads, show=show and count == 1)
        for name, options in members.items()
    ]
    diverged = []
    try:
        for name, failure in zip(members, train_all(calls), strict=True):
            diverged += [failure] if failure else []
            if show and count > 1:
                tqdm.write(failure or f"{name}: trained", file=sys.stderr)
    except Interrupted as stop:
        raise Interrupted(stop.step, stop.signal, f"lorae sweep --resume {out}") from None
    except KeyboardInterrupt:  # while this process waits for the others
        raise KeyboardInterrupt(f"continue with: lorae sweep --resume {out}") from None
    if diverged:
        ended = len(members) - len(diverged)
        raise Diverged(f"{'; '.join(diverged)}; {ended} of {len(members)} runs have ended")
    return [Run(out / name) for name in members]


def process_count(wanted: int | None, tasks: int) -> int:
    """Return how many processes to use for some tasks.

    By default, that is one for each core, or a single one with a GPU.
    """
    default = 1 if torch.cuda.is_available() else joblib.cpu_count()
    return min(wanted or default, tasks)


def _train_member(options: Options, path: Path, threads: int | None, *, show: bool) -> str | None:
    """Train a run, or continue it, and return why it failed if it diverged."""
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        train(options, path, resume=Run(path).exists, show=show)
    except Diverged as error:
        return f"{path.name}: {error}"
    return None
