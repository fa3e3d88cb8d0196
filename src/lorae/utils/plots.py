"""Plots as SVG: curves, points and histograms.

A plot with a title stands alone: it has a legend and a white background. A plot without one belongs
on a page that names the curves, and has a transparent background. Text stays text, nothing refers
to another file, and the same numbers always give the same bytes. matplotlib is imported by the
first plot.
"""

import importlib
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lorae.utils.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0067a8", "#b83e00", "#00906b", "#7d2263", "#b88a00", "#3f9bd8", "#7f8791")
"""Colours of styles 0 to 6, distinct under every colour deficiency; later styles repeat them."""

GROUP_COLOURS = (*COLOURS[:6], "#d6478f", "#5a7d1a", "#6d4bc0", "#7f8791")
"""Colours of the groups of points on a map."""

DASHES: tuple[tuple[float, ...], ...] = ((), (5.0, 2.0), (1.6, 2.0), (6.0, 1.5, 1.2, 1.5))
"""Dashes and gaps in points, for styles 0 to 6, 7 to 13 and so on."""

_SIZE = re.compile(rb'viewBox="0 0 ([\d.]+) ([\d.]+)"')  # of an SVG file
_ROOT = re.compile(rb'<svg([^>]*?)width="[^"]*" height="[^"]*"')

_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#59626d",
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.xmargin": 0.02,
    "font.size": 9,
    "grid.color": "#dde2e7",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "svg.fonttype": "none",
    "svg.hashsalt": "lorae",
    "text.parse_math": False,
    "xtick.color": "#59626d",
    "ytick.color": "#59626d",
}


class Svg(bytes):
    """The content of an SVG file, which a notebook shows as a picture.

    Example:
        >>> from tempfile import mkdtemp
        >>> Svg(b"<svg/>").save(Path(mkdtemp()) / "a.svg").name
        'a.svg'
    """

    def _repr_svg_(self) -> str:
        return self.decode()

    def __repr__(self) -> str:
        return f"<plot of {len(self):,} bytes; save(path) writes it>"

    def save(self, path: str | Path) -> Path:
        """Write the file, atomically, and return its path."""
        write_atomic(Path(path), self)
        return Path(path)


@dataclass(frozen=True)
class Curve:
    """A curve, or the points of one kind.

    Args:
        label: its name in the legend.
        x: abscissae.
        y: ordinates; values that are not finite, or not positive on a log axis, leave gaps.
        style: decides the colour, and the dashes or the marker.
        margin: half the height of a band around the curve, one for each point.
        mark: abscissa and ordinate of a point to circle, and its name.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    style: int = 0
    margin: Sequence[float] = ()
    mark: tuple[float, float, str] | None = None


def plot_curves(
    curves: Sequence[Curve],
    labels: tuple[str, str],
    *,
    title: str = "",
    log: str = "",
    integer: str = "",
    limits: tuple[float | None, float | None] = (None, None),
    level: float | None = None,
    markers: bool = False,
) -> bytes:
    """Return an SVG file with curves.

    Args:
        curves: the curves.
        labels: of the abscissa and the ordinate.
        title: of a plot that stands alone; a plot for a page has none.
        log: which axes are logarithmic: "", "x", "y" or "xy".
        integer: which of the other axes have ticks at whole numbers only.
        limits: least and greatest ordinate, None for those of the curves.
        level: ordinate of a dotted horizontal line.
        markers: whether each point has a marker.

    Example:
        >>> plot_curves([Curve("a", [1, 2], [3.0, 4.0])], ("x", "y"), title="A line")[:5]
        b'<?xml'
    """
    with _axes(labels, title=title, log=log, integer=integer) as (axes, content):
        if level is not None:
            axes.axhline(level, color="#59626d", linewidth=0.8, linestyle=(0, (1, 2)))
        for one in curves:
            colour, y = colour_of(one.style), np.asarray(one.y, dtype=float)
            y = np.where(np.isfinite(y) & ((y > 0) | ("y" not in log)), y, np.nan)
            look: dict[str, Any] = {"color": colour, "linestyle": (0, dashes_of(one.style))}
            marker = "o" if markers or len(one.x) == 1 else ""
            axes.plot(one.x, y, label=one.label, marker=marker, **look)
            if one.margin:
                axes.fill_between(one.x, y - one.margin, y + one.margin, color=colour, alpha=0.2)
            if one.mark is not None:
                place, value, name = one.mark
                axes.plot([place, place], [0, value], color=colour, linewidth=0.8, alpha=0.6)
                axes.plot([place], [value], "o", color=colour, markerfacecolor="white", zorder=3)
                axes.annotate(name, (place, value), (8, 8), textcoords="offset points")
        axes.set_ylim(*limits)
        if title:
            axes.legend()
    return content.getvalue()


def plot_points(
    points: Sequence[Curve],
    labels: tuple[str, str],
    *,
    integer: str = "",
    names: Sequence[str] = (),
    legend: bool = False,
) -> bytes:
    """Return an SVG file with points; styles 7 to 13 are hollow, 14 to 20 squares.

    The name of a point's mark is written beside it.

    Args:
        points: the points of each kind.
        labels: of the abscissa and the ordinate.
        integer: which axes have ticks at whole numbers only: "", "x", "y" or "xy".
        names: of rows, counted from the top; the ordinates of the points are then rows.
        legend: whether the plot names the kinds of points.
    """
    height = 0.7 + 0.2 * len(names) if names else 2.9
    with _axes(labels, integer=integer, height=height) as (axes, content):
        axes.margins(0.06)
        for one in points:
            colour, turn = colour_of(one.style), one.style // len(COLOURS)
            hollow = "white" if turn % 2 else colour
            colours: dict[str, Any] = {"markeredgecolor": colour, "markerfacecolor": hollow}
            axes.plot(one.x, one.y, "os^D"[turn // 2 % 4], label=one.label, **colours)
            if one.mark is not None:
                at, name = one.mark[:2], _shorten(one.mark[2], 24)
                side = "right" if at[0] > np.mean(axes.get_xlim()) else "left"
                shift = (-6 if side == "right" else 6, 4)
                axes.annotate(name, at, shift, textcoords="offset points", ha=side, fontsize=8)
        if legend:
            axes.figure.legend(loc="outside lower center", ncols=3, fontsize=8, handletextpad=0.2)
        if names:
            axes.set_yticks(range(len(names)), [_shorten(name, 24) for name in names])
            axes.set_ylim(len(names) - 0.4, -0.6)
            # Long ones reach under the names.
            axes.set_xlabel(axes.get_xlabel(), loc="right", fontsize=8)
    return content.getvalue()


def plot_labelled(
    x: Sequence[float],
    y: Sequence[float],
    groups: Sequence[Any] | None,
    labels: Sequence[str],
) -> bytes:
    """Return an SVG file with points coloured by group, up to 10 of which a legend names.

    Args:
        x: abscissae.
        y: ordinates.
        groups: the group of each point, or None.
        labels: of the abscissa and the ordinate, the same if there is one.
    """
    with _axes((labels[0], labels[-1]), height=3.4) as (axes, content):
        kinds = sorted(set(groups or ()))
        if groups is None or len(kinds) > len(GROUP_COLOURS):
            axes.scatter(x, y, 6, c=groups or COLOURS[0], linewidths=0, alpha=0.8)
        else:
            for kind, colour in zip(kinds, GROUP_COLOURS, strict=False):
                rows = [k for k, group in enumerate(groups) if group == kind]
                u, v = [x[k] for k in rows], [y[k] for k in rows]
                axes.plot(u, v, "o", color=colour, markersize=2.5, alpha=0.8, label=str(kind))
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0, markerscale=2)
    return content.getvalue()


def plot_images(
    images: "np.ndarray[Any, Any]", rows: Sequence[str], columns: Sequence[str], *, title: str = ""
) -> bytes:
    """Return an SVG file with a grid of images, all in one range of gray or of colours.

    Args:
        images: rows x columns x c x h x w; three or more channels are shown as colours.
        rows: the name of each row.
        columns: the name of each column.
        title: of a plot that stands alone.
    """
    count, size = len(rows), images.shape[-1]
    low, high = float(images.min()), float(images.max())
    shown = (images[:, :, : 3 if images.shape[2] >= 3 else 1] - low) / max(high - low, 1e-30)
    colours = np.broadcast_to(shown, (*shown.shape[:2], 3, *shown.shape[3:]))
    opaque = np.concatenate([colours, np.ones_like(colours[:, :, :1])], 2).transpose(0, 1, 3, 4, 2)
    gap = max(1, size // 16)  # transparent
    padded = np.pad(opaque, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)))
    height, width = padded.shape[2:4]
    grid = padded.swapaxes(1, 2).reshape(count * height, len(columns) * width, 4)[:-gap, :-gap]
    share = len(grid) / grid.shape[1]
    tall = 0.7 + 4.2 * share if title else 0.5 + 3.2 * share
    with _axes(("", ""), title=title, height=tall) as (axes, content):
        # The viewer of the file scales the pixels, not matplotlib.
        axes.imshow(grid, interpolation="none")
        axes.grid(visible=False)
        centres = [
            (np.arange(n) + 0.5) * size - gap / 2 - 0.5
            for n, size in ((len(columns), width), (len(rows), height))
        ]
        axes.set_xticks(centres[0], columns)
        axes.set_yticks(centres[1], rows)
        axes.tick_params(length=0, labelsize=8 if len(columns) <= 6 else 6.5)
        axes.spines[:].set_visible(False)
    return content.getvalue()


def plot_histograms(
    reference: Sequence[float],
    samples: Mapping[int, Sequence[float]],
    label: str,
) -> bytes:
    """Return an SVG file with the density of a reference as an area, and those of samples as lines.

    Args:
        reference: values, whose middle 99% 30 bins cover.
        samples: values by the style of their line.
        label: of the abscissa.
    """
    low, high = np.quantile(reference, [0.005, 0.995])
    edges = np.linspace(low, high if high > low else low + 1, 31)
    with _axes((_shorten(label, 40), "density")) as (axes, content):
        axes.stairs(_density(reference, edges), edges, fill=True, color="#dde2e7")
        for style, values in samples.items():
            look: dict[str, Any] = {"color": colour_of(style), "linestyle": (0, dashes_of(style))}
            axes.stairs(_density(values, edges), edges, linewidth=1.3, **look)
    return content.getvalue()


def stack_plots(plots: Sequence[bytes]) -> bytes:
    """Return an SVG file with the plots of others, one above the other, all as wide as the widest.

    Example:
        >>> plot = plot_curves([Curve("a", [1, 2], [3.0, 4.0])], ("x", "y"), title="A line")
        >>> stack_plots([plot, plot]).count(b"A line")
        2
    """
    sizes = [[float(x) for x in _SIZE.findall(plot)[0]] for plot in plots]
    width = max(size[0] for size in sizes)
    parts, top = [], 0.0
    for plot, size in zip(plots, sizes, strict=True):
        height = size[1] * width / size[0]
        place = f'y="{top:g}" width="{width:g}" height="{height:g}"'.encode()
        parts.append(_ROOT.sub(rb"<svg\1" + place, plot[plot.index(b"<svg") :], count=1))
        top += height
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {top:g}" '
    head += f'width="{width:g}pt" height="{top:g}pt">'
    return b"\n".join([b'<?xml version="1.0" encoding="utf-8"?>', head.encode(), *parts, b"</svg>"])


def _density(values: Sequence[float], edges: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Return the density of values in each bin, with respect to all values."""
    weights = np.full(len(values), 1 / max(len(values), 1))
    return np.histogram(values, edges, weights=weights)[0] / np.diff(edges)


def _import_matplotlib() -> None:
    """Import matplotlib even if MPLBACKEND names no backend, which these plots do not need."""
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        importlib.import_module("matplotlib")
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


@contextmanager
def _axes(
    labels: tuple[str, str],
    *,
    title: str = "",
    log: str = "",
    integer: str = "",
    height: float | None = None,
) -> Iterator[tuple["Axes", io.BytesIO]]:
    """Yield axes to draw on, and the file that holds the plot afterwards."""
    _import_matplotlib()
    from matplotlib import style
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MaxNLocator

    with style.context(["default", _STYLE]), warnings.catch_warnings():
        # Text is drawn by the viewer of the file, which has more typefaces than matplotlib.
        warnings.filterwarnings("ignore", message=".*missing from font")
        # A log axis of values that are all zero stays empty.
        warnings.filterwarnings("ignore", message=".*makes transformation singular")
        figure = Figure(
            figsize=(4.6, height or 3.3) if title else (3.9, height or 2.9),
            layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1) if title else "constrained",
            facecolor="white" if title else "none",
        )
        axes, content = figure.add_subplot(), io.BytesIO()
        axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
        for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            if name in log:
                axes.set(**{f"{name}scale": "log"})
            else:
                axis.set_major_locator(MaxNLocator(5, integer=name in integer))
        yield axes, content
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            if axis.get_scale() == "log":
                axis.set_major_formatter("{x:.3g}")
                named = "123456789" if high < 5 * low else "25" if high < 100 * low else ""
                axis.set_minor_formatter(partial(_label_minor, named))
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(content, format="svg", metadata=metadata)


def _label_minor(named: str, x: float, _: int | None) -> str:
    """Return the label of a minor tick of a log axis if its first digit is one of some."""
    return f"{x:.3g}" if f"{x:e}"[0] in named else ""


def colour_map(*, diverging: bool) -> list[tuple[float, float, float]]:
    """Return 256 colours as red, green and blue from 0 to 1."""
    _import_matplotlib()
    from matplotlib import colormaps

    chosen = colormaps["RdBu_r" if diverging else "viridis"]
    return [chosen(k)[:3] for k in range(256)]


def colour_of(style: int) -> str:
    """Return the colour of a style."""
    return COLOURS[style % len(COLOURS)]


def dashes_of(style: int) -> tuple[float, ...]:
    """Return the dashes and gaps of a style in points, none for a solid line."""
    return DASHES[style // len(COLOURS) % len(DASHES)]


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
