"""Plots and pictures for a page: inline SVG that takes its colours from the page, and PNG data.

A plot is drawn by matplotlib in stand-in colours, which then become CSS variables of the page
(`--ink`, `--muted`, `--line`, `--paper`, and `--series-0` to `--series-6`), so that the page alone
decides what is light or dark. Its letters stay text, in the page's own typeface. Nothing in it
refers to anything outside it, and the same numbers always give the same bytes.
"""

import io
import math
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

COLOURS = 7
"""How many colours a page defines; series beyond them repeat them with other dashes."""

DASHES: tuple[tuple[float, ...], ...] = ((), (5.0, 2.0), (1.6, 2.0), (6.0, 1.5, 1.2, 1.5))
"""Dashes and gaps in points, for series 0 to 6, 7 to 13 and so on."""

_INK, _MUTED, _LINE, _PAPER = "#010101", "#020202", "#030303", "#040404"
_STAND_INS = {
    "#000000": "currentColor",
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _LINE: "var(--line)",
    _PAPER: "var(--paper)",
} | {f"#0500{k:02x}": f"var(--series-{k})" for k in range(COLOURS)}

_STYLE = {
    "axes.edgecolor": _MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.size": 9,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "lorae",
    "text.color": _INK,
    "text.parse_math": False,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
}


@dataclass(frozen=True)
class Series:
    """A line or a set of points of one plot.

    Args:
        label: what it shows, for its tooltip.
        index: which colour and dashes it has.
        x: abscissae.
        y: ordinates; values that are not finite, or on a log axis not positive, leave gaps.
        mark: a point of it to be marked.
    """

    label: str
    index: int
    x: Sequence[float]
    y: Sequence[float]
    mark: tuple[float, float] | None = None

    @property
    def colour(self) -> str:
        """The stand-in for the colour of the page."""
        return f"#0500{self.index % COLOURS:02x}"

    @property
    def dashes(self) -> tuple[int, tuple[float, ...]]:
        """The offset, and the dashes and gaps; none where the line is solid."""
        return 0, DASHES[self.index // COLOURS % len(DASHES)]


@dataclass
class Plot:
    """Axes being drawn, and the SVG once they are."""

    axes: Axes
    tooltips: dict[str, str] = field(default_factory=dict)
    svg: Markup = Markup()  # noqa: RUF009 - immutable, like the text it is

    def tooltip(self, text: str) -> str:
        """Return the id under which an artist will show this text."""
        key = f"series-{len(self.tooltips)}"
        self.tooltips[key] = text
        return key


def lines(
    series: Sequence[Series],
    *,
    key: str,
    alt: str,
    labels: tuple[str, str],
    log: bool = False,
    limits: tuple[float | None, float | None] = (None, None),
    level: float | None = None,
    counts: bool = False,
) -> Markup:
    """Return a plot of lines.

    Args:
        series: the lines.
        key: a word that no other plot of the page has.
        alt: what the plot shows, in words.
        labels: of the abscissa and the ordinate.
        log: whether the ordinate is logarithmic.
        limits: least and greatest ordinate.
        level: an ordinate at which to draw a dotted line.
        counts: whether ordinates are whole numbers.
    """
    with _plot(key, alt, labels, log=log) as plot:
        if level is not None:
            plot.axes.axhline(level, color=_MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        for one in series:
            y = np.asarray(one.y, dtype=float)
            drawn = np.where(np.isfinite(y) & ((y > 0) | (not log)), y, np.nan)
            gid = plot.tooltip(one.label)
            dot = "." if len(drawn) == 1 else ""
            plot.axes.plot(
                one.x, drawn, color=one.colour, linestyle=one.dashes, marker=dot, gid=gid
            )
        for one in series:
            if one.mark is not None:
                _mark(plot, one, one.mark)
        plot.axes.set_ylim(*limits)
        if counts:
            plot.axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return plot.svg


def points(
    series: Sequence[Series],
    *,
    key: str,
    alt: str,
    labels: tuple[str, str],
    names: Sequence[str] | None = None,
) -> Markup:
    """Return a plot of points; with `names`, ordinates are rows so named, counted from the top.

    A series in the second round of colours has hollow points, in the third squares.
    """
    height = 2.9 if names is None else 0.7 + 0.2 * len(names)
    left = 0.21 if names is None else 0.4
    with _plot(key, alt, labels, height=height, left=left, whole=names is None) as plot:
        for one in series:
            turn = one.index // COLOURS
            plot.axes.plot(
                one.x,
                one.y,
                linestyle="none",
                marker="os^D"[turn // 2 % 4],
                markersize=6,
                markeredgecolor=one.colour,
                markerfacecolor=_PAPER if turn % 2 else one.colour,
                alpha=0.85,
                gid=plot.tooltip(one.label),
            )
        plot.axes.margins(0.06)
        if names is None:
            plot.axes.set_xlim(left=0)
            plot.axes.yaxis.set_major_locator(MaxNLocator(5))
            plot.axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.3g}"))
        else:
            plot.axes.set_yticks(range(len(names)), [_short(name) for name in names])
            plot.axes.set_ylim(len(names) - 0.4, -0.6)
    return plot.svg


def histogram(
    reference: Sequence[float],
    series: Sequence[Series],
    *,
    key: str,
    alt: str,
    label: str,
    bins: int = 30,
) -> Markup:
    """Return the densities of values: the reference as an area, the `y` of each series as a line.

    The bins span the middle 99% of the reference.
    """
    low, high = np.quantile(reference, [0.005, 0.995])
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    with _plot(key, alt, (_short(label, 40), "density"), whole=False) as plot:
        area = plot.axes.stairs(_density(reference, edges), edges, fill=True, color=_LINE)
        area.set_gid(plot.tooltip("data"))
        for one in series:
            drawn = plot.axes.stairs(
                _density(one.y, edges), edges, color=one.colour, linestyle=one.dashes, linewidth=1.3
            )
            drawn.set_gid(plot.tooltip(one.label))
        plot.axes.yaxis.set_major_locator(MaxNLocator(4))
    return plot.svg


def _density(values: Sequence[float], edges: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    counts, _ = np.histogram(values, edges)
    density: np.ndarray[Any, Any] = counts / (max(len(values), 1) * (edges[1] - edges[0]))
    return density


def _mark(plot: Plot, one: Series, at: tuple[float, float]) -> None:
    plot.axes.plot([at[0], at[0]], [0, at[1]], color=one.colour, linewidth=0.8, alpha=0.6)
    plot.axes.plot(
        *([value] for value in at),
        marker="o",
        markersize=6,
        markerfacecolor=_PAPER,
        markeredgecolor=one.colour,
        markeredgewidth=1.6,
        gid=plot.tooltip(one.label),
        zorder=3,
    )


@contextmanager
def _plot(
    key: str,
    alt: str,
    labels: tuple[str, str],
    *,
    log: bool = False,
    height: float = 2.9,
    left: float = 0.15,
    whole: bool = True,
) -> Iterator[Plot]:
    """Hand out axes to draw on, abscissae whole or not, and turn them into SVG at the end."""
    with style.context(["default", _STYLE]), warnings.catch_warnings():
        # The letters are the page's, whatever matplotlib's own typeface lacks.
        warnings.filterwarnings("ignore", message=".*missing from font")
        # A log axis of values that are all zero is empty, which shows as much.
        warnings.filterwarnings("ignore", message=".*makes transformation singular")
        figure = Figure(figsize=(3.9, height))
        figure.subplots_adjust(left=left, right=0.985, bottom=0.47 / height, top=1 - 0.1 / height)
        axes = figure.add_subplot()
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=whole))
        axes.margins(x=0.02)
        axes.set_axisbelow(True)
        if log:
            axes.set_yscale("log")
        plot = Plot(axes)
        yield plot
        if log:
            _log_ticks(axes)
        content = io.BytesIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(content, format="svg", metadata=nothing)
    plot.svg = _inline(content.getvalue(), key, alt, plot.tooltips)


def _log_ticks(axes: Axes) -> None:
    """Write powers of ten as 1e-3, and where there are few of them other numbers as well."""
    low, high = axes.get_ylim()
    decades = math.log10(high / low)
    axes.yaxis.set_minor_locator(NullLocator())
    if decades < 0.5:
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.3g}"))
        return
    subs = (1.0,) if decades > 2 else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: power(y)))


def power(value: float) -> str:
    """Return a number in scientific notation without padding.

    Example:
        >>> power(0.001), power(20.0)
        ('1e-3', '2e1')
    """
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _short(text: str, most: int = 18) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _inline(svg: bytes, key: str, alt: str, tooltips: dict[str, str]) -> Markup:
    """Return the SVG without anything that a page has already, or must not have twice."""
    text = re.sub(r'\sxmlns="[^"]*"', "", svg.decode(), count=1)
    root = ET.fromstring(text)  # noqa: S314 - matplotlib wrote it
    for element in list(root):
        if element.tag == "metadata" or element.find("style") is not None:
            root.remove(element)
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    for element in list(root.iter()):
        name = element.get("id", "")
        _clean(element, key, used)
        if element.tag == "g":
            element.text = None
        if name in tooltips:
            title = ET.Element("title")
            title.text = tooltips[name]
            element.insert(0, title)
        element.tail = None
    root.attrib = {"viewBox": str(root.get("viewBox")), "class": "plot", "role": "img"}
    root.set("aria-label", alt)
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 - escaped by ElementTree


def _clean(element: ET.Element, key: str, used: Collection[str]) -> None:
    """Colour an element as the page is, and shorten its numbers; only ids in use stay."""
    attributes = {}
    for name, value in element.attrib.items():
        short = name.removeprefix("{http://www.w3.org/1999/xlink}")
        if short == "id" and value not in used:
            continue
        new = f"{key}-{value}" if short == "id" else re.sub("(^|url\\()#", rf"\1#{key}-", value)
        if short == "style":
            new = _colours(value)
        if short in ("d", "x", "y", "transform"):
            new = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", value)
        attributes[short] = new
    element.attrib = attributes


def _colours(declarations: str) -> str:
    size_only = re.sub(r"font:[^;]*?([\d.]+px)[^;]*", r"font-size: \1", declarations)
    faceless = re.sub(r"font-family:[^;]*;?", "", size_only)
    coloured = re.sub(r"#[0-9a-f]{6}", lambda c: _STAND_INS.get(c[0], c[0]), faceless)
    return re.sub(r"([:;])\s+", r"\1", coloured)
