"""The runs of a report: name on the page, model and figures of each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

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
    """A finished run as a report shows it."""

    folder: Run
    name: str  # differs from those of the other runs
    style: int  # decides colour and dashes in every plot
    model: Autoencoder
    metrics: list[dict[str, Any]]  # the lines of metrics.jsonl, the last of which is final
    options: dict[str, Any]  # resolved
    checksum: str  # of the data
    scores: list[Score]  # of lorae evaluate
    covariance: Float[Tensor, " l"]  # singular values of the covariance of the test codes
    ranks: dict[float, int]  # of the covariance at each relative threshold
    matrix_ranks: dict[float, int] | None  # of M at MATRIX_THRESHOLDS, None for a model without M
    error: float  # mean squared, over all test samples in scaled units; NaN without an encoder
    spread: float | None  # variance of samples from the prior, relative to the data's

    @classmethod
    def of(cls, run: Run, name: str, style: int) -> Self:
        """Read a run, and check that it holds everything that a report reads."""
        model, metrics = run.model(), run.metrics()
        test = metrics[-1]["test"]
        covariance = torch.tensor(test["covariance"], dtype=torch.float64)
        matrix_ranks = None
        if model.bridge.learns_matrix:
            matrix = torch.tensor(test["matrix"], dtype=torch.float64)
            matrix_ranks = spectral.rank_profile(matrix, MATRIX_THRESHOLDS)
        return cls(
            folder=run,
            name=name,
            style=style,
            model=model,
            metrics=metrics,
            options=run.options,
            checksum=str(run.about["data"]["checksum"]),
            scores=read_scores(run),
            covariance=covariance,
            ranks=spectral.rank_profile(covariance),
            matrix_ranks=matrix_ranks,
            error=float(test["reconstruction"]) if model.inverts else math.nan,
            spread=test.get("spread"),
        )

    @property
    def rank(self) -> int:
        """The rank of the covariance at `RANK_THRESHOLD`."""
        return self.ranks[RANK_THRESHOLD]

    @property
    def latent(self) -> int:
        """The dimension of the codes."""
        return len(self.covariance)

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
    """The runs in the first sentence about a data set."""

    lowest: RunSummary  # of lowest rank; if there are several, of lowest error
    best: RunSummary  # of lowest error
    plain: RunSummary | None  # the plain autoencoder of lowest error
    close: RunSummary | None  # of the others with at most 1.1 times its error, of lowest rank

    @classmethod
    def of(cls, runs: Sequence[RunSummary]) -> Self:
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
    """Read finished runs; their names are the shortest ends of their paths that all differ."""
    parts = [run.path.resolve().parts for run in runs]
    names: list[str] = []
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(path[-length:]) for path in parts]
        if len(set(names)) == len(names):
            break
    return [
        RunSummary.of(run, printable(name), style)
        for style, (run, name) in enumerate(zip(runs, names, strict=True))
    ]


def printable(text: str) -> str:
    """Return a text with a replacement character for each unprintable one.

    Example:
        >>> printable("a" + chr(0) + "b")
        'a�b'
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
