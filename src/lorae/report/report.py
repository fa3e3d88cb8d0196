"""The report: one HTML file about one or several runs, which opens offline.

It is made of what the run folders hold and of the data they name. Numbers come from the last
line of `metrics.jsonl`, over all test samples; pictures are made here by the saved models. The
page refers to nothing outside itself, and the same runs always give the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from lorae import __version__
from lorae.errors import InputError
from lorae.linalg import spectral
from lorae.report import figures
from lorae.report.entries import MATRIX_THRESHOLDS, Entry, printable, short
from lorae.report.exhibits import (
    Choice,
    Scores,
    Shown,
    columns,
    image_side,
    pictures,
    score_tables,
    spectra,
    training_curves,
)
from lorae.training.evaluation import RANK_THRESHOLD
from lorae.training.options import data_of
from lorae.training.run_folder import Run
from lorae.utils.files import write_atomic


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
    side = image_side(entries)
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
            version=__version__,
        )
    )
    write_atomic(path, page.encode(errors="replace"))
    return path


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


def _differing(entries: Sequence[Entry]) -> set[str]:
    """Return the names of the options in which the runs differ."""
    names = {name for entry in entries for name in entry.options}
    return {name for name in names if len({str(e.options.get(name)) for e in entries}) > 1}


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
    def of(cls, entries: Sequence[Entry]) -> "Finding | None":
        """Choose from the runs that reconstruct; None where there is no such run."""
        entries = [entry for entry in entries if entry.inverts]
        if not entries:
            return None
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
        finding: which runs tell the most, None where no run reconstructs.
        spectra: plots of the singular values, and of error against rank.
        scores: tables of what `lorae evaluate` has found; else empty.
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
    finding: Finding | None
    spectra: list[tuple[str, Markup]]
    scores: list[Scores]
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
    data = data_of(entries[0].run)
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
        spectra=spectra(entries, key),
        scores=score_tables(entries),
        training=training_curves(entries, key),
        fitted=len(choice.train),
        images=images,
        **(pictures(entries, choice, side) if images else columns(entries, choice, key)),
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lorae.report"),
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
