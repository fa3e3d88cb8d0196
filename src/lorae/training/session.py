"""A session of training: from the start or a checkpoint to the end, with evaluations on the way."""

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from lightning_fabric import Fabric
from torch import Tensor

from lorae.data.datasets import Data
from lorae.errors import Diverged, InputError, Interrupted
from lorae.nn.serialization import load
from lorae.objectives.base import Objective
from lorae.training.checkpoints import Stateful, load_checkpoint, save_checkpoint
from lorae.training.evaluation import evaluate
from lorae.training.loop import LOG_EVERY, Stepper, optimize
from lorae.training.options import Options
from lorae.training.progress import Display
from lorae.training.run_folder import Run
from lorae.training.sampler import Sampler
from lorae.training.signals import Interrupts, record_interrupts
from lorae.utils.records import check_json
from lorae.utils.samples import subsample
from lorae.utils.tensor_files import read_checksum
from lorae.utils.validation import check_range


@dataclass
class Progress:
    """What a run has to remember besides its tensors and the number of steps.

    Attributes:
        seconds: time that the steps took, over all sessions.
        best: the least validation error so far.
        stale: evaluations since then.
        best_model: checksum of the model with that error, if there is early stopping.
    """

    seconds: float = 0.0
    best: float = math.inf
    stale: int = 0
    best_model: str = ""

    def improves(self, error: float) -> bool:
        """Record a validation error, and return whether it is the least so far."""
        self.stale += 1
        if error < self.best:
            self.best, self.stale = error, 0
        return self.stale == 0


class State(TypedDict):
    """The position of a run, in the header of a checkpoint."""

    step: int
    seconds: float
    best: float
    stale: int
    best_model: str


class CheckpointHeader(TypedDict):
    """The header of a checkpoint of a run."""

    run: str
    metrics: str
    state: State


class Session:
    """One process's part in a run, from the start or a checkpoint to the end."""

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
        assert options.evaluate_every is not None
        self.options, self.run, self.data, self.fabric = options, run, data, fabric
        self.steps, self.evaluate_every = options.steps, options.evaluate_every
        self.progress = Progress()
        self.sampler = Sampler(
            data.train,
            fabric,
            batch_size=options.batch_size,
            held_out=options.held_out(len(data.train)),
            seed=options.seed,
        )
        self.probe = subsample(data.test, options.probe, options.seed)
        self.display = Display(run.name, self.steps, show=show and fabric.is_global_zero)
        self.stepper = Stepper(
            objective,
            options,
            fabric,
            capture=options.capture,
            note=lambda line: self.display.notes([line]),
        )

    def run_to_end(self) -> None:
        """Train to the end, with evaluations and checkpoints; may raise Diverged or Interrupted."""
        try:
            if not self.done:
                self._train()
        except Diverged as error:
            kept = "no checkpoint has been written yet"
            if self.run.checkpoint.exists():
                kept = f"the last good checkpoint is {str(self.run.checkpoint)!r}"
            raise Diverged(f"{error} or clip_norm; {kept}") from None
        self._finish()

    @property
    def notes(self) -> list[str]:
        """A remark on a run that is continued to more steps."""
        before = self.run.about.get("continued_from")
        if before is None:
            return []
        note = (
            f"continues from step {self.stepper.steps} to {self.steps}, after {before[-1]} steps "
            f"at first, with the state of the optimizer and the same learning rate, "
            f"{self.options.learning_rate:g}"
        )
        return [note]

    @property
    def done(self) -> bool:
        """Whether all steps are made or patience has run out."""
        patience = self.options.patience
        impatient = patience is not None and self.progress.stale >= patience
        return impatient or self.stepper.steps >= self.steps

    def _train(self) -> None:
        start = time.perf_counter() - self.progress.seconds
        with record_interrupts() as interrupts, self.display.open(self.stepper.steps):
            for step in optimize(self.stepper, self.sampler.batch, self.steps):
                self.display.advance()
                if step % LOG_EVERY == 0:
                    self.display.loss(self.stepper.totals.means()["loss"])
                self.progress.seconds = time.perf_counter() - start
                if step % self.evaluate_every == 0 or step == self.steps:
                    self._evaluate()
                if self.done:
                    break
                if received := self._received(interrupts):
                    self.save()
                    raise Interrupted(step, received, f"lorae train --resume {self.run.path}")

    def _received(self, interrupts: Interrupts) -> int:
        """Return a signal that any process has received; several processes ask now and then."""
        if self.fabric.world_size == 1:
            return interrupts.received
        if self.stepper.steps % LOG_EVERY:
            return 0
        signals = torch.tensor(interrupts.received, device=self.fabric.device)
        highest = self.fabric.all_reduce(signals, reduce_op="max")
        assert isinstance(highest, Tensor)
        return int(highest)

    def _evaluate(self) -> None:
        """Write a line of metrics and a checkpoint."""
        stepper, progress, held_out = self.stepper, self.progress, self.sampler.held_out
        stepper.check_loss()
        stepper.totals.synchronize(self.fabric)
        means = stepper.totals.means()
        stepper.totals.clear()
        line = self._position() | {"train": means}
        if len(held_out):
            error = evaluate(stepper.model, held_out).reconstruction
            assert error is not None
            line["validation"] = {"samples": len(held_out), "reconstruction": error}
            least = progress.improves(error)
            if least and self.options.patience is not None:
                self._save_best()
        found = evaluate(stepper.model, self.probe)
        warnings = stepper.objective.warnings(means) + found.warnings
        self._log(line | {"final": False, "test": found.figures(), "warnings": warnings})
        self.save()

    def _save_best(self) -> None:
        if self.fabric.is_global_zero:
            self.stepper.model.save(self.run.best)
            self.progress.best_model = read_checksum(self.run.best)
        self.progress.best_model = self.fabric.broadcast(self.progress.best_model)

    def _finish(self) -> None:
        """Evaluate the model that is kept on the whole test set, and write it."""
        model = self.stepper.model
        if self.progress.best_model:
            best = load(self.run.best)
            if read_checksum(self.run.best) != self.progress.best_model:
                raise InputError(f"{str(self.run.best)!r} is not the best model of this run")
            model.load_state_dict(best.state_dict())
        found = evaluate(model, self.data.test)
        line = self._position() | {"final": True, "test": found.figures()}
        if self.fabric.is_global_zero:
            # The last line holds the checksum of the model, which appears after it.
            file = self.run.checkpoint.with_name("model.safetensors")
            model.save(file)
            warnings = found.warnings + found.final_warnings
            self._log(line | {"warnings": warnings, "model": read_checksum(file)})
            file.replace(self.run.path / file.name)
        self.fabric.barrier()

    def _position(self) -> dict[str, Any]:
        return {
            "step": self.stepper.steps,
            "epoch": round(self.stepper.steps / self.sampler.per_epoch, 4),
            "seconds": round(self.progress.seconds, 3),
        }

    def _log(self, line: dict[str, Any]) -> None:
        if self.fabric.is_global_zero:
            self.run.append_metrics(line)
            self.display.evaluation(line, superseded=self.done and not line["final"])

    def save(self) -> None:
        """Write a checkpoint; if a weight is not finite, raise Diverged and keep the last one."""
        self.stepper.check_weights()
        self.stepper.totals.synchronize(self.fabric)
        if self.fabric.is_global_zero:
            state = {"step": self.stepper.steps} | dataclasses.asdict(self.progress)
            about = {"run": self.run.identity, "metrics": self.run.metrics_checksum, "state": state}
            save_checkpoint(self.run.checkpoint, self._parts(), self.stepper.adam, about)
        self.fabric.barrier()

    def restore(self) -> None:
        """Return to the last checkpoint, or to the start if there is none yet."""
        about: dict[str, Any] = {"state": {}, "metrics": self.run.identity}
        if self.run.checkpoint.exists():
            about = load_checkpoint(
                self.run.checkpoint, self._parts(), self.stepper.adam, self._check_header
            )
            self.stepper.steps = about["state"].pop("step")
            self.progress = Progress(**about["state"])
        if self.progress.best_model:
            load(self.run.best)  # now rather than at the end of training
        if self.fabric.is_global_zero:
            self.run.rewind_metrics(self.stepper.steps, about["metrics"])
        self.fabric.barrier()

    def _check_header(self, about: dict[str, Any]) -> None:
        """Check that a checkpoint is one of this run."""
        name = str(self.run.checkpoint)
        check_json(about, CheckpointHeader, repr(name))
        if about["run"] != self.run.identity:
            raise InputError(f"{name!r} is a checkpoint of another run: data or options differ")
        state = about["state"]
        check_range(f"step of {name!r}", state["step"], 1, self.steps)
        for key in ("seconds", "stale"):
            check_range(f"{key} of {name!r}", state[key], 0)
        if not state["best"] >= 0:
            raise InputError(f"best of {name!r} must be at least 0, got {state['best']:g}")

    def _parts(self) -> dict[str, Stateful]:
        stepper = self.stepper
        parts: dict[str, Stateful] = {"objective": stepper.objective, "totals": stepper.totals}
        return parts if stepper.average is None else parts | {"average": stepper.average}
