"""The one training loop.

For every step: draw a batch, sum the objective's terms, step the optimizer, let the objective
move its matrix. The order of the samples is a function of the seed and the epoch alone, so the
number of the step is the whole position in the data, and a run that is stopped, even by force,
and resumed ends with the weights it would have had.
"""

import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from lorae.data.datasets import Data
from lorae.errors import Diverged, InputError, Interrupted
from lorae.nn.autoencoder import Autoencoder, build
from lorae.nn.serialization import load
from lorae.objectives.base import Objective
from lorae.objectives.registry import method
from lorae.training.checkpoints import Stateful, load_checkpoint, save_checkpoint
from lorae.training.devices import fabric_for
from lorae.training.evaluation import Evaluation, evaluate
from lorae.training.options import Options
from lorae.training.progress import Display
from lorae.training.run_folder import Run, free_folder
from lorae.training.sampler import Sampler, drawn
from lorae.training.signals import Interrupts
from lorae.training.step import LOG_EVERY, Stepper
from lorae.training.totals import Totals


def train(
    options: Options, out: str | Path | None = None, *, resume: bool = False, show: bool = True
) -> Run:
    """Train a model and return its run folder.

    Args:
        options: what to train; see :class:`lorae.training.options.Options`.
        out: the run folder, new or, to resume, that of a stopped run; by default a new one in
            `runs/`, named after data and model.
        resume: go on from the last checkpoint of the same options.
        show: draw a progress bar where standard error is a terminal, else print lines to it.

    Raises:
        InputError: if an option, the data or the folder is unfit.
        Diverged: if the loss is not finite; the last good checkpoint stays.
        Interrupted: after Ctrl-C or SIGTERM; the state is saved.

    Example:
        >>> from tempfile import mkdtemp
        >>> run = train(Options(data="digits", steps=2), mkdtemp(), show=False)
        >>> run.model().encode(torch.rand(1, 1, 8, 8)).shape
        torch.Size([1, 64])
    """
    options.check()
    fabric = fabric_for(options)
    data = options.load()
    options = options.resolved(data)
    objective = begun(options, data)
    run = _prepared(fabric, options, data, out, resume=resume)
    if run.finished:
        return run
    session = Session(options, run, data, fabric, objective, show=show)
    if resume:
        session.restore()
    session.run_to_end()
    return run


def begun(options: Options, data: Data) -> Objective:
    """Return what a training minimises over a model with fresh weights, torch's generator seeded.

    Args:
        options: resolved.
        data: what they name.

    Raises:
        InputError: if a batch has too few samples for it.
    """
    torch.manual_seed(options.seed)
    model = build(options.architecture(data), data.shift, data.scale)
    objective = method(options.model).build_objective(model, options.weight, **options.settings)
    if options.batch_size < objective.least_batch:
        raise InputError(
            f"batch_size must be at least {objective.least_batch} for {options.model} with these "
            f"settings, got {options.batch_size}"
        )
    return objective


def _prepared(
    fabric: Fabric, options: Options, data: Data, out: str | Path | None, *, resume: bool
) -> Run:
    """Let process zero make or check the folder; all of them return it or fail alike."""
    answer: tuple[str, str] = ("", "")
    if fabric.is_global_zero:
        run = Run(free_folder(f"{data.name}-{options.model}") if out is None else Path(out))
        try:
            run.claim(about(options, data), resume=resume)
            answer = (str(run.path), "")
        except InputError as error:
            answer = ("", str(error))
    path, refusal = fabric.broadcast(answer)
    if refusal:
        raise InputError(refusal)
    return Run(Path(path))


def about(options: Options, data: Data) -> dict[str, Any]:
    """Return what `config.json` says of a run."""
    return {
        "options": dataclasses.asdict(options),
        "data": {
            "name": data.name,
            "checksum": data.checksum,
            "train": len(data.train),
            "test": len(data.test),
            "shape": list(data.shape),
        },
    }


@dataclass
class State:
    """How far a run has come.

    Attributes:
        step: optimizer steps made.
        seconds: time they took, over all sessions.
        best: least validation error so far.
        stale: evaluations since then.
    """

    step: int = 0
    seconds: float = 0.0
    best: float = math.inf
    stale: int = 0

    def judge(self, error: float) -> bool:
        """Take note of a validation error, and tell whether it is the least so far."""
        self.stale += 1
        if error < self.best:
            self.best, self.stale = error, 0
        return self.stale == 0


class Session:
    """One process's part in one training run, from its start or from a checkpoint to its end."""

    def __init__(
        self,
        options: Options,
        run: Run,
        data: Data,
        fabric: Fabric,
        objective: Objective,
        *,
        show: bool = True,
    ) -> None:
        assert options.steps is not None
        assert options.learning_rate is not None
        assert options.evaluate_every is not None
        self.options, self.run, self.data, self.fabric = options, run, data, fabric
        self.steps, self.learning_rate = options.steps, options.learning_rate
        self.evaluate_every = options.evaluate_every
        self.state, self.totals = State(), Totals()
        self.sampler = Sampler(data.train, options, fabric)
        self.probe = drawn(data.test, options.probe, options.seed)
        self.objective, self.stepper = objective, Stepper(objective, options, fabric)
        self.display = Display(run.name, self.steps, show=show and fabric.is_global_zero)

    @property
    def model(self) -> Autoencoder:
        """The model that is evaluated and kept: the moving average where there is one."""
        return self.stepper.model

    @property
    def done(self) -> bool:
        """Whether all steps are made, or patience has ended."""
        patience = self.options.patience
        impatient = patience is not None and self.state.stale >= patience
        return impatient or self.state.step >= self.steps

    def run_to_end(self) -> None:
        """Train from the current state to the end, evaluating and saving on the way.

        Raises:
            Diverged: if the loss is not finite.
            Interrupted: after a signal, once the state is saved.
        """
        self.objective.train()
        start = time.perf_counter() - self.state.seconds
        with Interrupts() as interrupts, self.display.opened(self.state.step):
            while not self.done:
                self.advance()
                if self.state.step % self.evaluate_every == 0 or self.state.step == self.steps:
                    self.state.seconds = time.perf_counter() - start
                    self._evaluate()
                received = self._agreed(interrupts.received)
                if received and not self.done:
                    self.state.seconds = time.perf_counter() - start
                    self.save()
                    how = f"lorae train --resume {self.run.path}"
                    raise Interrupted(self.state.step, received, how)
        self._finish()

    def advance(self) -> None:
        """Make the next step, and watch over it."""
        if self.options.warmup:
            self.objective.strength = min(1.0, self.state.step / self.options.warmup)
        self.totals.add(self.step(self.sampler.batch(self.state.step)))
        self.state.step += 1
        self.display.advance()
        if self.fabric.device.type == "cpu" or self.state.step % LOG_EVERY == 0:
            self._check()

    def step(self, x: Tensor) -> dict[str, Tensor]:
        """Make one optimizer step on one batch and return the terms of the loss."""
        return self.stepper.step(x)

    def save(self) -> None:
        """Write a checkpoint, unless a weight is not finite.

        Raises:
            Diverged: if one is; the last good checkpoint stays.
        """
        if not all(bool(torch.isfinite(p).all()) for p in self.objective.parameters()):
            raise self._diverged("a weight")
        self.totals.agree(self.fabric)
        if self.fabric.is_global_zero:
            about = {"state": dataclasses.asdict(self.state)}
            save_checkpoint(self.run.checkpoint, self._parts(), self.stepper.plain_optimizer, about)
        self.fabric.barrier()

    def restore(self) -> None:
        """Go back to the last checkpoint, or to the start where none was written yet."""
        if self.run.checkpoint.exists():
            about = load_checkpoint(
                self.run.checkpoint, self._parts(), self.stepper.plain_optimizer
            )
            self.state = State(**about["state"])
        if self.fabric.is_global_zero:
            self.run.rewind_metrics(self.state.step)

    def _parts(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = {"objective": self.objective, "totals": self.totals}
        average = self.stepper.average
        return parts if average is None else parts | {"average": average}

    def _agreed(self, received: int) -> int:
        """Return the signal that any process has received; several ask only now and then."""
        if self.fabric.world_size == 1:
            return received
        if self.state.step % LOG_EVERY:
            return 0
        signals = torch.tensor(received, device=self.fabric.device)
        highest = self.fabric.all_reduce(signals, reduce_op="max")
        assert isinstance(highest, Tensor)
        return int(highest)

    def _check(self) -> None:
        if not self.totals.finite():
            raise self._diverged("the loss")
        if self.state.step % LOG_EVERY == 0:
            self.display.loss(self.totals.means()["loss"])

    def _diverged(self, what: str) -> Diverged:
        kept = f"the last good checkpoint is {str(self.run.checkpoint)!r}"
        return Diverged(
            f"{what} is no longer finite at step {self.state.step}: try a learning_rate below "
            f"{self.learning_rate:g} or clip_norm; "
            + (kept if self.run.checkpoint.exists() else "no checkpoint had been written yet")
        )

    def _evaluate(self) -> None:
        """Write a line of metrics and a checkpoint."""
        self.objective.settle()
        self._check()
        self.totals.agree(self.fabric)
        means = self.totals.means()
        line = self._position() | {"train": means}
        self.totals.clear()
        held_out = self.sampler.held_out
        if len(held_out):
            error = evaluate(self.model, held_out).reconstruction
            assert error is not None
            line["validation"] = {"samples": len(held_out), "reconstruction": error}
            least = self.state.judge(error)
            if least and self.options.patience is not None and self.fabric.is_global_zero:
                self.model.save(self.run.best)
        self._log(line | figures(evaluate(self.model, self.probe), self.objective.warnings(means)))
        self.save()

    def _finish(self) -> None:
        """Evaluate the model that is kept on the whole test set, and write it."""
        if self.options.patience is not None and self.run.best.exists():
            self.model.load_state_dict(load(self.run.best).state_dict())
        self._log(self._position() | figures(evaluate(self.model, self.data.test), final=True))
        if self.fabric.is_global_zero:
            self.model.save(self.run.path / "model.safetensors")
        self.fabric.barrier()

    def _position(self) -> dict[str, Any]:
        return {
            "step": self.state.step,
            "epoch": round(self.state.step / self.sampler.per_epoch, 4),
            "seconds": round(self.state.seconds, 3),
        }

    def _log(self, line: dict[str, Any]) -> None:
        if self.fabric.is_global_zero:
            self.run.append_metrics(line)
            self.display.evaluation(line)


def figures(
    found: Evaluation, warnings: list[str] | None = None, *, final: bool = False
) -> dict[str, Any]:
    """Return an evaluation, and what else is to be warned of, as fields of a line of metrics."""
    test = {
        "samples": found.samples,
        "reconstruction": found.reconstruction,
        "rank": found.rank,
        "covariance": found.covariance.tolist(),
        "matrix": found.matrix.tolist(),
    }
    return {
        "final": final,
        "test": test | ({} if found.spread is None else {"spread": found.spread}),
        "warnings": (warnings or []) + found.warnings,
    }
