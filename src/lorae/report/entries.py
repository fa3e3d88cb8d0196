"""The runs of a report: each finished run as the figures and the tables want it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.linalg import spectral
from lorae.metrics.evaluations import scores_of
from lorae.metrics.scores import Score
from lorae.nn.autoencoder import Autoencoder
from lorae.report import figures
from lorae.report.figures import Series
from lorae.training.evaluation import RANK_THRESHOLD
from lorae.training.run_folder import Run

MATRIX_THRESHOLDS = (1e-2, 1e-5)
"""Relative thresholds of the rank of M; the second counts what an exact zero leaves."""


@dataclass(frozen=True)
class Entry:
    """A finished run among those of a report.

    Args:
        run: the run.
        name: what tells it from the others.
        index: its place among them, which decides its colour and dashes.
        model: the trained model.
        metrics: the lines of `metrics.jsonl`, the last of which is final.
    """

    run: Run
    name: str
    index: int
    model: Autoencoder
    metrics: list[dict[str, Any]]

    @property
    def options(self) -> dict[str, Any]:
        """The resolved options of training."""
        return self.run.options

    @property
    def checksum(self) -> str:
        """The checksum of the data."""
        checksum: str = self.run.about["data"]["checksum"]
        return checksum

    @property
    def final(self) -> dict[str, Any]:
        """The last line of the metrics."""
        return self.metrics[-1]

    @property
    def named_by_model(self) -> bool:
        """Whether the name says which model it is."""
        return bool(self.name == self.options["model"])

    @property
    def inverts(self) -> bool:
        """Whether the decoder undoes the encoder, so that there is an error."""
        return self.model.inverts

    @property
    def error(self) -> float:
        """The mean squared error over all elements of the test samples, in scaled units."""
        return float(self.final["test"]["reconstruction"]) if self.inverts else math.nan

    @property
    def spread(self) -> float | None:
        """The variance of samples from the prior, as a share of the data's, if there is one."""
        spread: float | None = self.final["test"].get("spread")
        return spread

    @cached_property
    def covariance(self) -> Float[Tensor, " l"]:
        """The singular values of the covariance of the test codes."""
        return torch.tensor(self.final["test"]["covariance"], dtype=torch.float64)

    @cached_property
    def ranks(self) -> dict[float, int]:
        """The rank of the covariance at each relative threshold."""
        return spectral.rank_profile(self.covariance)

    @cached_property
    def scores(self) -> list[Score]:
        """What `lorae evaluate` has left in the run folder."""
        return scores_of(self.run)

    @property
    def rank(self) -> int:
        """The rank of the covariance where there is room for only one."""
        return self.ranks[RANK_THRESHOLD]

    @property
    def effective_rank(self) -> float:
        """The effective rank of the covariance."""
        return float(spectral.effective_rank(self.covariance))

    @property
    def participation_ratio(self) -> float:
        """The participation ratio of the covariance."""
        return float(spectral.participation_ratio(self.covariance))

    @property
    def matrix_ranks(self) -> dict[float, int] | None:
        """The rank of M at each of its thresholds, None for a model that has no M."""
        if not self.model.bridge.learns_matrix:
            return None
        matrix = torch.tensor(self.final["test"]["matrix"], dtype=torch.float64)
        return spectral.rank_profile(matrix, MATRIX_THRESHOLDS)

    @property
    def latent(self) -> int:
        """The dimension of the codes."""
        return len(self.covariance)

    @property
    def colour(self) -> str:
        """The CSS colour of the run in every figure."""
        return f"var(--series-{self.index % figures.COLOURS})"

    @property
    def dashes(self) -> str:
        """The dashes of the run in every figure, as SVG takes them."""
        pattern = figures.DASHES[self.index // figures.COLOURS % len(figures.DASHES)]
        return " ".join(f"{length:g}" for length in pattern) or "none"

    def series(
        self, x: Sequence[float], y: Sequence[float], mark: tuple[float, float] | None = None
    ) -> Series:
        """Return values of this run as it is shown in every figure."""
        return Series(f"{self.name}, rank {self.rank}", self.index, x, y, mark)


def printable(text: str) -> str:
    """Return a text with a replacement character for each that cannot be shown.

    Example:
        >>> printable("a" + chr(0) + "b")
        'a�b'
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def short(value: float) -> str:
    """Return a number to four digits.

    Example:
        >>> short(0.0123456), short(0.5), short(1.5e-6)
        ('0.01235', '0.5000', '1.500e-6')
    """
    text = f"{value:#.4g}"
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa
