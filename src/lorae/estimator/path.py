r"""The path over ranks: the held-out error of every rank, from one warm-started training.

A wide autoencoder is trained once without constraint. From there training continues down the ranks,
or along a sequence of lambda, and each model starts from the one before
(:mod:`lorae.estimator.rank_reduction`), so that a path takes a small multiple of the time of one
training. Each of its points is a model with exactly as many codes as its rank, ready to use.

The knee is the point furthest below the chord of the path in the logarithms of rank and error
(:func:`lorae.estimator.model_selection.knee`): up to it another dimension lowers the error a lot,
beyond it only a little.

Paths of several seeds differ in initial weights, batches and held-out samples. Their errors and
knees have Student's 95% intervals over the seeds.
"""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import joblib
import torch

from lorae.errors import InputError
from lorae.estimator.inputs import read_samples, to_training_dtype
from lorae.estimator.model_selection import knee, warn_if_no_better_than_mean
from lorae.estimator.networks import build_model
from lorae.estimator.rank_reduction import STAGE, Point, Trainer, ladder, walk
from lorae.estimator.validation import check_training
from lorae.nn.autoencoder import Autoencoder
from lorae.objectives.base import AE
from lorae.utils.intervals import Interval
from lorae.utils.plots import Curve, plot_curves
from lorae.utils.text import format_table
from lorae.utils.validation import check_range


@dataclass(frozen=True)
class RankPath:
    """The points of a path by descending rank; the first is the unconstrained model.

    Args:
        points: at least one.
        mean_error: held-out error of the mean of the training samples.
        training_seconds: time of the unconstrained training.
    """

    points: tuple[Point, ...]
    mean_error: float
    training_seconds: float

    @property
    def knee(self) -> Point:
        """The point at the knee."""
        return self.points[knee([p.rank for p in self.points], [p.error for p in self.points])]

    @property
    def seconds(self) -> float:
        """Time of the whole path, including the unconstrained training."""
        return self.points[-1].seconds

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as values that JSON can hold."""
        return {
            "points": [point.to_dict() for point in self.points],
            "knee": self.knee.rank,
            "mean_error": self.mean_error,
            "seconds": round(self.seconds, 1),
            "single_training_seconds": round(self.training_seconds, 1),
        }

    def table(self) -> str:
        """Return the points as lines of text, with the knee marked."""
        has_distance = any(point.distance is not None for point in self.points)
        rows = []
        for p in self.points:
            distance = [] if p.distance is None else [f"{p.distance:.4g}"]
            mark = "<- knee" if p is self.knee else ""
            error = f"{p.error:.6f} ± {1.96 * p.standard_error:.1g}"
            rows.append([p.rank, f"{p.weight:.4g}", error, *distance, mark])
        header = ["rank", "lambda", "held-out error", *["distance"] * has_distance, ""]
        ratio = self.seconds / max(self.training_seconds, 1e-9)
        return (
            f"{format_table(rows, header, align='r')}\n"
            f"{self.seconds:.0f} s, {ratio:.1f} times the training without constraint; errors are "
            "mean squares in\nscaled units over held-out samples, with 95% intervals"
        )

    def plot(self) -> bytes:
        """Return a plot of held-out error against rank, with the knee circled, as an SVG file."""
        ranks, errors = [p.rank for p in self.points], [p.error for p in self.points]
        return _plot("models", ranks, errors, self.knee.rank)


@dataclass(frozen=True)
class SeededPath:
    """Paths of several seeds down the same ranks.

    Args:
        seeds: the seeds.
        paths: the path of each seed.
        seconds: time of all paths.
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
        """The held-out error at each rank."""
        columns = zip(*(path.points for path in self.paths), strict=True)
        return tuple(Interval(tuple(point.error for point in column)) for column in columns)

    @property
    def knees(self) -> Interval:
        """The rank at the knee of the path of each seed."""
        return Interval(tuple(float(path.knee.rank) for path in self.paths))

    @property
    def knee(self) -> int:
        """The rank at the knee of the mean errors."""
        return self.ranks[knee(self.ranks, [error.mean for error in self.errors])]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as values that JSON can hold."""
        return {
            "seeds": list(self.seeds),
            "ranks": list(self.ranks),
            "errors": [error.to_dict() for error in self.errors],
            "knee": self.knee,
            "knees": self.knees.to_dict(),
            "paths": [path.to_dict() for path in self.paths],
            "seconds": round(self.seconds, 1),
        }

    def table(self) -> str:
        """Return the ranks as lines of text, with the knees marked."""
        count, rows = Counter(path.knee.rank for path in self.paths), []
        for rank, error in zip(self.ranks, self.errors, strict=True):
            half = "" if error.half_width is None else f" ± {error.half_width:.1g}"
            mark = f"<- knee of {count[rank]} of {len(self.seeds)} seeds" if count[rank] else ""
            rows.append((rank, f"{error.mean:.6f}{half}", mark))
        return (
            f"{format_table(rows, ('rank', 'held-out error', ''), align='rrl')}\n"
            f"{self.seconds:.0f} s; knee {self.knee} of the mean, {self.knees} of the seeds; "
            "errors are mean\nsquares in scaled units over held-out samples, mean over "
            f"{len(self.seeds)} seeds with its 95% interval"
        )

    def plot(self) -> bytes:
        """Return a plot of mean held-out error against rank, with its interval, as an SVG file."""
        means = [error.mean for error in self.errors]
        # On a logarithmic axis a band that would reach below zero ends just above it.
        margin = [min(e.half_width or 0.0, 0.999 * e.mean) for e in self.errors]
        return _plot(f"mean of {len(self.seeds)} seeds, 95%", self.ranks, means, self.knee, margin)


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
    """Train once without constraint, continue down the ranks, and return the model of each.

    Args:
        X: samples, as for :class:`lorae.LowRankAutoencoder`.
        ranks: descending, below the latent size; by default each is about a fifth less than the
            one before, down to 1.
        weights: instead of ranks, the lambda of each stage; a step of the optimizer lowers singular
            values by lambda times the learning rate. The ranks then follow from training.
        latent: number of codes of the unconstrained model; by default 64, or the number of values
            of a sample if that is less.
        width: factor on the hidden widths of the networks.
        steps: optimizer steps of the unconstrained training; by default 100 passes over the
            samples, within 300 and 10,000 steps. Each stage takes a twelfth of them.
        batch_size: samples in a step, at most.
        learning_rate: step size of Adam.
        validation_fraction: share of the samples that is held out for the errors, above 0 and at
            most 0.5.
        standardize: whether columns of vectors are scaled to variance 1.
        image_shape: shape of the images that flat samples are.
        distance: a distance between generated and real samples, stored with each point.
        device: auto, cpu, cuda or mps.
        random_state: seed of weights, batches and held-out samples.

    Raises:
        InputError: if an argument or the samples are invalid.
        Diverged: if the loss is not finite.

    Warns:
        ConvergenceWarning: if the unconstrained model explains less than a hundredth of the
            variance of held-out samples.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> path = lorae_path(load_iris().data, ranks=[2, 1], steps=60)
        >>> [point.rank for point in path.points]
        [4, 2, 1]
    """
    array, input_format = read_samples(X, image_shape)
    check_training(
        {
            "latent": latent,
            "steps": steps,
            "batch_size": batch_size,
            "width": width,
            "learning_rate": learning_rate,
            "validation_fraction": validation_fraction,
        },
        len(array),
    )
    trainer = Trainer(
        to_training_dtype(input_format.to_tensor(array)),
        batch_size=batch_size,
        learning_rate=learning_rate,
        held_out=round(max(validation_fraction, 2 / len(array)) * len(array)),
        seed=random_state,
        device=device,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_state)
        samples = trainer.training_samples.cpu()
        model = build_model(
            samples, input_format, latent or 64, width=width, standardize=standardize
        ).to(trainer.fabric.device)
        ranks = _check_stages(model.bridge.latent, ranks, weights)
        steps = steps or trainer.default_steps
        trainer.run("training", AE(model), steps)
        training_seconds = trainer.seconds
        warn_if_no_better_than_mean(trainer, model)
        stage = max(1, round(STAGE * steps))
        points = tuple(
            point if distance is None else replace(point, distance=distance(point.model))
            for point in walk(trainer, model, stage, ranks=ranks, weights=weights)
        )
    return RankPath(points, trainer.mean_error(model), training_seconds)


def lorae_paths(
    X: Any, *, seeds: Sequence[int] = (0, 1, 2), n_jobs: int | None = None, **options: Any
) -> SeededPath:
    """Return the paths of several seeds, with intervals over them.

    Args:
        X: samples, as for :class:`lorae.LowRankAutoencoder`.
        seeds: seeds of weights, batches and held-out samples; at least one, and all distinct.
        n_jobs: number of processes, each with one thread; -1 for one on every core. The result
            does not depend on it. By default the paths are computed one after the other in this
            process, with all its threads.
        options: keyword arguments of :func:`lorae_path`, except `random_state`, and `weights`,
            along which every seed reaches ranks of its own.

    Raises:
        InputError: if an argument or the samples are invalid.
        Diverged: if the loss of a seed is not finite.

    Warns:
        ConvergenceWarning: for each seed, as :func:`lorae_path`.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> path = lorae_paths(load_iris().data, seeds=(0, 1), ranks=[2, 1], steps=60)
        >>> path.ranks, len(path.errors[0].values)
        ((4, 2, 1), 2)
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds must be at least one and all distinct, got {list(seeds)}")
    for seed in seeds:
        check_range("seed", seed, 0, 2**31 - 1)
    for name in ("weights", "random_state"):
        if options.get(name) is not None:
            raise InputError(f"{name} must not be given to lorae_paths, got {options[name]}")
    start = time.perf_counter()
    if n_jobs is None:
        paths = [lorae_path(X, random_state=seed, **options) for seed in seeds]
    else:
        run = joblib.Parallel(n_jobs=n_jobs, backend="loky")
        found = run(joblib.delayed(_path_in_process)(X, seed, options) for seed in seeds)
        paths = [path for path, _ in found]
        for warning in (one for _, caught in found for one in caught):
            warnings.warn(warning, stacklevel=2)
    return SeededPath(tuple(seeds), tuple(paths), time.perf_counter() - start)


def _path_in_process(
    X: Any, seed: int, options: dict[str, Any]
) -> tuple[RankPath, list[Warning | str]]:
    """Return the path of a seed, computed with one thread, and the warnings on the way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            path = lorae_path(X, random_state=seed, **options)
    finally:
        torch.set_num_threads(threads)
    return path, [one.message for one in caught]


def _check_stages(
    latent: int, ranks: Sequence[int] | None, weights: Sequence[float] | None
) -> Sequence[int]:
    """Return the ranks of the stages, if they are not determined by weights.

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


def _plot(
    label: str,
    ranks: Sequence[int],
    errors: Sequence[float],
    knee: int,
    margin: Sequence[float] = (),
) -> bytes:
    mark = (knee, errors[list(ranks).index(knee)], f"knee: {knee}")
    return plot_curves(
        [Curve(label, ranks, errors, margin=margin, mark=mark)],
        ("rank (codes of the model)", "held-out mean squared error"),
        title="Error against rank",
        log="xy",
        markers=True,
    )
