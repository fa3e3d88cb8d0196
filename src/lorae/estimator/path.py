r"""The path: what every rank costs in held-out error, along one warm-started training.

A wide autoencoder is trained once, without constraint. From there the training goes on down the
ranks, or along a sequence of lambda, each model starting from the one before
(:mod:`lorae.estimator.rank_reduction`), so that the whole path takes a small multiple of one training. Each of
its points is a model of an exact rank, with as many codes, that can be used as it is.

The knee is the point that lies furthest below the chord of the path in the logarithms of rank and
error (:func:`lorae.estimator.model_selection.knee`): before it a dimension saves much of the error, after it little.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lorae.errors import InputError
from lorae.estimator.containers import Container, as_training, taken
from lorae.estimator.estimator import LowRankAutoencoder
from lorae.estimator.fitting import fresh_model
from lorae.estimator.model_selection import knee, warn_if_no_better_than_mean
from lorae.estimator.rank_reduction import STAGE, Point, Trainer, ladder, walk
from lorae.estimator.validation import check_arguments
from lorae.nn.autoencoder import Autoencoder
from lorae.objectives.base import AE
from lorae.utils.plots import Curve, plot_curves


@dataclass(frozen=True)
class RankPath:
    """The points of a path, by descending rank, the unconstrained model first.

    Args:
        points: at least one.
        mean_error: held-out error of the mean of the training samples.
        single: seconds of the unconstrained training that the path starts from.
    """

    points: tuple[Point, ...]
    mean_error: float
    single: float

    @property
    def knee(self) -> Point:
        """The point where the error bends most against the rank."""
        return self.points[knee([p.rank for p in self.points], [p.error for p in self.points])]

    @property
    def seconds(self) -> float:
        """Time of the whole path, the first training included."""
        return self.points[-1].seconds

    def about(self) -> dict[str, Any]:
        """Return the figures, as values that JSON can hold."""
        return {
            "points": [point.about() for point in self.points],
            "knee": self.knee.rank,
            "mean_error": self.mean_error,
            "seconds": round(self.seconds, 1),
            "single_training_seconds": round(self.single, 1),
        }

    def table(self) -> str:
        """Return the points as lines of text, the knee marked."""
        with_distance = any(point.distance is not None for point in self.points)
        rows = ["rank       lambda  held-out error" + "    distance" * with_distance]
        for p in self.points:
            distance = "" if p.distance is None else f"{p.distance:12.4g}"
            mark = "  <- knee" if p is self.knee else ""
            error = f"{p.error:.6f} ± {1.96 * p.standard_error:.1g}"
            rows.append(f"{p.rank:4} {p.weight:12.4g}  {error:>14}{distance}{mark}")
        times = self.seconds / max(self.single, 1e-9)
        rows.append(
            f"{self.seconds:.0f} s, {times:.1f} times the training without constraint; errors are "
            "mean squares in\nscaled units over held-out samples, with their 95% interval"
        )
        return "\n".join(rows)

    def picture(self) -> bytes:
        """Return rank against held-out error as an SVG file, the knee circled."""
        knee = self.knee
        curve = Curve(
            "models",
            [point.rank for point in self.points],
            [point.error for point in self.points],
            mark=(knee.rank, knee.error, f"knee: {knee.rank}"),
        )
        return plot_curves(
            [curve],
            ("rank (codes of the model)", "held-out mean squared error"),
            title="Error against rank",
            log="xy",
            markers=True,
        )


def lorae_path(
    X: Any,
    *,
    ranks: Sequence[int] | None = None,
    weights: Sequence[float] | None = None,
    latent: int | None = None,
    width: float = 1.0,
    steps: int | None = None,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    validation_fraction: float = 0.1,
    standardize: bool = True,
    image_shape: tuple[int, ...] | None = None,
    distance: Callable[[Autoencoder], float] | None = None,
    device: str = "auto",
    random_state: int = 0,
) -> RankPath:
    """Train once, go on down the ranks, and return every model on the way.

    Args:
        X: samples, as :class:`lorae.LowRankAutoencoder` takes them.
        ranks: to stop at, descending and below the latent size; by default each about a fifth
            less than the one before, down to 1.
        weights: instead of ranks, the lambda of each stage, in units in which singular values go
            down by lambda times the learning rate a step; what rank they reach, they reach.
        latent: latent size to come down from; by default 64, or the number of values of a sample
            where that is less.
        width: factor on the hidden widths of the networks.
        steps: of the first training; by default 100 passes, within 300 and 10,000. Each stage
            takes a twelfth of them.
        batch_size: samples in a step, at most.
        learning_rate: step size of Adam.
        validation_fraction: share of the samples that is held out for the errors, above 0 and at
            most 0.5.
        standardize: whether columns of vectors are scaled to variance 1.
        image_shape: shape of the images that flat samples are.
        distance: of what a model generates to real samples, kept with each point; takes time.
        device: auto, cpu, cuda or mps.
        random_state: seed of weights, batches and what is held out.

    Raises:
        InputError: if an argument or the samples are unfit.
        Diverged: if the loss is not finite.

    Warns:
        ConvergenceWarning: if the first training explains less than a hundredth of the variance
            of held-out samples.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> path = lorae_path(load_iris().data, ranks=[2, 1], steps=60)
        >>> [point.rank for point in path.points]
        [4, 2, 1]
    """
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
    with torch.random.fork_rng(devices=[]):
        trainer, model = start.at(random_state)
        stops = checked_stops(model.bridge.latent, ranks, weights)
        steps = start.steps_of(trainer)
        trainer.run("training", AE(model), steps)
        single = trainer.seconds
        warn_if_no_better_than_mean(trainer, model)
        points = []
        for point in walk(trainer, model, stage_of(steps), ranks=stops, weights=weights):
            found = None if distance is None else distance(point.model)
            points.append(replace(point, distance=found))
    return RankPath(tuple(points), trainer.mean_error(model), single)


@dataclass(frozen=True)
class Beginning:
    """What the paths of all seeds begin with."""

    samples: Tensor
    container: Container
    batch_size: int
    learning_rate: float
    held_out: int
    latent: int
    width: float
    steps: int | None
    standardize: bool
    device: str

    def at(self, seed: int) -> tuple[Trainer, Autoencoder]:
        """Return the trainer and the fresh model of a seed, which torch's generator then has."""
        trainer = Trainer(
            self.samples,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            held_out=self.held_out,
            seed=seed,
            device=self.device,
        )
        torch.manual_seed(seed)
        model = fresh_model(
            trainer.training_samples.cpu(),
            self.container,
            self.latent,
            width=self.width,
            standardize=self.standardize,
        )
        return trainer, model.to(trainer.fabric.device)

    def steps_of(self, trainer: Trainer) -> int:
        """Return the steps of the first training."""
        return self.steps or min(max(100 * trainer.sampler.per_epoch, 300), 10_000)


def beginning(
    X: Any,
    *,
    latent: int | None,
    width: float,
    steps: int | None,
    batch_size: int,
    learning_rate: float,
    validation_fraction: float,
    standardize: bool,
    image_shape: tuple[int, ...] | None,
    device: str,
) -> Beginning:
    """Return what a path begins with, checked; see :func:`lorae_path`.

    Raises:
        InputError: if an argument or the samples are unfit.
    """
    judge = LowRankAutoencoder(latent=latent, width=width, steps=steps, batch_size=batch_size)
    judge.set_params(learning_rate=learning_rate, validation_fraction=validation_fraction)
    samples, container = taken(judge, X, image_shape, reset=True)
    check_arguments(judge.get_params(deep=False), len(samples), container.values)
    samples = as_training(samples)
    share = max(validation_fraction, 2 / len(samples))
    return Beginning(
        samples,
        container,
        batch_size,
        learning_rate,
        round(share * len(samples)),
        latent or 64,
        width,
        steps,
        standardize,
        device,
    )


def stage_of(steps: int) -> int:
    """Return the steps of a stage after a first training of so many."""
    return max(1, round(STAGE * steps))


def checked_stops(
    latent: int, ranks: Sequence[int] | None, weights: Sequence[float] | None
) -> Sequence[int]:
    """Return the ranks to stop at, checked.

    Raises:
        InputError: if there are both ranks and weights, or they are out of order or range.
    """
    if ranks is not None and weights is not None:
        raise InputError("give ranks or weights, not both")
    if weights is not None:
        if not weights or any(not weight > 0 for weight in weights):
            raise InputError(f"weights must be positive numbers, got {list(weights)}")
        return ()
    if ranks is None:
        return ladder(latent)
    falling = all(a > b for a, b in zip([latent, *ranks], ranks, strict=False))
    if not ranks or not falling or ranks[-1] < 1:
        raise InputError(
            f"ranks must fall from below the latent size, {latent}, to 1 at least, got "
            f"{list(ranks)}"
        )
    return ranks
