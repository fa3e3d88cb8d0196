"""A section of a report, on one data set: plots, scores, and images by the models of its runs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lorae.data.datasets import Data
from lorae.metrics.records import format_protocol, read_evaluation
from lorae.metrics.scores import PARTS
from lorae.nn.inference import encode_all
from lorae.report import latent_figures
from lorae.report.code_space import CodeSpace, principal_space
from lorae.report.figures import Figure
from lorae.report.runs import Headline, RunSummary, printable
from lorae.report.sample_grids import sample_grid
from lorae.report.sweeps import Sweep
from lorae.sampling.registry import density_for, fit_density
from lorae.training.evaluation import RANK_THRESHOLD
from lorae.utils.intervals import Interval
from lorae.utils.plots import Curve, plot_curves, plot_histograms, plot_points
from lorae.utils.samples import as_float, subsample

_SEED = 0  # of every random choice
_FITTED = 10_000  # training codes that a Gaussian is fitted to, at most
_COLUMNS, _PAIRS, _IMAGES = 10, 4, 40  # images in a row, interpolations, generated images
_ROWS, _HISTOGRAMS, _VECTORS = 24, 6, 2000  # columns with R^2, with a histogram; generated samples
_MAPPED = 1000  # test samples on a map
_PIXELS = 2_500_000  # of all images of a report together, about


@dataclass(frozen=True)
class ScoreTable:
    """One part of the evaluations of several runs."""

    part: str
    runs: list[RunSummary]  # those that have it
    rows: list[tuple[str, str, list[Interval | None]]]  # name, subject and a mean for each run
    protocols: list[str]  # without repetitions


@dataclass(frozen=True)
class Section:
    """The runs on one data set, with everything that the report shows of them."""

    key: str  # prefix of the ids of this section, distinct from all others
    runs: list[RunSummary]
    data: Data
    side: int  # largest side of an image in pixels

    @property
    def name(self) -> str:
        """The name of the data set."""
        return printable(self.data.name)

    @property
    def kind(self) -> str:
        """What the samples are called: images, or samples."""
        return "images" if self.data.is_image else "samples"

    @property
    def about(self) -> str:
        """The number and the shape of the samples."""
        size = " × ".join(map(str, self.data.shape))
        axes = ("columns", "length", "height, width", "depth, height, width")
        named = axes[len(self.data.shape) - 1]
        kind = f"{size} {named}" if self.data.is_table else f"{size} (channels, {named})"
        train, test = len(self.data.train), len(self.data.test)
        return f"{train:,} training and {test:,} test samples of {kind}"

    @cached_property
    def shown(self) -> list[RunSummary]:
        """The runs that were trained on the same samples as the first; only they have pictures."""
        return [run for run in self.runs if run.checksum == self.runs[0].checksum]

    @cached_property
    def reconstructing(self) -> list[RunSummary]:
        """Those of them whose models reconstruct."""
        return [run for run in self.shown if run.model.inverts]

    @cached_property
    def compared(self) -> list[RunSummary]:
        """All runs whose models reconstruct."""
        return [run for run in self.runs if run.model.inverts]

    @cached_property
    def headline(self) -> Headline | None:
        """The runs to name first, None if no model reconstructs."""
        return Headline.of(self.compared) if self.compared else None

    @cached_property
    def sweep(self) -> Sweep:
        """The runs by their settings, over seeds and weights."""
        return Sweep.of(self.compared)

    @property
    def spectra(self) -> list[Figure]:
        """Plots of the singular values, and of error against rank for more than two runs."""
        curves = []
        for run in self.runs:
            sigma = (run.covariance / run.covariance.max().clamp(min=1e-300)).tolist()
            mark = (float(run.rank), sigma[run.rank - 1], "") if run.rank else None
            curves.append(run.curve(range(1, run.latent + 1), sigma, mark))
        labels = ("index", "singular value / largest")
        alt = "Singular values of the covariance of the test codes, divided by the largest; rank "
        alt += ", ".join(f"{run.rank} for {run.name}" for run in self.runs)
        # On a linear scale, the values beyond a thousandth of the largest are a flat line.
        longest = max([run.ranks[1e-3] for run in self.runs]) + 1
        short = [replace(curve, x=curve.x[:longest], y=curve.y[:longest]) for curve in curves]
        linear = plot_curves(short, labels, integer="x", limits=(0, 1.03))
        log = plot_curves(
            curves, labels, log="y", integer="x", limits=(1e-7, 2), level=RANK_THRESHOLD
        )
        figures = [
            Figure(linear, alt, "Singular values, linear scale"),
            Figure(log, alt, "Singular values, log scale"),
        ]
        if len(self.compared) > 2:
            points = [
                run.curve([run.rank], [run.error], (run.rank, run.error, run.name))
                for run in self.compared
            ]
            plot = plot_points(points, (f"rank at {RANK_THRESHOLD:g}", "test error"), integer="x")
            words = "{0.name}: test error {0.error:.4g} at rank {0.rank}"
            alt = "; ".join(map(words.format, self.compared))
            figures.append(Figure(plot, alt, "Test error against rank"))
        return figures

    @cached_property
    def scores(self) -> list[ScoreTable]:
        """A table for each part of an evaluation that at least one run has."""
        tables = []
        for part in PARTS:
            runs = [run for run in self.runs if any(score.part == part for score in run.scores)]
            found = [{(s.name, s.of): s.interval for s in r.scores if s.part == part} for r in runs]
            keys = list(dict.fromkeys(key for one in found for key in one))
            rows = [(name, of, [one.get((name, of)) for one in found]) for name, of in keys]
            protocols = [
                format_protocol(read_evaluation(run.folder)[part]["protocol"]) for run in runs
            ]
            if runs:
                tables.append(ScoreTable(part, runs, rows, list(dict.fromkeys(protocols))))
        return tables

    @property
    def training(self) -> list[Figure]:
        """Plots over the steps of training."""
        plots = (
            ("Training loss", "train", "loss", "loss", {"log": "y", "integer": "x"}),
            ("Held-out error", "test", "reconstruction", "mean squared error",
             {"log": "y", "integer": "x"}),
            ("Rank", "test", "rank", f"rank at {RANK_THRESHOLD:g}",
             {"integer": "xy", "limits": (0, None)}),
        )  # fmt: skip
        figures = []
        for title, part, name, label, look in plots:
            plot = plot_curves(self._history(part, name), ("optimizer step", label), **look)
            alt = f"{title} over the steps of training, a line for each run"
            figures.append(Figure(plot, alt, title))
        return figures

    def _history(self, part: str, name: str) -> list[Curve]:
        curves = []
        for run in self.runs:
            lines = [line for line in run.metrics if not line["final"]]
            lines = [line for line in lines if line.get(part, {}).get(name) is not None]
            values = [line[part][name] for line in lines]
            curves.append(run.curve([line["step"] for line in lines], values))
        return curves

    @cached_property
    def _order(self) -> Int[Tensor, " m"]:
        """The test samples to show, in random order, one of each label before a second of any."""
        order = torch.randperm(len(self.data.test), generator=_generator())
        labels = self.data.test_labels
        if labels is not None and labels.ndim == 1:
            by_label = labels[order].argsort(stable=True)
            sorted_labels = labels[order][by_label]
            turn = torch.arange(len(order)) - torch.searchsorted(sorted_labels, sorted_labels)
            order = order[by_label[turn.argsort(stable=True)]]
        return order[: _COLUMNS + 2 * _PAIRS]

    @cached_property
    def fitted(self) -> Tensor:
        """The training samples to whose codes the Gaussian is fitted."""
        return subsample(self.data.train, _FITTED, _SEED)

    def _picture(self, samples: Tensor, alt: str, run: RunSummary | None = None) -> Figure:
        return Figure(sample_grid(samples, self.data, _COLUMNS, side=self.side), alt, run=run)

    @property
    @torch.no_grad()
    def reconstructions(self) -> list[Figure]:
        """Rows of test images and of their reconstructions by each run that reconstructs."""
        originals = as_float(self.data.test[self._order[:_COLUMNS]])
        rows = [self._picture(originals, f"Test samples of {self.name}")]
        for run in self.reconstructing:
            alt = f"Reconstructions of the originals by {run.name}"
            rows.append(self._picture(run.model(originals), alt, run))
        return rows

    @property
    @torch.no_grad()
    def interpolations(self) -> list[Figure]:
        """Rows of a test sample, images between it and another, and the other, for each run.

        A model that does not reconstruct has rows between codes from its prior.
        """
        places = torch.arange(_COLUMNS, _COLUMNS + 2 * _PAIRS) % len(self._order)
        starts, ends = as_float(self.data.test[self._order[places]]).chunk(2)
        figures = []
        for run in self.shown:
            between = _COLUMNS - 2 if run.model.inverts else _COLUMNS
            if run.model.inverts:
                a, b = run.model.encode(starts), run.model.encode(ends)
            else:
                a, b = density_for(run.model).sample(2 * _PAIRS, _generator()).chunk(2)
            codes = torch.lerp(a[:, None], b[:, None], torch.linspace(0, 1, between)[:, None])
            decoded = run.model.decode(codes.flatten(0, 1))
            rows = decoded.reshape(*codes.shape[:2], *self.data.shape)
            if run.model.inverts:
                rows = torch.cat([starts[:, None], rows, ends[:, None]], 1)
            grid = sample_grid(
                rows.flatten(0, 1), self.data, _COLUMNS, side=self.side, framed=run.model.inverts
            )
            figures.append(Figure(grid, f"Interpolations by {run.name}", run=run))
        return figures

    @property
    def generated(self) -> list[Figure]:
        """Grids of images decoded from random codes."""
        alt = f"{self.kind.capitalize()} decoded from random codes by {{}}"
        return [
            self._picture(self._generate(run, _IMAGES), alt.format(run.name), run)
            for run in self.shown
        ]

    @torch.no_grad()
    def _generate(self, run: RunSummary, n: int) -> Float[Tensor, "n *shape"]:
        """Return samples decoded from the prior, or from a Gaussian fitted to training codes."""
        size = max(1, min(500, 4_000_000 // self.fitted[0].numel()))
        density = fit_density(run.model, lambda: encode_all(run.model, self.fitted, size))
        samples: Tensor = run.model.decode(density.sample(n, _generator()))
        return samples

    @cached_property
    def spaces(self) -> list[CodeSpace]:
        """The latent spaces of the runs that reconstruct, in their principal coordinates."""
        fitted = as_float(subsample(self.data.train, _VECTORS, _SEED))
        return [principal_space(run.model, self._probe, fitted) for run in self.reconstructing]

    @cached_property
    def _rows(self) -> Tensor:
        return subsample(torch.arange(len(self.data.test)), _MAPPED, _SEED)

    @property
    def _probe(self) -> Tensor:
        """Some test samples."""
        return as_float(self.data.test[self._rows])

    def _of_spaces(self, draw: Callable[..., Figure], *arguments: Any) -> list[Figure]:
        pairs = zip(self.reconstructing, self.spaces, strict=True)
        return [draw(run, space, *arguments) for run, space in pairs]

    @property
    def traversals(self) -> list[Figure]:
        """Grids of images along each of the first coordinates."""
        return self._of_spaces(latent_figures.traversals, self.data, self.side)

    @property
    def maps(self) -> list[Figure]:
        """Maps of the codes of test samples on the first two coordinates."""
        labels = self.data.test_labels
        groups = None if labels is None or labels.ndim > 1 else labels[self._rows].tolist()
        return self._of_spaces(latent_figures.code_map, self._probe, groups)

    @property
    def loadings(self) -> list[Figure]:
        """Plots of how the columns of a table change along the first coordinates."""
        return self._of_spaces(latent_figures.loadings, self.columns)

    @property
    def worst_samples(self) -> list[Figure]:
        """Test images of the largest error, above their reconstructions."""
        arguments = self._probe, self.data, self.side
        return [latent_figures.worst_samples(run, *arguments) for run in self.reconstructing]

    @property
    def nearest(self) -> list[Figure]:
        """Generated images above the training images that are nearest to them."""
        training, figures = as_float(self.fitted), []
        for run in self.shown:
            generated = self._generate(run, _IMAGES)[:_COLUMNS]
            arguments = generated, training, self.data, self.side
            figures.append(latent_figures.nearest_samples(run, *arguments))
        return figures

    @cached_property
    def columns(self) -> list[str]:
        """The names of the columns of a table."""
        numbered = tuple(f"column {k + 1}" for k in range(self.data.shape[0]))
        return [printable(name) for name in self.data.columns or numbered]

    @cached_property
    @torch.no_grad()
    def r2(self) -> Float[Tensor, "runs d"]:
        """R^2 by run that reconstructs and by column, NaN where a column is constant."""
        x = as_float(self.data.test)
        variation = (x.double() - x.double().nanmean(0)).square().nansum(0)
        errors = [(run.model(x) - x).double().square().nansum(0) for run in self.reconstructing]
        return torch.stack(
            [torch.where(variation > 0, 1 - e / variation, math.nan) for e in errors]
        )

    @cached_property
    def worst(self) -> list[int]:
        """The columns with the lowest R^2 on average over the runs, at most `_ROWS` of them."""
        found: list[int] = self.r2.mean(0).nan_to_num(math.inf).argsort()[:_ROWS].tolist()
        return found

    @property
    def mean_r2(self) -> list[str]:
        """The mean R^2 of each run that reconstructs, in words."""
        return [f"mean R² {float(row.nanmean()):.3f}" for row in self.r2]

    @property
    def determination(self) -> Figure:
        """Plot of the R^2 of the worst columns."""
        points = [
            run.curve(row[self.worst].tolist(), range(len(self.worst)))
            for run, row in zip(self.reconstructing, self.r2, strict=True)
        ]
        plot = plot_points(points, ("R²", ""), names=[self.columns[k] for k in self.worst])
        alt = f"R² of the reconstruction of {len(self.worst)} columns, a point for each run"
        return Figure(plot, alt)

    @cached_property
    def marginals(self) -> list[Figure]:
        """A histogram of each of the first columns, in the test data and in generated samples."""
        samples = {
            run.style: self.data.round_categories(self._generate(run, _VECTORS))
            for run in self.shown
        }
        figures = []
        for k, name in enumerate(self.columns[:_HISTOGRAMS]):
            values = {style: x[:, k].tolist() for style, x in samples.items()}
            real = self.data.test[:, k]
            plot = plot_histograms(real[~real.isnan()].tolist(), values, name)
            alt = f"Density of {name} in the test data and in samples of each run"
            figures.append(Figure(plot, alt, name))
        return figures


def image_side(runs: Sequence[RunSummary]) -> int:
    """Return the largest side of an image in pixels: smaller for a report of many runs."""
    images = len(runs) * (_COLUMNS + _PAIRS * _COLUMNS + _IMAGES) + _COLUMNS
    return max(32, min(96, math.isqrt(_PIXELS // images)))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(_SEED)
