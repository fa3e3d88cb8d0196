"""Several trainings as one: a sweep over seeds and weights, each of which leaves its run folder.

Every member has the weights, the order of samples and the random numbers that it would have had by
itself, so that it ends as it would have ended by itself, to rounding, and leaves the same folder.
The members share the steps of :mod:`lorae.stacking` and the clock, of which each has its share::

    out/NAME/                  a run folder for each member, as `lorae.train` leaves it
    out/.stack/members.json    the options of all, to go on with

A member that diverges is left out, and the others go on. Members that have come to different steps,
because one was gone on with by itself, are trained as several stacks.
"""

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lorae import memory, stacking
from lorae.autoencoder import build
from lorae.data import Data
from lorae.display import Display
from lorae.errors import Diverged, InputError, Interrupted
from lorae.evaluation import evaluate
from lorae.files import read_json, write_json
from lorae.interrupts import Interrupts
from lorae.machines import fabric_for
from lorae.members import Member, even, part, tell, unite
from lorae.options import Options
from lorae.runs import Run
from lorae.stacking import APART, OWN, Stack, joined
from lorae.stepping import LOG_EVERY, adam, follow
from lorae.totals import Totals
from lorae.training import about, figures


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
    for name in members:
        if not name or name.startswith(".") or Path(name).name != name:
            raise InputError(f"a member's name must be that of a folder, got {name!r}")
    made = _made({Path(out) / name: options for name, options in members.items()})
    _claim(Path(out), {member.run.name: member.options for member in made}, resume=resume)
    try:
        return _trained(made, Display(Path(out).resolve().name, _steps(made), show=show))
    except Interrupted as stop:
        raise Interrupted(stop.step, stop.signal, f"lorae sweep --resume {out}") from None


def train_alike(trainings: Mapping[Path, Options]) -> list[Run]:
    """Train what may be one stack, each to its own new or stopped run folder, without a word.

    Raises:
        InputError: as :func:`train_together`.
        Diverged: if the loss of a member is not finite; its training alone would say so again.
        Interrupted: after Ctrl-C or SIGTERM; the state of each is saved.
    """
    made = _made(trainings)
    return _trained(made, Display("", _steps(made), show=False))


def pays(options: Options, data: Data, members: int) -> bool:
    """Return whether so many trainings like one are quicker as a stack than each by itself.

    On a CPU that takes small networks, and a few of them (:func:`lorae.stacking.pays`).
    """
    fabric = fabric_for(options)
    if fabric.world_size > 1:
        return False
    with torch.random.fork_rng(devices=[]):
        model = build(options.resolved(data).architecture(data), data.shift, data.scale)
    return stacking.pays(model.to(fabric.device), members)


def members_of(out: str | Path) -> dict[str, Options]:
    """Return the options of a sweep that was begun in a folder.

    Raises:
        InputError: if there is none.
    """
    path = _list_of(Path(out))
    if not path.is_file():
        raise InputError(f"there is no sweep at {str(out)!r}: it has no folder .stack")
    return {name: Options.from_dict(fields) for name, fields in read_json(path).items()}


def _list_of(out: Path) -> Path:
    return out / ".stack" / "members.json"  # hidden, so that out/* are the runs


def _made(trainings: Mapping[Path, Options]) -> list[Member]:
    """Return the members by the folders they are to have, checked; nothing is written yet."""
    if not trainings:
        raise InputError("a stack needs at least one member, got none")
    for options in trainings.values():
        options.check()
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
    fabric = fabric_for(next(iter(trainings.values())))
    if fabric.world_size > 1:
        raise InputError(f"a stack trains in one process, got {fabric.world_size}")
    datas = _loaded(trainings.values())
    resolved = {path: options.resolved(datas[options.seed]) for path, options in trainings.items()}
    _check_alike({path.name: options for path, options in resolved.items()}, datas)
    members: list[Member] = []
    placed: dict[str, Tensor] = {}
    for path, options in resolved.items():
        data = datas[options.seed]
        members.append(Member(options, Run(path), data, fabric, placed.get(data.checksum)))
        placed[data.checksum] = members[-1].sampler.samples
    return members


def _steps(members: Sequence[Member]) -> int:
    steps = members[0].options.steps
    assert steps is not None
    return steps


def _trained(members: Sequence[Member], display: Display) -> list[Run]:
    """Train members to the end, and return their folders.

    Raises:
        Diverged: if any of them has.
    """
    for member in members:
        member.run.claim(about(member.options, member.data), resume=member.run.exists)
    lost: list[str] = []
    for group in even([member for member in members if not member.run.finished]):
        session = _Session(group, display)
        session.run_to_end()
        lost += session.lost.values()
    if lost:
        whole = f"{len(members) - len(lost)} of {len(members)} members are whole"
        raise Diverged("; ".join([*lost, whole]))
    return [member.run for member in members]


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
            if field.name not in OWN and one != other:
                raise InputError(
                    f"members of a stack may differ in {' and '.join(OWN)} only: {field.name} is "
                    f"{one} in {first[0]} and {other} in {name}"
                )
    kinds = [options.architecture(datas[options.seed]) for options in members.values()]
    if any(kind != kinds[0] for kind in kinds):
        raise InputError("members of a stack must have one architecture, but their data differ")


def _claim(out: Path, members: Mapping[str, Options], *, resume: bool) -> None:
    """Make the folder of the folders, or make sure that it is that of the same sweep."""
    if resume:
        begun = list(members_of(out))
        if begun != list(members):
            raise InputError(f"the sweep at {str(out)!r} has other members: {', '.join(begun)}")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"out must be a new or empty folder, {str(out)!r} is neither")
    else:
        fields = {name: dataclasses.asdict(options) for name, options in members.items()}
        write_json(_list_of(out), fields)


class _Session:
    """One training of members that are at the same step, from there to its end."""

    def __init__(self, members: Sequence[Member], display: Display) -> None:
        self.members, self.display = members, display
        self.options, self.fabric = members[0].options, members[0].fabric
        assert self.options.learning_rate is not None
        assert self.options.evaluate_every is not None
        self.steps, self.evaluate_every = _steps(members), self.options.evaluate_every
        self.learning_rate = self.options.learning_rate
        self.stack = Stack([m.objective for m in members], [m.generator for m in members])
        self.optimizer = adam(self.stack.together, self.options)
        averages = [m.average for m in members if m.average is not None]
        self.average = joined(averages) if averages else None
        self.totals = Totals()
        self.lost: dict[int, str] = {}  # what is to be said of the members that have diverged
        for member in members:
            member.joined()
            member.restore()
        self.step = members[0].state.step
        if self.step:
            self._gather()
        self.since = time.perf_counter()

    def run_to_end(self) -> None:
        """Train from the current state to the end, evaluating and saving on the way."""
        with Interrupts() as interrupts, self.display.opened(self.step), memory.kept():
            while self.step < self.steps and len(self.lost) < len(self.members):
                self._advance()
                if self.step % self.evaluate_every == 0 or self.step == self.steps:
                    self._evaluate()
                if interrupts.received and self.step < self.steps:
                    self._save()
                    raise Interrupted(self.step, interrupts.received, "the same command")
        self._finish()

    @property
    def well(self) -> list[tuple[int, Member]]:
        """The members that have not diverged, and their numbers."""
        return [(i, member) for i, member in enumerate(self.members) if i not in self.lost]

    def _advance(self) -> None:
        if self.options.warmup:
            self.stack.set_strength(min(1.0, self.step / self.options.warmup))
        x = torch.stack([member.sampler.batch(self.step) for member in self.members])
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
        """Note which members have diverged."""
        finite = torch.stack(list(self.totals.sums.values())).isfinite().all(0).tolist()
        for i, _ in self.well:
            if not finite[i]:
                self._lose(i, "the loss")
        if self.step % LOG_EVERY == 0:
            self._deal()
            means = [member.totals.means()["loss"] for _, member in self.well]
            if means:
                self.display.loss(sum(means) / len(means))

    def _lose(self, i: int, what: str) -> None:
        self.lost[i] = (
            f"{what} of {self.members[i].run.name} is no longer finite at step {self.step} (try a "
            f"learning_rate below {self.learning_rate:g} or clip_norm)"
        )
        self.display.warn(f"{self.lost[i]}; the others go on")

    def _evaluate(self) -> None:
        """Write a line of metrics and a checkpoint for each member."""
        self.stack.together.settle()
        self._check()
        self._clock()
        self._deal()
        self.totals.clear()
        lines = []
        for _, member in self.well:
            means = member.totals.means()
            line = self._position(member) | {"train": means}
            held_out = member.sampler.held_out
            if len(held_out):
                error = evaluate(member.model, held_out).reconstruction
                assert error is not None
                line["validation"] = {"samples": len(held_out), "reconstruction": error}
                member.state.judge(error)
            warnings = member.objective.warnings(means)
            line |= figures(evaluate(member.model, member.probe), warnings)
            member.run.append_metrics(line)
            lines.append(line)
        if lines:
            self.display.evaluations(lines)
        self._save()

    def _save(self) -> None:
        """Write a checkpoint of each member, unless a weight of it is not finite."""
        self._clock()
        self._deal()
        part(self.optimizer, [member.own for member in self.members])
        tell(self.stack.together, *self.stack.members)
        for i, member in self.well:
            if not member.finite:
                self._lose(i, "a weight")
        for _, member in self.well:
            member.save()
        for _, member in self.well:
            member.commit()

    def _gather(self) -> None:
        """Take up what the members were restored to."""
        unite(self.optimizer, [member.own for member in self.members])
        tell(self.stack.members[0], self.stack.together)
        sums = [member.totals.sums for member in self.members]
        device = self.fabric.device
        self.totals.sums = {k: torch.stack([s[k] for s in sums]).to(device) for k in sums[0]}
        self.totals.steps = self.members[0].totals.steps

    def _deal(self) -> None:
        """Give each member its sums of the loss."""
        for i, member in enumerate(self.members):
            sums = {name: total[i] for name, total in self.totals.sums.items()}
            member.totals.sums, member.totals.steps = sums, self.totals.steps

    def _clock(self) -> None:
        """Give each member its position, and its share of the time."""
        now = time.perf_counter()
        for member in self.members:
            member.state.step = self.step
            member.state.seconds += (now - self.since) / len(self.members)
        self.since = now

    def _finish(self) -> None:
        """Evaluate every member on the whole test set, and write it."""
        for _, member in self.well:
            found = evaluate(member.model, member.data.test)
            member.run.append_metrics(self._position(member) | figures(found, final=True))
            member.model.save(member.run.path / "model.safetensors")

    def _position(self, member: Member) -> dict[str, float]:
        return {
            "step": self.step,
            "epoch": round(self.step / member.sampler.per_epoch, 4),
            "seconds": round(member.state.seconds, 3),
        }
