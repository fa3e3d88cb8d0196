"""The runs of a report: name on the page, model and figures of each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.linalg import spectral
from lorae.metrics.records import read_scores
from lorae.metrics.scores import Score
from lorae.nn.autoencoder import Autoencoder
from lorae.training.evaluation import RANK_THRESHOLD
from lorae.training.run_folder import Run
from lorae.utils import plots

MATRIX_THRESHOLDS = (1e-2, 1e-5)
"""Relative thresholds of the rank of M; the second one excludes only zeros up to rounding."""


@dataclass(frozen=True)
class RunSummary:
    """A finished run as a report shows it.

    Args:
        folder: the run folder.
        name: distinguishes the run from the others of the report.
        style: index of the colour and the dashes of the run in every plot.
        model: the trained model.
        metrics: the lines of `metrics.jsonl`, the last of which is final.
    """

    folder: Run
    name: str
    style: int
    model: Autoencoder
    metrics: list[dict[str, Any]]

    @property
    def options(self) -> dict[str, Any]:
        """The resolved options of training."""
        return self.folder.options

    @property
    def checksum(self) -> str:
        """The checksum of the data."""
        return str(self.folder.about["data"]["checksum"])

    @property
    def final(self) -> dict[str, Any]:
        """The last line of the metrics."""
        return self.metrics[-1]

    @property
    def reconstructs(self) -> bool:
        """Whether the model has an encoder that its decoder inverts."""
        return self.model.inverts

    @property
    def error(self) -> float:
        """The mean squared error over all elements of the test samples, in scaled units."""
        return float(self.final["test"]["reconstruction"]) if self.reconstructs else math.nan

    @property
    def spread(self) -> float | None:
        """The variance of samples from the prior relative to the data's; None without a prior."""
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

    @property
    def rank(self) -> int:
        """The rank of the covariance at `RANK_THRESHOLD`."""
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
        """The rank of M at each of `MATRIX_THRESHOLDS`, None for a model without M."""
        if not self.model.bridge.learns_matrix:
            return None
        matrix = torch.tensor(self.final["test"]["matrix"], dtype=torch.float64)
        return spectral.rank_profile(matrix, MATRIX_THRESHOLDS)

    @property
    def latent(self) -> int:
        """The dimension of the codes."""
        return len(self.covariance)

    @cached_property
    def scores(self) -> list[Score]:
        """The scores of `lorae evaluate`."""
        return read_scores(self.folder)

    @property
    def colour(self) -> str:
        """The colour of the run in every plot."""
        return plots.colour_of(self.style)

    @property
    def dashes(self) -> str:
        """The dashes of the run in every plot, in the syntax of SVG."""
        return " ".join(f"{length:g}" for length in plots.dashes_of(self.style)) or "none"

    def curve(
        self,
        x: Sequence[float],
        y: Sequence[float],
        mark: tuple[float, float, str] | None = None,
    ) -> plots.Curve:
        """Return values of this run in its colour and dashes."""
        return plots.Curve(self.name, x, y, self.style, mark=mark)


@dataclass(frozen=True)
class Headline:
    """The runs in the first sentence about a data set.

    Args:
        lowest: the run of lowest rank; if there are several, that of lowest error.
        best: the run of lowest error.
        plain: the plain autoencoder of lowest error, or None if there is none.
        close: of the others whose error is at most 10% above that, the one of lowest rank.
    """

    lowest: RunSummary
    best: RunSummary
    plain: RunSummary | None
    close: RunSummary | None

    @classmethod
    def of(cls, runs: Sequence[RunSummary]) -> "Headline":
        """Select from at least one run, all of which reconstruct."""
        ae = [run for run in runs if run.options["model"] == "ae"]
        others = [run for run in runs if run.options["model"] != "ae"]
        plain = min(ae, key=lambda run: run.error, default=None)
        close = [run for run in others if plain and run.error <= 1.1 * plain.error]
        return cls(
            lowest=min(runs, key=_by_rank),
            best=min(runs, key=lambda run: run.error),
            plain=plain,
            close=min(close, key=_by_rank, default=None),
        )


def _by_rank(run: RunSummary) -> tuple[int, float]:
    return run.rank, run.error


def read_runs(runs: Sequence[Run]) -> list[RunSummary]:
    """Read finished runs, and check that they hold everything that a report reads.

    Raises:
        InputError: if a run has not ended, is damaged, or was made by another version.
    """
    return [
        RunSummary(run, name, style, run.model(), run.metrics())
        for style, (run, name) in enumerate(zip(runs, _names(runs), strict=True))
    ]


def _names(runs: Sequence[Run]) -> list[str]:
    """Return the shortest ends of the runs' paths that are all different."""
    parts = [run.path.resolve().parts for run in runs]
    names: list[str] = []
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(path[-length:]) for path in parts]
        if len(set(names)) == len(names):
            break
    return [printable(name) for name in names]


def printable(text: str) -> str:
    """Return a text with a replacement character for each unprintable one.

    Example:
        >>> printable("a" + chr(0) + "b")
        'a�b'
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
