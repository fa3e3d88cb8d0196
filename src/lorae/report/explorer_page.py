"""The page of an explorer: its template, filled."""

import base64
import hashlib
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jinja2

from lorae import __version__

SCRIPTS = ("decoder.js", "explorer_pictures.js", "explorer_map.js", "explorer.js")
"""The parts of the page's script, which share one scope, in order."""


def render(
    content: dict[str, Any],
    title: str,
    errors_by_rank: Sequence[tuple[int, float]],
    draws: int,
    *,
    is_test: bool,
) -> str:
    """Return the page.

    Args:
        content: what the script reads, as values that JSON can hold.
        title: the heading.
        errors_by_rank: ranks and errors of a path, to be plotted; may be empty.
        draws: the number of random draws.
        is_test: whether the samples are test samples beside training samples.
    """
    environment = templates()
    script = "".join(_source(environment, name) for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    totals = [min(total, 1.0) for total in itertools.accumulate(content["shares"])]
    return environment.get_template("explorer.html.j2").render(
        content=content,
        title=title,
        headline=_headline(totals),
        count=content["count"],
        is_test=is_test,
        totals=totals,
        spectrum_text=_spectrum_text(totals),
        spectrum_ticks=_ticks(len(totals)),
        ranks=_rank_points(errors_by_rank),
        draws=draws,
        script=script,
        script_hash=f"sha256-{digest}",
        version=__version__,
    )


def templates() -> jinja2.Environment:
    """Return the templates of this package, whose variables are escaped and must all be given."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("lorae.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(environment: jinja2.Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _headline(totals: Sequence[float]) -> str:
    """Return how much of the variance the coordinates carry.

    Example:
        >>> _headline([0.6, 0.9, 0.95])
        '3 coordinates carry 95 % of the variance of the data, the first 2 of them 90 %.'
        >>> _headline([1e-6])
        'Reconstructions are no closer to the samples than their mean is.'
    """
    if totals[-1] < 1e-3:
        return "Reconstructions are no closer to the samples than their mean is."
    whole = f"{100 * totals[-1]:.3g} % of the variance of the data"
    if len(totals) == 1:
        return f"1 coordinate carries {whole}."
    most = next(k for k, total in enumerate(totals, 1) if total >= 0.9 * totals[-1])
    start = f"{len(totals)} coordinates carry {whole}"
    if most == len(totals):
        return f"{start}."
    first = "the first of them" if most == 1 else f"the first {most} of them"
    return f"{start}, {first} {100 * totals[most - 1]:.3g} %."


def _spectrum_text(totals: Sequence[float]) -> str:
    places = sorted({1, *(k for k in (2, 5, 10, 20, 50) if k < len(totals)), len(totals)})
    parts = [f"{100 * totals[k - 1]:.3g} % by the first {k}" for k in places]
    return f"Share of the variance carried: {', '.join(parts)}"


def _ticks(count: int) -> list[int]:
    """Return numbers of coordinates for an axis.

    Example:
        >>> _ticks(3), _ticks(20)
        ([1, 2, 3], [1, 5, 10, 15, 20])
    """
    step = next((step for step in (1, 2, 5, 10) if count <= 8 * step), 10)
    return [1, *range(step if step > 1 else 2, count + 1, step)]


def _rank_points(errors: Sequence[tuple[int, float]]) -> list[dict[str, Any]]:
    """Return the points of error against rank, with places in [0, 1] from the left and the top."""
    kept = sorted((rank, error) for rank, error in errors if error > 0)
    if len(kept) < 2:
        return []
    ranks, levels = [rank for rank, _ in kept], [math.log(error) for _, error in kept]
    width, height = max(ranks) - min(ranks) or 1, max(levels) - min(levels) or 1.0
    points, free = [], -1.0
    for (rank, error), level in zip(kept, levels, strict=True):
        x = (rank - min(ranks)) / width
        points.append(
            {"rank": rank, "error": error, "x": x, "y": (max(levels) - level) / height}
            | {"tick": x >= free}
        )
        free = x + 0.08 if x >= free else free
    return points
