"""The report: one HTML file about one or several runs, which opens offline.

It is made from run folders and the data that they name: numbers come from the last line of
`metrics.jsonl`, over all test samples; the saved models make the images. The page refers to nothing
outside itself, and the same runs always give the same bytes.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from lorae import __version__
from lorae.errors import InputError
from lorae.linalg import spectral
from lorae.report.explorer_page import templates
from lorae.report.runs import MATRIX_THRESHOLDS, RunSummary, read_runs
from lorae.report.sections import Section, image_side
from lorae.report.sweeps import group_by_data
from lorae.training.evaluation import RANK_THRESHOLD
from lorae.training.options import data_of
from lorae.training.run_folder import Run
from lorae.utils.files import write_atomic
from lorae.utils.plots import colour_of
from lorae.utils.text import format_duration


def write_report(runs: Sequence[Run], path: Path) -> Path:
    """Write the report of finished runs, atomically, and return its path.

    Args:
        runs: in the order of the page; a folder given twice is shown once.
        path: the HTML file, replaced if it exists.

    Raises:
        InputError: if there is no run, one has not ended or is damaged, or its data are missing
            or not those it was trained on.
        OSError: if the file cannot be written; an old one stays.
    """
    summaries = read_runs(list({run.path.resolve(): run for run in runs}.values()))
    if not summaries:
        raise InputError("runs must be at least one run, got none")
    environment = templates()
    environment.filters |= {"duration": format_duration, "compared": compare}
    page = environment.get_template("report.html.j2").render(
        runs=summaries,
        sections=[
            Section(f"s{number}", part, data_of(part[0].folder), image_side(summaries))
            for number, part in enumerate(group_by_data(summaries))
        ],
        differing=_differing(summaries),
        show_models=any(run.name != run.options["model"] for run in summaries),
        colour_of=colour_of,
        effective_rank=spectral.effective_rank,
        participation_ratio=spectral.participation_ratio,
        show_spread=any(run.spread is not None for run in summaries),
        thresholds=spectral.THRESHOLDS,
        matrix_thresholds=MATRIX_THRESHOLDS,
        rank_threshold=RANK_THRESHOLD,
        explorers=_explorers(summaries, path),
        version=__version__,
    )
    write_atomic(path, page.encode(errors="replace"))
    return path


def _explorers(runs: Sequence[RunSummary], path: Path) -> list[tuple[str, str]]:
    """Return the runs whose folders hold an explorer, with its address relative to the report."""
    found = []
    for run in runs:
        explorer = run.folder.path / "explorer.html"
        if explorer.is_file():
            relative = os.path.relpath(explorer.resolve(), path.resolve().parent)
            found.append((run.name, quote(Path(relative).as_posix())))
    return found


def _differing(runs: Sequence[RunSummary]) -> set[str]:
    """Return the names of the options in which the runs differ."""
    names = {name for run in runs for name in run.options}
    return {name for name in names if len({str(run.options.get(name)) for run in runs}) > 1}


def compare(error: float, reference: float) -> str:
    """Return how an error compares with another, in words that "that of" may follow.

    Example:
        >>> compare(0.5, 0.25), compare(0.26, 0.25), compare(0.2, 0.25), compare(1.0, 0.0)
        ('2.0 times', '4.0% above', '20% below', 'above')
    """
    if reference in (0, error):
        return "above" if error > reference else "equal to"
    if error >= 2 * reference:
        return f"{error / reference:.1f} times"
    percent = 100 * abs(error / reference - 1)
    digits = 0 if percent >= 10 else 1
    return f"{percent:.{digits}f}% {'above' if error > reference else 'below'}"
