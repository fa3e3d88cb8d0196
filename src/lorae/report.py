"""The report: one HTML file about one or several runs, which opens offline.

It is made of what the run folders hold and of the data they name. Numbers come from the last
line of `metrics.jsonl`, over all test samples; pictures are made here by the saved models. The
page refers to nothing outside itself, and the same runs always give the same bytes.
"""

import collections
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import torch
from jaxtyping import Float, Int
from markupsafe import Markup
from torch import Tensor

import lorae
from lorae import figures, spectral
from lorae.autoencoder import Autoencoder, as_float, encode_all
from lorae.data import Data
from lorae.densities import Gaussian
from lorae.errors import InputError
from lorae.evaluation import RANK_THRESHOLD
from lorae.figures import Picture, Series
from lorae.files import write_atomic
from lorae.options import Options
from lorae.runs import Run

FITTED = 10_000
"""Training codes on which a Gaussian is fitted, at most."""
MATRIX_THRESHOLDS = (1e-2, 1e-5)
"""Relative thresholds of the rank of M; the second counts what an exact zero leaves."""
SEED = 0
"""Seed of what the report itself draws."""

_COLUMNS, _PAIRS, _DRAWN = 10, 4, 40  # images in a row, interpolations, images drawn
_ROWS, _HISTOGRAMS, _VECTORS = 24, 6, 2000  # columns with an R^2 shown, with a histogram; samples
_PIXELS = 2_500_000  # about as many for all pictures together


def write_report(runs: Sequence[Run], path: Path) -> Path:
    """Write the report of finished runs, atomically, and return its path.

    Args:
        runs: in the order in which they are shown; a folder given twice is shown once.
        path: the HTML file, replaced if it exists.

    Raises:
        InputError: if there is no run, one has not ended or is damaged, or its data are missing
            or not those it was trained on.
        OSError: if the file cannot be written; an old one stays.
    """
    entries = _entries(list({run.path.resolve(): run for run in runs}.values()))
    if not entries:
        raise InputError("report needs at least one run, got none")
    by_data: dict[str, list[Entry]] = {}
    for entry in entries:
        by_data.setdefault(entry.checksum, []).append(entry)
    side = _side(entries)
    groups = [_group(number, part, side) for number, part in enumerate(by_data.values())]
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            entries=entries,
            groups=groups,
            differing=_differing(entries),
            thresholds=spectral.THRESHOLDS,
            matrix_thresholds=MATRIX_THRESHOLDS,
            rank_threshold=RANK_THRESHOLD,
            version=lorae.__version__,
        )
    )
    write_atomic(path, page.encode(errors="replace"))
    return path


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
    def error(self) -> float:
        """The mean squared error over all elements of the test samples, in scaled units."""
        return float(self.final["test"]["reconstruction"])

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
        if self.run.options["model"] == "ae":
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


def _entries(runs: Sequence[Run]) -> list[Entry]:
    """Read the runs, and check that they hold all that the report reads."""
    return [
        _entry(*numbered) for numbered in zip(runs, _names(runs), range(len(runs)), strict=True)
    ]


def _entry(run: Run, name: str, index: int) -> Entry:
    model, metrics = run.model(), run.metrics()
    if not metrics or not metrics[-1].get("final"):
        raise InputError(
            f"run {str(run.path)!r} has no final line in its metrics.jsonl: the file was cut, or "
            f"its training has not ended"
        )
    entry = Entry(run, name, index, model, metrics)
    try:
        _ = entry.checksum, entry.error, entry.rank, entry.matrix_ranks, entry.final["seconds"]
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"run {str(run.path)!r} was made by another version: its config.json or metrics.jsonl "
            f"lacks what a report needs"
        ) from None
    return entry


def _names(runs: Sequence[Run]) -> list[str]:
    """Return the ends of the runs' paths, as long as it takes to tell them apart."""
    parts = [run.path.resolve().parts for run in runs]
    most = max((len(path) for path in parts), default=1)
    for length in range(1, most + 1):
        names = ["/".join(path[-length:]) for path in parts]
        if len(set(names)) == len(names):
            break
    return [printable(name) for name in names]


def printable(text: str) -> str:
    """Return a text with a replacement character for each that cannot be shown.

    Example:
        >>> printable("a" + chr(0) + "b")
        'a�b'
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _differing(entries: Sequence[Entry]) -> set[str]:
    """Return the names of the options in which the runs differ."""
    names = {name for entry in entries for name in entry.options}
    return {name for name in names if len({str(e.options.get(name)) for e in entries}) > 1}


def _side(entries: Sequence[Entry]) -> int:
    """Return the greatest side of an image in pixels, less where there are many."""
    images = len(entries) * (_COLUMNS + _PAIRS * _COLUMNS + _DRAWN) + _COLUMNS
    return max(32, min(96, math.isqrt(_PIXELS // images)))


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

    def unit(self, samples: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return images, given in their own units, with values from 0 to 1."""
        assert self.data.value_range is not None
        low, high = self.data.value_range
        scaled = (samples - self.data.shift) / self.data.scale
        return (scaled - low) / (high - low)


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


@dataclass(frozen=True)
class Finding:
    """Which of the runs on one data set tell the most.

    Args:
        lowest: the run of least rank; of several, the one of least error.
        best: the run of least error.
        plain: the plain autoencoder of least error, None where there is none.
        close: of the others whose error is at most 10% above the plain one's, that of least rank.
    """

    lowest: Entry
    best: Entry
    plain: Entry | None
    close: Entry | None

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> "Finding":
        """Choose from the runs."""
        ae = [entry for entry in entries if entry.options["model"] == "ae"]
        plain = min(ae, key=_by_error, default=None)
        allowed = 1.1 * plain.error if plain else 0.0
        close = [entry for entry in entries if entry.error <= allowed and entry not in ae]
        return cls(
            lowest=min(entries, key=_by_rank),
            best=min(entries, key=_by_error),
            plain=plain,
            close=min(close, key=_by_rank, default=None),
        )


def _by_rank(entry: Entry) -> tuple[int, float]:
    return entry.rank, entry.error


def _by_error(entry: Entry) -> float:
    return entry.error


@dataclass(frozen=True)
class Group:
    """Runs on the same data, and what is shown of them.

    Args:
        key: a word that no other group has.
        name: of the data set.
        entries: the runs.
        about: how many samples of what.
        finding: which runs tell the most.
        spectra: plots of the singular values, and of error against rank.
        training: plots over the course of training.
        fitted: how many training codes each Gaussian was fitted on.
        images: whether the samples are images; if not, what follows is of columns.
        reconstructions: rows of images, the originals first; else empty.
        interpolations: grids of images, one for each run; else empty.
        drawn: grids of images, one for each run; else empty.
        determination: plot of R^2 by column; else empty.
        determined: how many columns it shows, of how many, and the mean R^2 of each run.
        marginals: histograms by column; else empty.
    """

    key: str
    name: str
    entries: list[Entry]
    about: str
    finding: Finding
    spectra: list[tuple[str, Markup]]
    training: list[tuple[str, Markup]]
    fitted: int
    images: bool
    reconstructions: Sequence[Shown] = ()
    interpolations: Sequence[Shown] = ()
    drawn: Sequence[Shown] = ()
    determination: Markup = Markup()  # noqa: RUF009 - immutable, like the text it is
    determined: tuple[int, int, Sequence[str]] = (0, 0, ())
    marginals: Sequence[tuple[str, Markup]] = ()


def _group(number: int, entries: list[Entry], side: int) -> Group:
    data = _load(entries[0])
    choice, key = Choice.of(data), f"g{number}"
    images = len(data.shape) == 3
    size = " × ".join(map(str, data.shape))
    kind = f"{size} (channels, height, width)" if images else f"{size} columns"
    return Group(
        key=key,
        name=printable(data.name),
        entries=entries,
        about=f"{len(data.train):,} training and {len(data.test):,} test samples of {kind}",
        finding=Finding.of(entries),
        spectra=_spectra(entries, key),
        training=_training(entries, key),
        fitted=len(choice.train),
        images=images,
        **(_pictures(entries, choice, side) if images else _vectors(entries, choice, key)),
    )


def _load(entry: Entry) -> Data:
    data = Options.from_dict(entry.options).load()
    if data.checksum != entry.checksum:
        raise InputError(
            f"the data {entry.options['data']!r} are not those that run {str(entry.run.path)!r} "
            f"was trained on: their checksum differs"
        )
    return data


def _spectra(entries: Sequence[Entry], key: str) -> list[tuple[str, Markup]]:
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
    if len(entries) > 2:
        plots.append(("Test error against rank", _trade(entries, key)))
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


def _training(entries: Sequence[Entry], key: str) -> list[tuple[str, Markup]]:
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
    lines = [line for line in entry.metrics if not line["final"] and name in line.get(part, {})]
    return entry.series([line["step"] for line in lines], [line[part][name] for line in lines])


def _pictures(entries: Sequence[Entry], choice: Choice, side: int) -> dict[str, Any]:
    """Return the pictures of a group, as fields of it."""
    originals = figures.grid(choice.unit(choice.shown), _COLUMNS, side=side, width=700)
    return {
        "reconstructions": [Shown(None, originals)]
        + [Shown(e, _reconstructed(e, choice, side), f"error {short(e.error)}") for e in entries],
        "interpolations": [Shown(e, _interpolated(e, choice, side)) for e in entries],
        "drawn": [
            Shown(
                e,
                figures.grid(choice.unit(_drawn(e, choice, _DRAWN)), _COLUMNS, side=side),
                f"rank {e.rank}",
            )
            for e in entries
        ],
    }


@torch.no_grad()
def _reconstructed(entry: Entry, choice: Choice, side: int) -> Picture:
    made = choice.unit(entry.model(choice.shown))
    return figures.grid(made, _COLUMNS, side=side, width=700)


@torch.no_grad()
def _interpolated(entry: Entry, choice: Choice, side: int) -> Picture:
    """Return rows of a test sample, what lies between it and another, and the other."""
    a, b = entry.model.encode(choice.starts), entry.model.encode(choice.ends)
    t = torch.linspace(0, 1, _COLUMNS - 2)[:, None]
    codes = torch.lerp(a[:, None], b[:, None], t)
    between = entry.model.decode(codes.flatten(0, 1)).reshape(*codes.shape[:2], *choice.data.shape)
    rows = torch.cat([choice.starts[:, None], between, choice.ends[:, None]], 1)
    return figures.grid(choice.unit(rows.flatten(0, 1)), _COLUMNS, side=side, framed=True)


@torch.no_grad()
def _drawn(entry: Entry, choice: Choice, n: int) -> Float[Tensor, "n *shape"]:
    """Return samples decoded from a Gaussian fitted to the codes of training samples."""
    size = max(1, min(500, 4_000_000 // choice.train[0].numel()))
    codes = encode_all(entry.model, choice.train, size)
    return entry.model.decode(Gaussian().fit(codes).sample(n, _generator()))


def _vectors(entries: Sequence[Entry], choice: Choice, key: str) -> dict[str, Any]:
    """Return the plots of a group whose samples are vectors, as fields of it."""
    data, shape = choice.data, choice.data.shape
    columns = data.columns or tuple(f"column {k + 1}" for k in range(shape[0]))
    names = [printable(column) for column in columns]
    r2 = torch.stack([_determination(entry.model, data.test) for entry in entries])
    worst = r2.mean(0).nan_to_num(math.inf).argsort()[:_ROWS].tolist()
    drawn = [_drawn(entry, choice, _VECTORS) for entry in entries]
    return {
        "determination": figures.points(
            [
                entry.series(r2[k, worst].tolist(), list(range(len(worst))))
                for k, entry in enumerate(entries)
            ],
            key=f"{key}-r2",
            alt=f"R² of the reconstruction for {len(worst)} columns, a point for each run.",
            labels=("R²", ""),
            names=[names[column] for column in worst],
        ),
        "determined": (
            len(worst),
            len(names),
            [f"mean R² {float(row.nanmean()):.3f}" for row in r2],
        ),
        "marginals": [
            (
                names[j],
                figures.histogram(
                    data.test[:, j].tolist(),
                    [e.series([], x[:, j].tolist()) for e, x in zip(entries, drawn, strict=True)],
                    key=f"{key}-column-{j}",
                    alt=f"Density of {names[j]} in the test data and in samples of each run.",
                    label=names[j],
                ),
            )
            for j in range(min(_HISTOGRAMS, len(names)))
        ],
    }


@torch.no_grad()
def _determination(model: Autoencoder, samples: Tensor) -> Float[Tensor, " d"]:
    """Return R^2 by column, NaN where the samples do not vary."""
    x = as_float(samples)
    wrong = (model(x) - x).double().square().sum(0)
    spread = (x.double() - x.double().mean(0)).square().sum(0)
    return torch.where(spread > 0, 1 - wrong / spread, math.nan)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lorae"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "short": short,
        "power": figures.power,
        "duration": duration,
        "compared": compared,
    }
    return environment


def short(value: float) -> str:
    """Return a number to four digits.

    Example:
        >>> short(0.0123456), short(0.5), short(1.5e-6)
        ('0.01235', '0.5000', '1.500e-6')
    """
    text = f"{value:#.4g}"
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def duration(seconds: float) -> str:
    """Return a time in its natural unit.

    Example:
        >>> duration(35.587), duration(600), duration(9000)
        ('36 s', '10.0 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def compared(error: float, reference: float) -> str:
    """Return how an error compares with another, in words that "that of" may follow.

    Example:
        >>> compared(0.5, 0.25), compared(0.26, 0.25), compared(0.2, 0.25), compared(1.0, 0.0)
        ('2.0 times', '4.0% above', '20% below', 'above')
    """
    if reference in (0, error):
        return "above" if error > reference else "equal to"
    if error >= 2 * reference:
        return f"{error / reference:.1f} times"
    percent = 100 * abs(error / reference - 1)
    digits = 0 if percent >= 10 else 1
    return f"{percent:.{digits}f}% {'above' if error > reference else 'below'}"
