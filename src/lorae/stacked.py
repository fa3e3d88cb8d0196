"""Several trainings as one: a sweep over seeds and weights, each of which leaves its run folder.

Every member has the weights, the order of samples and the random numbers that it would have had by
itself, so that it ends as it would have ended by itself, to rounding. The members share the steps
of :mod:`lorae.stacking`, one checkpoint and one clock::

    out/NAME/            a run folder for each member, as `lorae.train` leaves it
    out/.stack/          options of all members, and the state to go on from

A member that diverges is left out, and the others go on.
"""

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from lorae.autoencoder import Autoencoder, build, clone
from lorae.checkpoints import Stateful, load_checkpoint, save_checkpoint
from lorae.data import Data
from lorae.display import Display
from lorae.errors import Diverged, InputError, Interrupted
from lorae.evaluation import evaluate
from lorae.files import read_json, write_json
from lorae.interrupts import Interrupts
from lorae.machines import fabric_for
from lorae.methods import method
from lorae.objectives import Objective
from lorae.options import Options
from lorae.runs import Run
from lorae.sampler import Sampler, drawn
from lorae.stacking import APART, Stack, joined
from lorae.stepping import LOG_EVERY, follow
from lorae.totals import Totals
from lorae.training import about, figures

_OWN = ("seed", "weight")  # the options in which members may differ


def grid(
    options: Options, seeds: Sequence[int] = (), weights: Sequence[float] = ()
) -> dict[str, Options]:
    """Return the options of a sweep by the names of their runs: every weight with every seed.

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
                raise InputError(f"a sweep must name each seed and weight once, got {name} twice")
            members[name] = dataclasses.replace(options, seed=seed, weight=weight)
    return members


def train_together(
    members: Mapping[str, Options], out: str | Path, *, resume: bool = False, show: bool = True
) -> list[Run]:
    """Train several models of one architecture together and return their run folders, in order.

    Args:
        members: the options of each by the name of its folder; they may differ in seed and weight.
        out: the folder of the folders, new or, to resume, that of a stopped sweep.
        resume: go on from the last checkpoint of the same options.
        show: draw a progress bar where standard error is a terminal, else print lines to it.

    Raises:
        InputError: if an option, the data or the folder is unfit, or the model cannot be stacked.
        Diverged: if the loss of a member is not finite; the others are whole.
        Interrupted: after Ctrl-C or SIGTERM; the state is saved.

    Example:
        >>> from tempfile import mkdtemp
        >>> members = grid(Options(data="digits", steps=2), seeds=(0, 1))
        >>> [run.last["step"] for run in train_together(members, mkdtemp(), show=False)]
        [2, 2]
    """
    _check(members)
    fabric = fabric_for(next(iter(members.values())))
    if fabric.world_size > 1:
        raise InputError(f"a stack trains in one process, got {fabric.world_size}")
    datas = _loaded(members.values())
    resolved = {name: options.resolved(datas[options.seed]) for name, options in members.items()}
    _check_alike(resolved, datas)
    runs = [Run(Path(out) / name) for name in resolved]
    stack, generators = _built(list(resolved.values()), datas, fabric)
    _claim(Path(out), resolved, datas, resume=resume)
    if all(run.finished for run in runs):
        return runs
    session = _Session(list(resolved.values()), runs, datas, fabric, Stack(stack, generators))
    session.display = Display(Path(out).resolve().name, session.steps, show=show)
    if resume:
        session.restore()
    session.run_to_end()
    return runs


def members_of(out: str | Path) -> dict[str, Options]:
    """Return the options of a sweep that was begun in a folder.

    Raises:
        InputError: if there is none.
    """
    path = _state(Path(out)) / "members.json"
    if not path.is_file():
        raise InputError(f"there is no sweep at {str(out)!r}: it has no folder .stack")
    return {name: Options.from_dict(fields) for name, fields in read_json(path).items()}


def _state(out: Path) -> Path:
    return out / ".stack"  # hidden, so that out/* are the runs


def _check(members: Mapping[str, Options]) -> None:
    """Check what can be checked without the data."""
    if not members:
        raise InputError("a stack needs at least one member, got none")
    for name, options in members.items():
        options.check()
        if not name or name.startswith(".") or Path(name).name != name:
            raise InputError(f"a member's name must be that of a folder, got {name!r}")
        if options.model in APART:
            raise InputError(
                f"{options.model} cannot be stacked ({APART[options.model]}): train its runs one "
                "by one"
            )
        if options.patience is not None:
            raise InputError(
                f"members of a stack stop together: patience must not be given, got "
                f"{options.patience}"
            )


def _loaded(members: Iterable[Options]) -> dict[int, Data]:
    """Return the data by seed, which splits some of them; what is the same is kept once."""
    by_seed: dict[int, Data] = {}
    by_checksum: dict[str, Data] = {}
    for options in members:
        if options.seed not in by_seed:
            data = options.load()
            by_seed[options.seed] = by_checksum.setdefault(data.checksum, data)
    return by_seed


def _check_alike(members: Mapping[str, Options], datas: Mapping[int, Data]) -> None:
    """Refuse members that differ in more than seed and weight."""
    (first, *others) = members.items()
    for name, options in others:
        for field in dataclasses.fields(Options):
            one, other = getattr(first[1], field.name), getattr(options, field.name)
            if field.name not in _OWN and one != other:
                raise InputError(
                    f"members of a stack may differ in {' and '.join(_OWN)} only: {field.name} is "
                    f"{one} in {first[0]} and {other} in {name}"
                )
    kinds = [options.architecture(datas[options.seed]) for options in members.values()]
    if any(kind != kinds[0] for kind in kinds):
        raise InputError("members of a stack must have one architecture, but their data differ")


def _built(
    members: Sequence[Options], datas: Mapping[int, Data], fabric: Fabric
) -> tuple[list[Objective], list[torch.Generator]]:
    """Return what `lorae.train` would have made of each member, and the state it would be in."""
    objectives, generators = [], []
    for options in members:
        data = datas[options.seed]
        torch.manual_seed(options.seed)
        model = build(options.architecture(data), data.shift, data.scale)
        chosen = method(options.model)
        objective = chosen.objective_for(model, options.weight, **options.settings)
        if options.batch_size < objective.least_batch:
            raise InputError(
                f"batch_size must be at least {objective.least_batch} for {options.model} with "
                f"these settings, got {options.batch_size}"
            )
        generator = torch.Generator(fabric.device).manual_seed(options.seed)
        if fabric.device.type == "cpu":
            generator.set_state(torch.get_rng_state())
        double = options.precision == "64-true"
        objectives.append(objective.to(fabric.device, torch.float64 if double else torch.float32))
        generators.append(generator)
    return objectives, generators


def _claim(
    out: Path, members: Mapping[str, Options], datas: Mapping[int, Data], *, resume: bool
) -> None:
    """Make the folders, or make sure that they are those of the same sweep."""
    if resume:
        begun = list(members_of(out))
        if begun != list(members):
            raise InputError(f"the sweep at {str(out)!r} has other members: {', '.join(begun)}")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"out must be a new or empty folder, {str(out)!r} is neither")
    else:
        fields = {name: dataclasses.asdict(options) for name, options in members.items()}
        write_json(_state(out) / "members.json", fields)
    for name, options in members.items():
        run = Run(out / name)
        told = about(options, datas[options.seed]) | {"stack": {"members": len(members)}}
        run.claim(told, resume=run.exists)


class _Generators:
    """The generators of the members, as a part of a checkpoint."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self.generators = generators

    def state_dict(self) -> dict[str, Tensor]:
        return {str(i): generator.get_state() for i, generator in enumerate(self.generators)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for i, generator in enumerate(self.generators):
            generator.set_state(state[str(i)])


class _Session:
    """One training of all members, from its start or from a checkpoint to its end."""

    display: Display

    def __init__(
        self,
        members: Sequence[Options],
        runs: Sequence[Run],
        datas: Mapping[int, Data],
        fabric: Fabric,
        stack: Stack,
    ) -> None:
        self.options, self.runs, self.fabric, self.stack = members[0], runs, fabric, stack
        assert self.options.steps is not None
        assert self.options.learning_rate is not None
        assert self.options.evaluate_every is not None
        self.steps, self.learning_rate = self.options.steps, self.options.learning_rate
        self.evaluate_every = self.options.evaluate_every
        self.datas = [datas[options.seed] for options in members]
        self.samplers = _samplers(members, self.datas, fabric)
        self.probes = [
            drawn(data.test, options.probe, options.seed)
            for options, data in zip(members, self.datas, strict=True)
        ]
        self.optimizer = torch.optim.Adam(
            stack.together.groups(self.learning_rate),
            weight_decay=self.options.weight_decay,
            fused=True,
        )
        self.models: list[Autoencoder] = [member.model for member in stack.members]
        self.average = None
        if self.options.ema is not None:
            self.models = [clone(model) for model in self.models]
            self.average = joined(self.models)
        self.checkpoint = _state(runs[0].path.parent) / "last.safetensors"
        self.step, self.seconds, self.totals = 0, 0.0, Totals()
        self.lost: dict[int, int] = {}  # the step at which a member had diverged

    def run_to_end(self) -> None:
        """Train from the current state to the end, evaluating and saving on the way."""
        start = time.perf_counter() - self.seconds
        with Interrupts() as interrupts, self.display.opened(self.step):
            while self.step < self.steps:
                self._advance()
                if self.step % self.evaluate_every == 0 or self.step == self.steps:
                    self.seconds = time.perf_counter() - start
                    self._evaluate()
                if interrupts.received and self.step < self.steps:
                    self.seconds = time.perf_counter() - start
                    self._save()
                    out = self.runs[0].path.parent
                    raise Interrupted(out, self.step, interrupts.received, "sweep")
        self._finish()

    def restore(self) -> None:
        """Go back to the last checkpoint, or to the start where none was written yet."""
        if self.checkpoint.exists():
            state = load_checkpoint(self.checkpoint, self._parts(), self.optimizer)
            self.step, self.seconds = state["step"], state["seconds"]
            self.lost = {int(i): step for i, step in state["lost"].items()}
        for i in self._active():
            self.runs[i].rewind_metrics(self.step)

    def _advance(self) -> None:
        if self.options.warmup:
            self.stack.set_strength(min(1.0, self.step / self.options.warmup))
        x = torch.stack([sampler.batch(self.step) for sampler in self.samplers])
        with self.fabric.autocast():
            self.totals.add(self.stack.backward(x))
        if self.options.clip_norm is not None:
            self.stack.clip(self.options.clip_norm)
        self.stack.contain()
        self.optimizer.step()
        self.stack.together.after_step(self.learning_rate)
        if self.average is not None and self.options.ema is not None:
            follow(self.average, self.stack.together.model, self.options.ema)
        self.step += 1
        self.display.advance()
        if self.fabric.device.type == "cpu" or self.step % LOG_EVERY == 0:
            self._check()

    def _check(self) -> None:
        """Note which members have diverged; end if all have."""
        finite = torch.stack(list(self.totals.sums.values())).isfinite().all(0).tolist()
        for i, well in enumerate(finite):
            if not well and i not in self.lost:
                self.lost[i] = self.step
                self.display.warn(f"{self._diverged(i)}; the others go on")
        if len(self.lost) == len(self.runs):
            raise Diverged(self._diverged(0) + ", and so is that of every other")
        if self.step % LOG_EVERY == 0:
            self.display.loss(sum(means["loss"] for means in self._means()) / len(self.runs))

    def _diverged(self, i: int) -> str:
        return (
            f"the loss of {self.runs[i].name} is no longer finite at step {self.lost[i]} (try a "
            f"learning_rate below {self.learning_rate:g} or clip_norm)"
        )

    def _means(self) -> list[dict[str, float]]:
        """Return the mean terms of each member."""
        values = {name: total.tolist() for name, total in self.totals.sums.items()}
        n = self.totals.steps
        each = [{name: row[i] / n for name, row in values.items()} for i in range(len(self.runs))]
        return [{"loss": sum(means.values())} | means for means in each]

    def _active(self) -> list[int]:
        """Return the members that have neither ended nor diverged."""
        runs = enumerate(self.runs)
        return [i for i, run in runs if i not in self.lost and not run.finished]

    def _evaluate(self) -> None:
        """Write a line of metrics for each member, and a checkpoint of all."""
        self.stack.together.settle()
        self._check()
        means, lines = self._means(), []
        self.totals.clear()
        for i in self._active():
            line = self._position() | {"train": means[i]}
            held_out = self.samplers[i].held_out
            if len(held_out):
                error = evaluate(self.models[i], held_out).reconstruction
                line["validation"] = {"samples": len(held_out), "reconstruction": error}
            warnings = self.stack.members[i].warnings(means[i])
            line |= figures(evaluate(self.models[i], self.probes[i]), warnings)
            self.runs[i].append_metrics(line)
            lines.append(line)
        if lines:
            self.display.evaluations(lines)
        self._save()

    def _save(self) -> None:
        state = {"step": self.step, "seconds": self.seconds, "lost": self.lost}
        save_checkpoint(self.checkpoint, self._parts(), self.optimizer, state)

    def _parts(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = {
            "objective": self.stack.together,
            "totals": self.totals,
            "generators": _Generators(self.stack.generators),
        }
        return parts if self.average is None else parts | {"average": self.average}

    def _finish(self) -> None:
        """Evaluate every member on the whole test set, and write it."""
        for i in self._active():
            found = evaluate(self.models[i], self.datas[i].test)
            self.runs[i].append_metrics(self._position() | figures(found, final=True))
            self.models[i].save(self.runs[i].path / "model.safetensors")
        if self.lost:
            whole = f"{len(self.runs) - len(self.lost)} of {len(self.runs)} members are whole"
            raise Diverged("; ".join(map(self._diverged, self.lost)) + f"; {whole}")

    def _position(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "epoch": round(self.step / self.samplers[0].per_epoch, 4),
            "seconds": round(self.seconds, 3),
        }


def _samplers(members: Sequence[Options], datas: Sequence[Data], fabric: Fabric) -> list[Sampler]:
    """Return a sampler for each member; those of the same data share the samples on the device."""
    samplers: list[Sampler] = []
    placed: dict[str, Tensor] = {}
    for options, data in zip(members, datas, strict=True):
        sampler = Sampler(placed.get(data.checksum, data.train), options, fabric)
        placed[data.checksum] = sampler.samples
        samplers.append(sampler)
    return samplers
