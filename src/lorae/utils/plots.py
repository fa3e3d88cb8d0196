"""Curves, as SVG files that stand alone."""

import io
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib import style
from matplotlib.figure import Figure

_STYLE = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "font.size": 9,
    "svg.hashsalt": "lorae",
}
_DASHES = ((), (5, 2), (2, 2), (6, 2, 1, 2))


class Curve(NamedTuple):
    """A curve by its label; its hue sets colour and dashes, its margin the band around it."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    hue: int = 0
    margin: Sequence[float] = ()


def drawing(
    curves: Sequence[Curve],
    title: str,
    labels: tuple[str, str],
    *,
    log: str = "",
    limits: tuple[float, float] | None = None,
    points: bool = False,
    mark: tuple[float, float, str] | None = None,
) -> bytes:
    """Return curves as an SVG file on a white ground; the same numbers give the same bytes.

    Args:
        curves: at least one; values that a logarithmic axis cannot show are left out.
        title: above them.
        labels: of the abscissa and the ordinate.
        log: which axes are logarithmic, "", "x", "y" or "xy".
        limits: of the ordinate.
        points: whether each point is marked.
        mark: a place to be ringed, and what to call it.
    """
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(4.6, 3.3), layout="constrained")
        axes = figure.add_subplot()
        for curve in curves:
            axes.plot(
                curve.x,
                curve.y,
                label=curve.label,
                color=f"C{curve.hue % 10}",
                dashes=_DASHES[curve.hue // 10 % len(_DASHES)] or (None, None),
                marker="o" if points else "",
                markersize=4,
            )
            if curve.margin:
                low, high = (
                    [y + sign * m for y, m in zip(curve.y, curve.margin, strict=True)]
                    for sign in (-1, 1)
                )
                axes.fill_between(curve.x, low, high, color=f"C{curve.hue % 10}", alpha=0.2)
        axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
        if "x" in log:
            axes.set_xscale("log")
        if "y" in log:
            axes.set_yscale("log")
        if limits is not None:
            axes.set_ylim(*limits)
        if mark is not None:
            x, y, name = mark
            axes.plot([x], [y], "o", markersize=11, markerfacecolor="none", color="black")
            axes.annotate(name, (x, y), (8, 8), textcoords="offset points", fontsize=8)
        axes.legend(frameon=False, fontsize=8)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()
