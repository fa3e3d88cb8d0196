"""Plots of a fitted estimator: its codes, its path and what its coordinates do."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from lorae.errors import InputError
from lorae.estimator.inputs import InputFormat
from lorae.estimator.model_selection import Point
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import decode_all
from lorae.utils.plots import Curve, Svg, plot_curves, plot_images, plot_labelled, plot_points
from lorae.utils.samples import subsample
from lorae.utils.validation import check_choice

Array = np.ndarray[Any, Any]

KINDS = ("codes", "path", "coordinates")
STEPS = (-2, -1, 0, 1, 2)
"""Standard deviations of the images along a coordinate."""
_SHOWN, _COORDINATES, _ROWS = 2000, 3, 24  # points of a map; coordinates of a plot, and columns
_TRAVERSED = 6  # coordinates with a row of images


class PlotMixin:
    """Plots of an estimator."""

    codes_: torch.Tensor
    explained_variance_: Array
    explained_variance_ratio_: Array
    components_: Array
    n_components_: int
    standardize: bool
    unit_: float
    path_: list[Point]
    input_format_: InputFormat

    @property
    @abstractmethod
    def model_(self) -> Autoencoder:
        """The autoencoder, whose codes are the coordinates."""

    @abstractmethod
    def transform(self, X: Any) -> Any:
        """Return the coordinates of samples."""

    def plot(self, kind: str = "codes", X: Any = None, labels: Any = None) -> Svg:
        """Return a plot, which a notebook shows and whose `save` writes an SVG file.

        Args:
            kind: "codes": samples on the first two coordinates. "path": held-out errors by the
                number of codes beside PCA's, with the number that was chosen. "coordinates": the
                change of columns, or images, along the first coordinates.
            X: samples whose codes are shown; by default up to 2,000 of the training samples.
            labels: a label for each row of `X`, which colours it.

        Raises:
            NotFittedError: before `fit`.
            InputError: if the kind is unknown, there is no path, or labels and samples differ in
                number.

        Example:
            >>> from sklearn.datasets import load_iris
            >>> from lorae.estimator.estimator import LowRankAutoencoder
            >>> X, y = load_iris(return_X_y=True)
            >>> reducer = LowRankAutoencoder(n_components=2, steps=10).fit(X)
            >>> b"coordinate 1" in reducer.plot("codes", X, y)
            True
        """
        check_is_fitted(self)
        check_choice("kind", kind, KINDS)
        draw: Callable[[], bytes] = {
            "codes": lambda: self._plot_codes(X, labels),
            "path": self._plot_path,
            "coordinates": self._plot_coordinates,
        }[kind]
        return Svg(draw())

    def _plot_codes(self, X: Any, labels: Any) -> bytes:
        codes = self.codes_ if X is None else torch.as_tensor(np.asarray(self.transform(X)))
        if labels is not None and (X is None or len(labels) != len(codes)):
            raise InputError(
                f"labels must be one for each row of X, got {len(labels)} for "
                f"{'no X' if X is None else len(codes)}"
            )
        rows = subsample(torch.arange(len(codes)), _SHOWN)
        shown = codes[rows][:, :2].numpy()
        groups = None if labels is None else _groups(np.asarray(labels)[rows])
        names = [
            f"coordinate {k} ({100 * share:.3g} % of the variance)"
            for k, share in enumerate(self.explained_variance_ratio_[:2], 1)
        ]
        return plot_labelled(shown[:, 0].tolist(), shown[:, -1].tolist(), groups, names)

    def _plot_path(self) -> bytes:
        if not self.path_:
            raise InputError(
                "kind must not be path for an estimator with a fixed number of components; fit "
                "with n_components='auto' or a share of variance"
            )
        ranks = [point.rank for point in self.path_]
        errors = [point.error for point in self.path_]
        hidden = [p.prediction_error for p in self.path_ if p.prediction_error is not None]
        mark = None
        if self.n_components_ in ranks:
            mark = (
                float(self.n_components_),
                errors[ranks.index(self.n_components_)],
                f"{self.n_components_} chosen",
            )
        curves = [
            Curve("PCA", ranks, [point.pca_error for point in self.path_], 1),
            Curve("lorae", ranks, errors, 0, mark=mark),
        ]
        if hidden:
            curves.append(Curve("lorae, hidden values", ranks[: len(hidden)], hidden, 2))
        labels = ("number of codes", "share of held-out variance lost")
        return plot_curves(curves, labels, title="Error by number of codes", integer="x")

    def _plot_coordinates(self) -> bytes:
        deviations = np.sqrt(self.explained_variance_)
        if is_image(self.input_format_):
            axes = torch.from_numpy(np.diag(deviations)[:_TRAVERSED]).float()
            codes = torch.kron(axes, torch.tensor(STEPS, dtype=torch.float32)[:, None])
            images = decode_all(self.model_, codes)
            return plot_images(
                images.reshape(len(axes), len(STEPS), *images.shape[1:]).numpy(),
                [f"coordinate {k + 1}" for k in range(len(axes))],
                [f"{step:+d} sd" if step else "mean" for step in STEPS],
            )
        effect = self.components_[:_COORDINATES] * deviations[:_COORDINATES, None]
        unit = "in units of the samples"
        if self.standardize:
            scale, unit = self.model_.scale.cpu().flatten().numpy(), "in standard deviations"
            effect = effect * self.unit_ / scale
        order = np.argsort(-np.abs(effect).max(0), kind="stable")[:_ROWS]
        layout = self.input_format_
        names = layout.schema.value_names if layout.schema else layout.columns
        points = [
            Curve(f"coordinate {k + 1}", row[order].tolist(), range(len(order)), k)
            for k, row in enumerate(effect)
        ]
        return plot_points(
            points,
            (f"mean change along a coordinate, {unit}", ""),
            names=[names[k] if names else f"column {k + 1}" for k in order],
            legend=True,
        )


def is_image(layout: InputFormat) -> bool:
    """Return whether samples are images, which have two sides."""
    return layout.is_grid and len(layout.shape) == 3


def _groups(labels: Array) -> Sequence[Any]:
    """Return labels that can be sorted; texts beyond the colours that there are become numbers."""
    if labels.dtype.kind in "biuf":
        return list(labels.tolist())
    kinds, numbers = np.unique(labels.astype(str), return_inverse=True)
    return list(labels.astype(str).tolist() if len(kinds) <= 10 else numbers.tolist())
