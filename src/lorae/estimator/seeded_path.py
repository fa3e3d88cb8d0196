r"""The path of several seeds: what every rank costs, with its interval, and how sure the knee is.

Each seed has weights, batches and held-out samples of its own.

The interval is Student's, over seeds: it holds what comes of the start, of the order of the samples
and of which were held out.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lorae.errors import InputError
from lorae.estimator.model_selection import knee
from lorae.estimator.path import RankPath, lorae_path
from lorae.utils.intervals import Interval
from lorae.utils.plots import Curve, plot_curves
from lorae.utils.validation import check_range


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
        """Return rank against held-out error with its interval as an SVG file, the knee circled."""
        means = [error.mean for error in self.errors]
        # On a logarithmic axis a band ends at zero where it would go below.
        margin = [min(e.half_width or 0.0, 0.999 * e.mean) for e in self.errors]
        curve = Curve(
            f"mean of {len(self.seeds)} seeds, 95%",
            self.ranks,
            means,
            margin=margin,
            mark=(self.knee, means[self.ranks.index(self.knee)], f"knee: {self.knee}"),
        )
        return plot_curves(
            [curve],
            ("rank (codes of the model)", "held-out mean squared error"),
            title="Error against rank",
            log="xy",
            markers=True,
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
        ranks: as all further arguments, those of :func:`lorae.estimator.path.lorae_path`.
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
        check_range("seed", seed, 0, 2**31 - 1)
    began = time.perf_counter()
    paths = tuple(
        lorae_path(
            X,
            ranks=ranks,
            latent=latent,
            width=width,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            validation_fraction=validation_fraction,
            standardize=standardize,
            image_shape=image_shape,
            device=device,
            random_state=seed,
        )
        for seed in seeds
    )
    return SeededPath(tuple(seeds), paths, time.perf_counter() - began)


def _told(interval: Interval) -> dict[str, Any]:
    return {
        "mean": interval.mean,
        "half_width": interval.half_width,
        "values": list(interval.values),
    }
