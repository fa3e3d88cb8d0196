r"""The path of several seeds: what every rank costs, with its interval, and how sure the knee is.

Each seed has weights, batches and held-out samples of its own, and ends where its path alone
(:mod:`lorae.frontier`) would end, to rounding. The descents share their schedule, so all members
have the same rank at every stop, and the trainings between two stops are steps of one stack
(:mod:`lorae.stacking`). At a stop each member is reduced by itself, and a new stack is made.

The interval is Student's, over seeds: it holds what comes of the start, of the order of the samples
and of which were held out.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lorae import memory
from lorae.autoencoder import Autoencoder, clone
from lorae.choice import knee, warn_if_idle
from lorae.coordinates import reduced
from lorae.drawing import Curve, drawing
from lorae.errors import Diverged, InputError
from lorae.frontier import RankPath, beginning, checked_stops, stage_of
from lorae.intervals import Interval
from lorae.objectives import AE, Objective
from lorae.options import in_range
from lorae.reduction import Point, Trainer, descending
from lorae.stacking import Stack
from lorae.stepping import LOG_EVERY, adam
from lorae.totals import Totals


@dataclass(frozen=True)
class SeededPath:
    """The paths of several seeds down the same ranks.

    Args:
        seeds: of the paths, in order.
        paths: one for each; the seconds of their points are those of all together.
        seconds: of all.
    """

    seeds: tuple[int, ...]
    paths: tuple[RankPath, ...]
    seconds: float

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks of the points, descending."""
        return tuple(point.rank for point in self.paths[0].points)

    @property
    def errors(self) -> tuple[Interval, ...]:
        """The held-out error of every rank."""
        columns = zip(*(path.points for path in self.paths), strict=True)
        return tuple(Interval(tuple(point.error for point in column)) for column in columns)

    @property
    def knees(self) -> Interval:
        """The rank at the knee of each seed's path."""
        return Interval(tuple(float(path.knee.rank) for path in self.paths))

    @property
    def knee(self) -> int:
        """The rank at the knee of the mean errors."""
        return self.ranks[knee(self.ranks, [error.mean for error in self.errors])]

    def about(self) -> dict[str, Any]:
        """Return the figures, as values that JSON can hold."""
        return {
            "seeds": list(self.seeds),
            "ranks": list(self.ranks),
            "errors": [_told(error) for error in self.errors],
            "knee": self.knee,
            "knees": _told(self.knees),
            "paths": [path.about() for path in self.paths],
            "seconds": round(self.seconds, 1),
        }

    def table(self) -> str:
        """Return the ranks as lines of text, the knees marked."""
        at = Counter(path.knee.rank for path in self.paths)
        rows = ["rank  held-out error"]
        for rank, error in zip(self.ranks, self.errors, strict=True):
            half = "" if error.half_width is None else f" ± {error.half_width:.1g}"
            mark = f"  <- knee of {at[rank]} of {len(self.seeds)} seeds" if at[rank] else ""
            rows.append(f"{rank:4}  {error.mean:.6f}{half}{mark}")
        rows.append(
            f"{self.seconds:.0f} s; knee {self.knee} of the mean, {self.knees} of the seeds; "
            "errors are mean\nsquares in scaled units over held-out samples, mean over "
            f"{len(self.seeds)} seeds with its 95% interval"
        )
        return "\n".join(rows)

    def picture(self) -> bytes:
        """Return rank against held-out error with its interval as an SVG file, the knee ringed."""
        means = [error.mean for error in self.errors]
        # On a logarithmic axis a band ends at zero where it would go below.
        margin = [min(e.half_width or 0.0, 0.999 * e.mean) for e in self.errors]
        return drawing(
            [Curve(f"mean of {len(self.seeds)} seeds, 95%", self.ranks, means, margin=margin)],
            "What a rank costs",
            ("rank (codes of the model)", "held-out mean squared error"),
            log="xy",
            points=True,
            mark=(self.knee, means[self.ranks.index(self.knee)], f"knee: {self.knee}"),
        )


def lorae_paths(
    X: Any,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    ranks: Sequence[int] | None = None,
    latent: int | None = None,
    width: float = 1.0,
    steps: int | None = None,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    validation_fraction: float = 0.1,
    standardize: bool = True,
    image_shape: tuple[int, ...] | None = None,
    device: str = "auto",
) -> SeededPath:
    """Return the paths of several seeds, trained together, with intervals over them.

    There are no `weights` here: along them every seed reaches ranks of its own, of which there is
    no mean.

    Args:
        X: samples, as :class:`lorae.LowRankAutoencoder` takes them.
        seeds: of weights, batches and what is held out; at least one, none twice.
        ranks: as all further arguments, those of :func:`lorae.frontier.lorae_path`.
        latent: see there.
        width: see there.
        steps: see there.
        batch_size: see there.
        learning_rate: see there.
        validation_fraction: see there.
        standardize: see there.
        image_shape: see there.
        device: see there.

    Raises:
        InputError: if an argument or the samples are unfit.
        Diverged: if the loss of a seed is not finite.

    Warns:
        ConvergenceWarning: for each seed that learns next to nothing without constraint.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> path = lorae_paths(load_iris().data, seeds=(0, 1), ranks=[2, 1], steps=60)
        >>> path.ranks, len(path.errors[0].values)
        ((4, 2, 1), 2)
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds must name at least one, and none twice, got {list(seeds)}")
    for seed in seeds:
        in_range("seed", seed, 0, 2**31 - 1)
    start = beginning(
        X,
        latent=latent,
        width=width,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        validation_fraction=validation_fraction,
        standardize=standardize,
        image_shape=image_shape,
        device=device,
    )
    began = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        trainers, models = zip(*map(start.at, seeds), strict=True)
        stops = checked_stops(models[0].bridge.latent, ranks, None)
        steps = start.steps_of(trainers[0])
        train(trainers, [AE(model) for model in models], steps)
        for trainer, model in zip(trainers, models, strict=True):
            warn_if_idle(trainer, model)
        single = time.perf_counter() - began
        stages = list(walks(trainers, models, stage_of(steps), stops))
    paths = (
        RankPath(points, trainer.mean_error(model), single)
        for trainer, model, points in zip(trainers, models, zip(*stages, strict=True), strict=True)
    )
    return SeededPath(tuple(seeds), tuple(paths), time.perf_counter() - began)


def walks(
    trainers: Sequence[Trainer],
    models: Sequence[Autoencoder],
    steps: int,
    ranks: Sequence[int],
) -> Iterator[list[Point]]:
    """Yield the points of all members at every stop, as :func:`lorae.reduction.walk` does of one.

    Args:
        trainers: one for each member, with held-out samples.
        models: trained without constraint, of one architecture; they are not changed.
        steps: of each stage.
        ranks: to reach, descending.
    """
    weights = [0.0] * len(models)
    yield [t.judged(m, w) for t, m, w in zip(trainers, models, weights, strict=True)]
    down = descending(steps)
    for rank in ranks:
        descents = [t.descent(m, rank, down) for t, m in zip(trainers, models, strict=True)]
        train(trainers, descents, down)
        models = [clone(reduced(one.model, one.rank)) for one in descents]
        train(trainers, [AE(model) for model in models], max(1, steps - down))
        weights = [one.applied for one in descents]
        yield [t.judged(m, w) for t, m, w in zip(trainers, models, weights, strict=True)]


def train(trainers: Sequence[Trainer], objectives: Sequence[Objective], steps: int) -> None:
    """Train several objectives as one stack, as :meth:`Trainer.run` does one.

    Raises:
        Diverged: if the loss or a weight of one is not finite.
    """
    first = trainers[0]
    assert first.options.learning_rate is not None
    for objective in objectives:
        objective.train()
    # None of these objectives draws a random number, so what the generators hold is all the same.
    stack = Stack(objectives, [torch.Generator(first.fabric.device) for _ in trainers])
    optimizer, totals = adam(stack.together, first.options), Totals()
    with memory.kept():
        for k in range(steps):
            totals.add(stack.backward(torch.stack([t.sampler.batch(t.step) for t in trainers])))
            optimizer.step()
            for trainer, objective in zip(trainers, objectives, strict=True):
                objective.after_step(first.options.learning_rate)
                trainer.step += 1
            if k + 1 == steps or (k + 1) % LOG_EVERY == 0:
                _check(trainers, totals)
    for trainer, objective in zip(trainers, objectives, strict=True):
        objective.settle()
        objective.eval()
        if not all(bool(torch.isfinite(p).all()) for p in objective.parameters()):
            raise _diverged("a weight", trainer)


def _check(trainers: Sequence[Trainer], totals: Totals) -> None:
    finite = torch.stack(list(totals.sums.values())).isfinite().all(0).tolist()
    for trainer, well in zip(trainers, finite, strict=True):
        if not well:
            raise _diverged("the loss", trainer)


def _diverged(what: str, trainer: Trainer) -> Diverged:
    return Diverged(
        f"{what} of seed {trainer.options.seed} is no longer finite at step {trainer.step}: try a "
        f"learning_rate below {trainer.options.learning_rate:g}"
    )


def _told(interval: Interval) -> dict[str, Any]:
    return {
        "mean": interval.mean,
        "half_width": interval.half_width,
        "values": list(interval.values),
    }
