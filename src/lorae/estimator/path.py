r"""The path over ranks: the held-out error of a model of each rank, and its knee.

For each rank a :class:`lorae.LowRankAutoencoder` of that many components is trained, on the same
part of the samples, so every point is as good as that estimator is, and no point depends on
another. Beside its error stands that of as many principal components.

The knee is the point furthest below the chord of the path in the logarithms of rank and error: up
to it another dimension lowers the error a lot, beyond it only a little. A path whose furthest point
is one of its ends has no knee.

Paths of several seeds differ in initial weights, batches and held-out samples. Their errors and
knees have Student's 95% intervals over the seeds.

Reference:
    Satopaa et al., Finding a "Kneedle" in a Haystack (ICDCS workshops 2011), for the knee.
"""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from lorae.errors import InputError
from lorae.estimator.estimator import LowRankAutoencoder
from lorae.estimator.model_selection import knee
from lorae.estimator.path_folder import PathFolder
from lorae.nn.autoencoder import Autoencoder
from lorae.utils.intervals import Interval
from lorae.utils.plots import Curve, plot_curves
from lorae.utils.text import format_table
from lorae.utils.validation import check_range


@dataclass(frozen=True)
class PathPoint:
    """A model on a path, and its errors as shares of the variance of held-out samples.

    Attributes:
        rank: the number of codes of the model.
        error: squared error of held-out samples, divided by their squared deviation from the mean
            of the training samples.
        standard_error: of that mean, over the samples.
        pca_error: the same error of as many principal components.
        seconds: time of this training.
        model: the model.
        distance: distance between generated and held-out samples; None if not measured.
    """

    rank: int
    error: float
    standard_error: float
    pca_error: float
    seconds: float
    model: Autoencoder = field(repr=False, compare=False)
    distance: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, as values that JSON can hold."""
        return {
            "rank": self.rank,
            "error": self.error,
            "standard_error": self.standard_error,
            "pca_error": self.pca_error,
            "distance": self.distance,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class RankPath:
    """The points of a path, by descending rank.

    Args:
        points: at least one.
    """

    points: tuple[PathPoint, ...]

    @property
    def knee(self) -> PathPoint | None:
        """The point at the knee; None if there is none."""
        found = knee([p.rank for p in self.points], [p.error for p in self.points])
        return None if found is None else self.points[found]

    @property
    def seconds(self) -> float:
        """Time of the whole path."""
        return sum(point.seconds for point in self.points)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as values that JSON can hold."""
        return {
            "points": [point.to_dict() for point in self.points],
            "knee": _rank(self.knee),
            "seconds": round(self.seconds, 1),
        }

    def table(self) -> str:
        """Return the points as lines of text, with the knee marked."""
        has_distance = any(point.distance is not None for point in self.points)
        rows = []
        for p in self.points:
            distance = [] if p.distance is None else [f"{p.distance:.4g}"]
            mark = "<- knee" if p is self.knee else ""
            error = f"{p.error:.4f} ± {1.96 * p.standard_error:.1g}"
            rows.append([p.rank, error, f"{p.pca_error:.4f}", *distance, mark])
        header = ["rank", "error", "of PCA", *["distance"] * has_distance, ""]
        return (
            f"{format_table(rows, header, align='r')}\n"
            f"{self.seconds:.0f} s; errors are shares of the variance of held-out samples, with "
            f"95% intervals{'' if self.knee else '; the path has no knee'}"
        )

    def plot(self) -> bytes:
        """Return a plot of held-out error against rank beside PCA's, as an SVG file.

        The knee is circled.
        """
        ranks, errors = [p.rank for p in self.points], [p.error for p in self.points]
        pca = Curve("PCA", ranks, [p.pca_error for p in self.points], style=1)
        return _plot("models", ranks, errors, _rank(self.knee), others=[pca])


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
    def knee(self) -> int | None:
        """The rank at the knee of the mean errors; None if there is none."""
        found = knee(self.ranks, [error.mean for error in self.errors])
        return None if found is None else self.ranks[found]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as values that JSON can hold."""
        return {
            "seeds": list(self.seeds),
            "ranks": list(self.ranks),
            "errors": [error.to_dict() for error in self.errors],
            "knee": self.knee,
            "knees": [_rank(path.knee) for path in self.paths],
            "paths": [path.to_dict() for path in self.paths],
            "seconds": round(self.seconds, 1),
        }

    def table(self) -> str:
        """Return the ranks as lines of text, with the knees marked."""
        count, rows = Counter(_rank(path.knee) for path in self.paths), []
        for rank, error in zip(self.ranks, self.errors, strict=True):
            half = "" if error.half_width is None else f" ± {error.half_width:.1g}"
            mark = f"<- knee of {count[rank]} of {len(self.seeds)} seeds" if count[rank] else ""
            rows.append((rank, f"{error.mean:.6f}{half}", mark))
        return (
            f"{format_table(rows, ('rank', 'held-out error', ''), align='rrl')}\n"
            f"{self.seconds:.0f} s; knee of the mean {self.knee or 'none'}; errors are shares of "
            f"the variance of held-out\nsamples, mean over {len(self.seeds)} seeds with its 95% "
            "interval"
        )

    def plot(self) -> bytes:
        """Return a plot of mean held-out error against rank, with its interval, as an SVG file."""
        means = [error.mean for error in self.errors]
        # On a logarithmic axis a band that would reach below zero ends just above it.
        margin = [min(e.half_width or 0.0, 0.999 * e.mean) for e in self.errors]
        return _plot(
            f"mean of {len(self.seeds)} seeds, 95%", self.ranks, means, self.knee, margin=margin
        )


def lorae_path(
    X: Any,
    *,
    ranks: Sequence[int] | None = None,
    validation_fraction: float = 0.1,
    distance: Callable[[Autoencoder], float] | None = None,
    random_state: int = 0,
    folder: Path | None = None,
    **options: Any,
) -> RankPath:
    """Train a model of each rank, and return them with their held-out errors.

    Args:
        X: samples, as for :class:`lorae.LowRankAutoencoder`.
        ranks: descending; by default each is about a fifth less than the one before, from 64 or
            the number of values of a sample, if that is less, down to 1.
        validation_fraction: share of the samples that is held out for the errors, above 0 and at
            most 0.5.
        distance: a distance between generated and real samples, stored with each point.
        random_state: seed of weights, batches and held-out samples.
        folder: where to write each model and its figures as soon as it is trained. Those that an
            earlier call with the same samples and arguments left there are not trained again.
        options: further arguments of :class:`lorae.LowRankAutoencoder`.

    Raises:
        InputError: if an argument or the samples are invalid.
        Diverged: if the loss is not finite.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> path = lorae_path(load_iris().data, ranks=[2, 1], steps=60)
        >>> [point.rank for point in path.points]
        [2, 1]
    """
    check_range("validation_fraction", validation_fraction, 0, 0.5, open_low=True)
    if len(X) < 4:
        raise InputError(f"X must have at least 4 samples, got {len(X)}")
    held_out = max(2, round(validation_fraction * len(X)))
    kept, test = train_test_split(X, test_size=held_out, random_state=random_state)
    values, fewest = int(np.prod(np.shape(X)[1:])), len(kept)
    asked = options | {"validation_fraction": validation_fraction, "random_state": random_state}
    store = None if folder is None else PathFolder.of(folder, X, asked)
    points = []
    for rank in _check_ranks(ranks, min(values, fewest)):
        if store is not None and (found := store.read(rank)) is not None:
            points.append(PathPoint(**found))
            continue
        start = time.perf_counter()
        reducer = LowRankAutoencoder(n_components=rank, random_state=random_state, **options)
        errors, deviations = reducer.fit(kept).squared_errors(test)
        seconds = time.perf_counter() - start
        mean, n = float(deviations.mean()), len(errors)
        points.append(
            PathPoint(
                rank=rank,
                error=float(errors.mean()) / mean,
                standard_error=float(errors.std()) / mean / n**0.5,
                pca_error=_pca_error(reducer, kept, test, rank),
                seconds=seconds,
                model=reducer.model_,
                distance=None if distance is None else distance(reducer.model_),
            )
        )
        if store is not None:
            store.write(points[-1])
    return RankPath(tuple(points))


def _pca_error(reducer: LowRankAutoencoder, kept: Any, test: Any, rank: int) -> float:
    """Return the share of held-out variance that principal components lose, in the same units."""
    gaps, unit = reducer.model_.gaps, reducer.unit_
    parts = [reducer.scaled(part) for part in (kept, test)]
    filled = parts if gaps is None else [gaps.fill(part / unit) * unit for part in parts]
    train, held_out = (part.flatten(1).double().numpy() for part in filled)
    observed = parts[1].flatten(1).double().numpy()
    pca = PCA(rank, random_state=0).fit(train)
    lost = np.nansum(np.square(pca.inverse_transform(pca.transform(held_out)) - observed))
    return float(lost / np.nansum(np.square(observed - train.mean(0))))


def ladder(largest: int, ratio: float = 0.8) -> list[int]:
    """Return ranks from the largest down to 1, each about a fifth less than the one before.

    Example:
        >>> ladder(16)
        [16, 12, 9, 7, 5, 4, 3, 2, 1]
    """
    ranks = [largest]
    while ranks[-1] > 1:
        ranks.append(max(1, min(ranks[-1] - 1, int(ranks[-1] * ratio))))
    return ranks


def _rank(point: PathPoint | None) -> int | None:
    return None if point is None else point.rank


def lorae_paths(
    X: Any,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    n_jobs: int | None = None,
    folder: Path | None = None,
    **options: Any,
) -> SeededPath:
    """Return the paths of several seeds, with intervals over them.

    Args:
        X: samples, as for :class:`lorae.LowRankAutoencoder`.
        seeds: seeds of weights, batches and held-out samples; at least one, and all distinct.
        n_jobs: number of processes, each with one thread; -1 for one on every core. The result
            does not depend on it. By default the paths are computed one after the other in this
            process, with all its threads.
        folder: as of :func:`lorae_path`, with a folder `seed-N` for each seed.
        options: keyword arguments of :func:`lorae_path`, except `random_state`.

    Raises:
        InputError: if an argument or the samples are invalid.
        Diverged: if the loss of a seed is not finite.

    Warns:
        ConvergenceWarning: for each seed, as :func:`lorae_path`.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> path = lorae_paths(load_iris().data, seeds=(0, 1), ranks=[2, 1], steps=60)
        >>> path.ranks, len(path.errors[0].values)
        ((2, 1), 2)
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds must be at least one and all distinct, got {list(seeds)}")
    for seed in seeds:
        check_range("seed", seed, 0, 2**31 - 1)
    if "random_state" in options:
        raise InputError("random_state must not be given to lorae_paths: give seeds")
    start = time.perf_counter()
    folders = [None if folder is None else folder / f"seed-{seed}" for seed in seeds]
    jobs = [(seed, options | {"folder": one}) for seed, one in zip(seeds, folders, strict=True)]
    if n_jobs is None:
        paths = [lorae_path(X, random_state=seed, **one) for seed, one in jobs]
    else:
        run = joblib.Parallel(n_jobs=n_jobs, backend="loky")
        found = run(joblib.delayed(_path_in_process)(X, *job) for job in jobs)
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


def _check_ranks(ranks: Sequence[int] | None, largest: int) -> Sequence[int]:
    """Return the ranks of the points.

    Raises:
        InputError: if they are out of order or range.
    """
    if ranks is None:
        return ladder(min(64, largest))
    falling = all(a > b for a, b in zip([largest + 1, *ranks], ranks, strict=False))
    if not ranks or not falling or ranks[-1] < 1:
        raise InputError(f"ranks must fall from at most {largest} to at least 1, got {list(ranks)}")
    return ranks


def _plot(
    label: str,
    ranks: Sequence[int],
    errors: Sequence[float],
    knee: int | None,
    *,
    margin: Sequence[float] = (),
    others: Sequence[Curve] = (),
) -> bytes:
    mark = None if knee is None else (knee, errors[list(ranks).index(knee)], f"knee: {knee}")
    return plot_curves(
        [Curve(label, ranks, errors, margin=margin, mark=mark), *others],
        ("rank (codes of the model)", "share of held-out variance lost"),
        title="Error against rank",
        log="xy",
        markers=True,
    )
