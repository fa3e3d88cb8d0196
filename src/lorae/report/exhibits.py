"""What a report shows of runs: their figures, plots of them, and pictures made by their models."""

import collections
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from markupsafe import Markup
from torch import Tensor

from lorae.data.datasets import Data
from lorae.metrics.evaluations import recorded, told
from lorae.metrics.scores import PARTS
from lorae.nn.autoencoder import Autoencoder, encode_all
from lorae.report import figures
from lorae.report.entries import Entry, printable, short
from lorae.report.figures import Series
from lorae.report.image_grids import Picture, grid
from lorae.sampling.densities import density_for
from lorae.training.evaluation import RANK_THRESHOLD
from lorae.utils.intervals import Interval
from lorae.utils.samples import as_float

FITTED = 10_000
"""Training codes on which a Gaussian is fitted, at most."""
SEED = 0
"""Seed of what the report itself draws."""

_COLUMNS, _PAIRS, _DRAWN = 10, 4, 40  # images in a row, interpolations, images drawn
_ROWS, _HISTOGRAMS, _VECTORS = 24, 6, 2000  # columns with an R^2 shown, with a histogram; samples
_PIXELS = 2_500_000  # about as many for all pictures together


@dataclass(frozen=True)
class Choice:
    """The samples of a data set that the report uses.

    Args:
        data: the data set.
        shown: test samples to be reconstructed, m of them.
        starts: test samples from which the interpolations start.
        ends: test samples at which they end.
        train: training samples on whose codes the Gaussian is fitted.
    """

    data: Data
    shown: Float[Tensor, "m *shape"]
    starts: Float[Tensor, "k *shape"]
    ends: Float[Tensor, "k *shape"]
    train: Tensor

    @classmethod
    def of(cls, data: Data) -> "Choice":
        """Draw the samples, by the report's seed."""
        order = _varied(len(data.test), data.test_labels, _COLUMNS + 2 * _PAIRS)
        places = torch.arange(_COLUMNS, _COLUMNS + 2 * _PAIRS) % len(order)
        starts, ends = as_float(data.test[order[places]]).chunk(2)
        drawn = torch.randperm(len(data.train), generator=_generator())[:FITTED]
        return cls(
            data=data,
            shown=as_float(data.test[order[:_COLUMNS]]),
            starts=starts,
            ends=ends,
            train=data.train[drawn.sort().values],
        )


def _varied(count: int, labels: Int[Tensor, " n"] | None, most: int) -> Int[Tensor, " m"]:
    """Return a random order's first places, one of each label before a second of any."""
    order = torch.randperm(count, generator=_generator())
    if labels is None or labels.ndim != 1:
        return order[:most]
    seen: collections.Counter[int] = collections.Counter()
    turns = []
    for place, label in enumerate(labels[order].tolist()):
        turns.append((seen[label], label, place))
        seen[label] += 1
    return order[[place for _, _, place in sorted(turns)[:most]]]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


@dataclass(frozen=True)
class Shown:
    """Something the models made, of one run or of none.

    Args:
        entry: the run, None for the data themselves.
        picture: the picture.
        note: a few words about it.
    """

    entry: Entry | None
    picture: Picture
    note: str = ""


def image_side(entries: Sequence[Entry]) -> int:
    """Return the greatest side of an image in pixels, less where there are many."""
    images = len(entries) * (_COLUMNS + _PAIRS * _COLUMNS + _DRAWN) + _COLUMNS
    return max(32, min(96, math.isqrt(_PIXELS // images)))


def spectra(entries: Sequence[Entry], key: str) -> list[tuple[str, Markup]]:
    """Return plots of the singular values, and of error against rank, with their titles."""
    series = [_spectrum(entry) for entry in entries]
    labels = ("index", "singular value / largest")
    what = "Singular values of the covariance of the test codes, each divided by the largest, "
    plots = [
        (
            "Singular values, linear scale",
            figures.lines(
                series,
                key=f"{key}-linear",
                alt=what + "on a linear scale; " + _told(entries),
                labels=labels,
                limits=(0, 1.03),
            ),
        ),
        (
            "Singular values, log scale",
            figures.lines(
                series,
                key=f"{key}-log",
                alt=what + "on a log scale; " + _told(entries),
                labels=labels,
                log=True,
                limits=(1e-7, 2),
                level=RANK_THRESHOLD,
            ),
        ),
    ]
    inverting = [entry for entry in entries if entry.inverts]
    if len(inverting) > 2:
        plots.append(("Test error against rank", _trade(inverting, key)))
    return plots


def _spectrum(entry: Entry) -> Series:
    normalised = entry.covariance / entry.covariance.max().clamp(min=1e-300)
    index = range(1, entry.latent + 1)
    mark = (float(entry.rank), float(normalised[entry.rank - 1])) if entry.rank else None
    return entry.series(list(index), normalised.tolist(), mark)


def _told(entries: Sequence[Entry]) -> str:
    return "rank " + ", ".join(f"{e.rank} for {e.name}" for e in entries) + "."


def _trade(entries: Sequence[Entry], key: str) -> Markup:
    errors = ", ".join(f"{e.name} {short(e.error)} at {e.rank}" for e in entries)
    return figures.points(
        [entry.series([entry.rank], [entry.error]) for entry in entries],
        key=f"{key}-trade",
        alt=f"Test error against rank, a point for each run: {errors}.",
        labels=(f"rank at {figures.power(RANK_THRESHOLD)}", "test error"),
    )


@dataclass(frozen=True)
class Scores:
    """A part of the evaluations of several runs, as a table.

    Args:
        part: which.
        entries: the runs that have it.
        rows: name, of what, and for each run mean and half the interval, or None.
        protocols: what is to be known of how they were made, the same for all but one each.
    """

    part: str
    entries: list[Entry]
    rows: list[tuple[str, str, list[Interval | None]]]
    protocols: list[str]


def score_tables(entries: Sequence[Entry]) -> list[Scores]:
    """Return a table for each part of an evaluation that at least one run has."""
    tables = []
    for part in PARTS:
        having = [e for e in entries if any(score.part == part for score in e.scores)]
        found = [{(s.name, s.of): s.interval for s in e.scores if s.part == part} for e in having]
        keys = list(dict.fromkeys(key for one in found for key in one))
        rows = [(name, of, [one.get((name, of)) for one in found]) for name, of in keys]
        stated = [told(recorded(entry.run)[part]["protocol"]) for entry in having]
        if having:
            tables.append(Scores(part, having, rows, list(dict.fromkeys(stated))))
    return tables


def training_curves(entries: Sequence[Entry], key: str) -> list[tuple[str, Markup]]:
    """Return plots over the course of training, with their titles."""
    curves = {
        "Training loss": ("loss", True, [_curve(e, "train", "loss") for e in entries]),
        "Held-out error": (
            "mean squared error",
            True,
            [_curve(e, "test", "reconstruction") for e in entries],
        ),
        "Rank": (
            f"rank at {figures.power(RANK_THRESHOLD)}",
            False,
            [_curve(e, "test", "rank") for e in entries],
        ),
    }
    return [
        (
            title,
            figures.lines(
                series,
                key=f"{key}-{title.split()[0].lower()}",
                alt=f"{title} over the steps of training, a line for each run.",
                labels=("optimizer step", label),
                log=log,
                limits=(None, None) if log else (0, None),
                counts=not log,
            ),
        )
        for title, (label, log, series) in curves.items()
    ]


def _curve(entry: Entry, part: str, name: str) -> Series:
    known = [line for line in entry.metrics if line.get(part, {}).get(name) is not None]
    lines = [line for line in known if not line["final"]]
    return entry.series([line["step"] for line in lines], [line[part][name] for line in lines])


def pictures(entries: Sequence[Entry], choice: Choice, side: int) -> dict[str, Any]:
    """Return pictures of images, as the fields of a report's group."""
    originals = grid(choice.data.unit(choice.shown), _COLUMNS, side=side, width=700)
    return {
        "reconstructions": [Shown(None, originals)]
        + [
            Shown(e, _reconstructed(e, choice, side), f"error {short(e.error)}")
            for e in entries
            if e.inverts
        ],
        "interpolations": [
            Shown(e, _interpolated(e, choice, side), "" if e.inverts else "between codes drawn")
            for e in entries
        ],
        "drawn": [
            Shown(
                e,
                grid(choice.data.unit(_drawn(e, choice, _DRAWN)), _COLUMNS, side=side),
                f"from its prior, spread {e.spread:.2f}"
                if e.spread is not None
                else f"from a Gaussian, rank {e.rank}",
            )
            for e in entries
        ],
    }


@torch.no_grad()
def _reconstructed(entry: Entry, choice: Choice, side: int) -> Picture:
    made = choice.data.unit(entry.model(choice.shown))
    return grid(made, _COLUMNS, side=side, width=700)


@torch.no_grad()
def _interpolated(entry: Entry, choice: Choice, side: int) -> Picture:
    """Return rows of a test sample, what lies between it and another, and the other.

    A model that does not reconstruct has rows between codes of its prior.
    """
    t = torch.linspace(0, 1, _COLUMNS - 2 if entry.inverts else _COLUMNS)[:, None]
    if entry.inverts:
        a, b = entry.model.encode(choice.starts), entry.model.encode(choice.ends)
    else:
        a, b = density_for(entry.model).sample(2 * _PAIRS, _generator()).chunk(2)
    codes = torch.lerp(a[:, None], b[:, None], t)
    between = entry.model.decode(codes.flatten(0, 1)).reshape(*codes.shape[:2], *choice.data.shape)
    if not entry.inverts:
        return grid(choice.data.unit(between.flatten(0, 1)), _COLUMNS, side=side)
    rows = torch.cat([choice.starts[:, None], between, choice.ends[:, None]], 1)
    return grid(choice.data.unit(rows.flatten(0, 1)), _COLUMNS, side=side, framed=True)


@torch.no_grad()
def _drawn(entry: Entry, choice: Choice, n: int) -> Float[Tensor, "n *shape"]:
    """Return samples decoded from the prior, or a Gaussian fitted to codes of training samples."""
    size = max(1, min(500, 4_000_000 // choice.train[0].numel()))
    density = density_for(entry.model)
    if not entry.model.prior:
        density.fit(encode_all(entry.model, choice.train, size))
    return entry.model.decode(density.sample(n, _generator()))


def columns(entries: Sequence[Entry], choice: Choice, key: str) -> dict[str, Any]:
    """Return plots of vectors by column, as the fields of a report's group."""
    data, shape = choice.data, choice.data.shape
    columns = data.columns or tuple(f"column {k + 1}" for k in range(shape[0]))
    names = [printable(column) for column in columns]
    inverting = [entry for entry in entries if entry.inverts]
    r2 = torch.stack(
        [_determination(entry.model, data.test) for entry in inverting]
        or [torch.full((len(names),), math.nan, dtype=torch.float64)]
    )
    worst = r2.mean(0).nan_to_num(math.inf).argsort()[:_ROWS].tolist()
    return {
        "determination": figures.points(
            [
                entry.series(r2[k, worst].tolist(), list(range(len(worst))))
                for k, entry in enumerate(inverting)
            ],
            key=f"{key}-r2",
            alt=f"R² of the reconstruction for {len(worst)} columns, a point for each run.",
            labels=("R²", ""),
            names=[names[column] for column in worst],
        ),
        "determined": (
            len(worst),
            len(names),
            [f"mean R² {float(row.nanmean()):.3f}" for row in r2[: len(inverting)]],
        ),
        "marginals": _marginals(entries, choice, names, key),
    }


def _marginals(
    entries: Sequence[Entry], choice: Choice, names: Sequence[str], key: str
) -> list[tuple[str, Markup]]:
    """Return a histogram of each of the first columns, in the data and in what is drawn."""
    drawn = [_drawn(entry, choice, _VECTORS) for entry in entries]
    return [
        (
            name,
            figures.histogram(
                choice.data.test[:, j].tolist(),
                [e.series([], x[:, j].tolist()) for e, x in zip(entries, drawn, strict=True)],
                key=f"{key}-column-{j}",
                alt=f"Density of {name} in the test data and in samples of each run.",
                label=name,
            ),
        )
        for j, name in enumerate(names[:_HISTOGRAMS])
    ]


@torch.no_grad()
def _determination(model: Autoencoder, samples: Tensor) -> Float[Tensor, " d"]:
    """Return R^2 by column, NaN where the samples do not vary."""
    x = as_float(samples)
    wrong = (model(x) - x).double().square().sum(0)
    spread = (x.double() - x.double().mean(0)).square().sum(0)
    return torch.where(spread > 0, 1 - wrong / spread, math.nan)
