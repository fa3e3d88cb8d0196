"""The members of a stack: each with all that its training alone would have.

Its weights, the moments of its optimizer and the sums of its loss are parts of what all members
have in one; its samples, random numbers and run folder are its own. So it writes the very
checkpoint that its training alone would write, and what was stopped together can be gone on with
apart, and the other way round.

Members are saved together: all next checkpoints are written before the first of them takes the
place of the last. What is killed in between is made :func:`even` again.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from lorae.autoencoder import Autoencoder, clone
from lorae.checkpoints import Stateful, load_checkpoint, save_checkpoint
from lorae.data import Data
from lorae.files import load_tensors
from lorae.options import Options
from lorae.runs import Run
from lorae.sampler import Sampler, drawn
from lorae.stepping import adam
from lorae.totals import Totals
from lorae.training import State, begun


class Member:
    """One training of a stack, as `lorae.train` would begin it.

    Args:
        options: resolved.
        run: its folder, which is not touched yet.
        data: what the options name.
        fabric: of one process.
        samples: for training, where they are on the device already.

    Attributes:
        objective: what it minimises.
        average: the moving average of its weights, where it is asked for.
        generator: of the random numbers that it draws on its device.
        state: how far it has come.
        totals: sums of the terms of its loss.
        own: its optimizer, whose state is part of the stack's when it is saved.
    """

    own: Optimizer

    def __init__(
        self,
        options: Options,
        run: Run,
        data: Data,
        fabric: Fabric,
        samples: Tensor | None = None,
    ) -> None:
        self.options, self.run, self.data, self.fabric = options, run, data, fabric
        kind = torch.float64 if options.precision == "64-true" else torch.float32
        self.objective = begun(options, data).to(fabric.device, kind)
        self.average = None if options.ema is None else clone(self.objective.model)
        self._host = torch.Generator()
        self._host.set_state(torch.get_rng_state())
        self.generator = self._host
        if fabric.device.type != "cpu":
            self.generator = torch.Generator(fabric.device).manual_seed(options.seed)
        self.sampler = Sampler(data.train if samples is None else samples, options, fabric)
        self.probe = drawn(data.test, options.probe, options.seed)
        self.state, self.totals = State(), Totals()

    @property
    def model(self) -> Autoencoder:
        """The model that is evaluated and kept: the moving average where there is one."""
        return self.objective.model if self.average is None else self.average

    @property
    def finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(bool(torch.isfinite(p).all()) for p in self.objective.parameters())

    def joined(self) -> None:
        """Take an optimizer, once the weights are views of the stack's."""
        self.own = adam(self.objective, self.options)

    def save(self) -> None:
        """Write the next checkpoint, which :meth:`commit` makes the last."""
        with self._alone():
            about = {"state": dataclasses.asdict(self.state)}
            save_checkpoint(_next(self.run), self._parts(), self.own, about)

    def commit(self) -> None:
        """Put the next checkpoint in the place of the last."""
        _next(self.run).replace(self.run.checkpoint)

    def restore(self) -> None:
        """Go back to the last checkpoint, or to the start where none was written yet."""
        if self.run.checkpoint.exists():
            with self._alone():
                about = load_checkpoint(self.run.checkpoint, self._parts(), self.own)
            self.state = State(**about["state"])
        self.run.rewind_metrics(self.state.step)

    def _parts(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = {"objective": self.objective, "totals": self.totals}
        return parts if self.average is None else parts | {"average": self.average}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let the global generators stand as they would in the member's training alone."""
        devices = [self.fabric.device] if self.fabric.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.set_rng_state(self._host.get_state())
            for device in devices:
                torch.cuda.set_rng_state(self.generator.get_state(), device)
            yield
            self._host.set_state(torch.get_rng_state())
            for device in devices:
                self.generator.set_state(torch.cuda.get_rng_state(device))


def even(members: Sequence[Member]) -> list[list[Member]]:
    """Finish or undo what was cut off while all were saved, and return them in groups by step."""
    runs = [member.run for member in members]
    furthest = max((_step(run.checkpoint) for run in runs), default=0)
    for run in runs:
        if _next(run).exists():
            forward = _step(run.checkpoint) < _step(_next(run)) == furthest
            _next(run).replace(run.checkpoint) if forward else _next(run).unlink()
    by_step: dict[int, list[Member]] = {}
    for member in members:
        by_step.setdefault(_step(member.run.checkpoint), []).append(member)
    return list(by_step.values())


def part(optimizer: Optimizer, members: Sequence[Optimizer]) -> None:
    """Give the members' optimizers their parts of the state of a stack's, as views."""
    for i, member in enumerate(members):
        for whole, own in zip(_parameters(optimizer), _parameters(member), strict=True):
            state = optimizer.state[whole]
            member.state[own] = {k: v if k == "step" else v[i] for k, v in state.items()}


def unite(optimizer: Optimizer, members: Sequence[Optimizer]) -> None:
    """Give a stack's optimizer the state that its members' have."""
    for whole, *own in zip(_parameters(optimizer), *map(_parameters, members), strict=True):
        states = [member.state[p] for member, p in zip(members, own, strict=True)]
        optimizer.state[whole] = {
            # Fused Adam walks a weight and its moments as flat memory: in one format.
            key: value
            if key == "step"
            else torch.empty_like(whole).copy_(torch.stack([state[key] for state in states]))
            for key, value in states[0].items()
        }


def tell(source: nn.Module, *others: nn.Module) -> None:
    """Let modules know what another keeps beside its tensors, such as its count of steps."""
    extra = {k: v for k, v in source.state_dict().items() if k.endswith("_extra_state")}
    for other in others:
        other.load_state_dict(extra, strict=False)


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return list(chain.from_iterable(group["params"] for group in optimizer.param_groups))


def _next(run: Run) -> Path:
    return run.checkpoint.with_name("next.safetensors")


def _step(checkpoint: Path) -> int:
    """Return the step of a checkpoint, 0 where there is none."""
    if not checkpoint.exists():
        return 0
    step: int = load_tensors(checkpoint)[1]["state"]["step"]
    return step
