"""The report of an estimator: one HTML file, which opens offline."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorae import __version__
from lorae.estimator.estimator import LowRankAutoencoder
from lorae.estimator.inputs import to_array
from lorae.estimator.plotting import is_image
from lorae.nn.inference import decode_all
from lorae.report.explorer_page import templates
from lorae.report.figures import Figure
from lorae.report.runs import printable
from lorae.utils.files import write_atomic
from lorae.utils.plots import Curve, plot_curves, plot_images

_WORST = 8  # samples of the largest error that are shown
# A page in dark mode inverts plots, but not images: their names follow the scheme themselves.
_DARK_NAMES = (
    b"<style>@media (prefers-color-scheme: dark) {text {fill: #a3abb5 !important}}</style>"
)


@dataclass(frozen=True)
class Worst:
    """A sample of large error: its number, its error and the columns that cause it."""

    row: int
    error: float
    columns: list[tuple[str, float]]


def write_estimator_report(
    estimator: LowRankAutoencoder,
    path: str | Path,
    X: Any = None,
    labels: Any = None,
    title: str = "LowRankAutoencoder",
) -> Path:
    """Write the report of a fitted estimator, atomically, and return its path.

    Args:
        estimator: fitted.
        path: the HTML file, replaced if it exists.
        X: samples for the map, the worst reconstructions and the comparison with PCA; without
            them, the page shows training codes, and PCA only if the number was chosen.
        labels: a label for each row of `X`.
        title: the heading.

    Example:
        >>> from tempfile import mkdtemp
        >>> X = np.random.default_rng(0).normal(size=(50, 3))
        >>> reducer = LowRankAutoencoder(n_components=2, steps=5).fit(X)
        >>> write_estimator_report(reducer, Path(mkdtemp()) / "report.html", X).name
        'report.html'
    """
    page = (
        templates()
        .get_template("estimator.html.j2")
        .render(
            title=printable(title),
            estimator=estimator,
            n=None if X is None else len(X),
            codes=Figure(estimator.plot("codes", X, labels), "Map of the codes"),
            variance=_variance(estimator, X) if estimator.n_components_ > 1 else None,
            path=Figure(estimator.plot("path"), _describe(estimator)) if estimator.path_ else None,
            point=next((p for p in estimator.path_ if p.rank == estimator.n_components_), None),
            coordinates=Figure(_coordinates(estimator), "Effect of the coordinates"),
            images=None if X is None else _worst_images(estimator, X),
            worst=[] if X is None else _worst_rows(estimator, X),
            is_image=is_image(estimator.input_format_),
            version=__version__,
        )
    )
    write_atomic(Path(path), page.encode(errors="replace"))
    return Path(path)


def _coordinates(estimator: LowRankAutoencoder) -> bytes:
    plot = estimator.plot("coordinates")
    return _name_images(plot) if is_image(estimator.input_format_) else plot


def _name_images(plot: bytes) -> bytes:
    """Return a plot of images whose names are legible in either scheme."""
    return plot.replace(b"<defs>", _DARK_NAMES + b"<defs>", 1)


def _describe(estimator: LowRankAutoencoder) -> str:
    return ", ".join(f"{point.error:.3g} with {point.rank} codes" for point in estimator.path_)


def _variance(estimator: LowRankAutoencoder, X: Any) -> Figure:
    """Return a plot of the share of the variance that the first coordinates explain.

    Beside it stands that of as many principal components of the same samples.
    """
    shares = np.cumsum(estimator.explained_variance_ratio_)
    curves: dict[str, tuple[Sequence[float], list[float]]] = {
        "lorae, training samples": (range(1, len(shares) + 1), shares.tolist())
    }
    plain = X is not None and estimator.input_format_.schema is None
    scaled = estimator.scaled(X).double().flatten(1) if plain else None
    if scaled is not None and not scaled.isnan().any():
        curves = _explained(estimator, X, scaled)
    elif estimator.path_:
        kept = [point for point in estimator.path_ if point.rank <= len(shares)]
        ranks = [point.rank for point in kept]
        curves = {
            "lorae, held-out samples": (ranks, [1 - point.error for point in kept]),
            "PCA, held-out samples": (ranks, [1 - point.pca_error for point in kept]),
        }
    labels = ("number of coordinates", "share of the variance explained")
    plot = plot_curves(
        [Curve(name, *values, style) for style, (name, values) in enumerate(curves.items())],
        labels,
        title="Explained variance",
        integer="x",
        limits=(0, 1.02),
        markers=True,
    )
    return Figure(plot, "; ".join(f"{name}: {values}" for name, (_, values) in curves.items()))


def _explained(
    estimator: LowRankAutoencoder, X: Any, scaled: Tensor
) -> dict[str, tuple[Sequence[float], list[float]]]:
    """Return the shares that first coordinates and principal components of samples explain."""
    centred = scaled - scaled.mean(0)
    total = float(centred.square().sum().clamp(min=1e-300))
    most = min(estimator.n_components_, *scaled.shape)
    ranks = range(1, most + 1)
    kept = torch.linalg.svdvals(centred).square()[:most].cumsum(0) / total
    found = []
    codes = torch.from_numpy(np.asarray(to_array(estimator.transform(X))))
    if estimator.whiten:
        codes = codes * torch.from_numpy(np.sqrt(estimator.explained_variance_)).to(codes)
    for rank in ranks:
        decoded = decode_all(estimator.nested_.first(rank), codes[:, :rank])
        again = estimator.model_.scaled(decoded).cpu().double().flatten(1) * estimator.unit_
        found.append(1 - float((again - scaled).square().sum()) / total)
    return {
        "lorae, the samples given": (ranks, found),
        "PCA of the samples given": (ranks, kept.tolist()),
    }


def _order(estimator: LowRankAutoencoder, X: Any) -> tuple[list[int], Any]:
    """Return the samples of the largest error, and the errors of all."""
    errors = -estimator.score_samples(X)
    return np.argsort(-errors, kind="stable")[:_WORST].tolist(), errors


def _worst_images(estimator: LowRankAutoencoder, X: Any) -> Figure | None:
    if not is_image(estimator.input_format_):
        return None
    rows, errors = _order(estimator, X)
    worst = np.asarray(to_array(X))[rows]
    decoded = to_array(estimator.inverse_transform(estimator.transform(worst)))
    layout = estimator.input_format_
    both = torch.stack([layout.to_tensor(np.asarray(part)).float() for part in (worst, decoded)])
    names = [f"{errors[row]:.2g}" for row in rows]
    plot = plot_images(both.numpy(), ["sample", "reconstruction"], names)
    return Figure(_name_images(plot), f"Samples {rows} above their reconstructions")


def _worst_rows(estimator: LowRankAutoencoder, X: Any) -> list[Worst]:
    if is_image(estimator.input_format_):
        return []
    rows, errors = _order(estimator, X)
    names: Sequence[str] = estimator.input_format_.columns or [
        f"column {k + 1}" for k in range(estimator.n_features_in_)
    ]
    found = []
    for row in rows:
        shares = estimator.anomaly_contributions(X[row : row + 1])[0]
        top = np.argsort(-shares)[:3]
        causes = [(printable(names[k]), float(shares[k])) for k in top]
        found.append(Worst(row, float(errors[row]), causes))
    return found
