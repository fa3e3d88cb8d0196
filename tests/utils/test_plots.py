"""Plots are SVG files that refer to nothing, keep their text, and are reproducible."""

import math
import os
import re
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest

from lorae.utils.plots import COLOURS, Curve, plot_curves, plot_histograms, plot_points

LABELS = ("abscissa", "ordinate")
CURVES = [Curve(f"run {k}", [1, 2, 3], [1.0, 0.1, 0.0], k) for k in range(9)]
PLOTS = {
    "curves": lambda: plot_curves(CURVES, LABELS, title="a <title> of $x^2$"),
    "log": lambda: plot_curves(CURVES, LABELS, log="xy", integer="x", limits=(1e-3, 2), level=0.5),
    "narrow": lambda: plot_curves([Curve("a", [1, 2], [0.2, 0.3])], LABELS, log="y"),
    "points": lambda: plot_points(CURVES, LABELS, integer="xy"),
    "rows": lambda: plot_points(CURVES, LABELS, names=["a", "$x^2$", "温度" * 20, "p&q"]),
    "histograms": lambda: plot_histograms([0.0, 1.0, 2.0], {0: [1.0], 8: []}, "<name>"),
    "constant": lambda: plot_histograms([1.0, 1.0], {0: [1.0, 2.0]}, "x"),
    "marked": lambda: plot_curves(
        [Curve("a", [1, 2, 4], [3.0, 2.0, 1.0], margin=[0.1] * 3, mark=(2, 2.0, "here"))], LABELS
    ),
    "nothing to show": lambda: plot_curves([Curve("a", [1, 2], [0.0, math.nan])], LABELS, log="y"),
}


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter() if element.tag.endswith("}text")]


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_a_file_that_refers_to_nothing(name):
    svg = PLOTS[name]()
    assert svg == PLOTS[name]()
    for element in ET.fromstring(svg).iter():
        for key, value in element.attrib.items():
            assert not key.endswith("}href") or value.startswith("#")
            assert "url(" not in value or "url(#" in value


def test_text_stays_text():
    assert "a <title> of $x^2$" in texts(PLOTS["curves"]())
    assert set(LABELS) < set(texts(PLOTS["curves"]()))
    rows = texts(PLOTS["rows"]())
    assert {"$x^2$", "p&q", ("温度" * 20)[:23] + "…"} < set(rows)
    assert {"<name>", "density"} < set(texts(PLOTS["histograms"]()))
    assert "here" in texts(PLOTS["marked"]())


def test_a_plot_with_a_title_has_a_legend_and_a_background():
    alone, embedded = PLOTS["curves"](), PLOTS["log"]()
    assert {curve.label for curve in CURVES} < set(texts(alone))
    assert not {curve.label for curve in CURVES} & set(texts(embedded))
    assert b"fill: #ffffff" in alone
    assert b"fill: #ffffff" not in embedded


def test_styles_differ_in_colour_then_in_dashes():
    svg = PLOTS["curves"]().decode()
    assert all(colour in svg for colour in COLOURS)
    # Two curves and their entries in the legend.
    assert svg.count("stroke-dasharray: 8,3.2") == 2 * 2


@pytest.mark.parametrize(
    ("largest", "labels"),
    [(3, {"1", "2", "3"}), (30, {"1", "2", "5", "10", "20"}), (1e4, {"1", "10", "100", "1e+03"})],
)
def test_a_log_axis_has_labels_that_its_range_needs(largest, labels):
    found = texts(plot_curves([Curve("a", [1, largest], [1.0, 2.0])], ("x", "y"), log="x"))
    shown = {text for text in found if text not in "xy" and float(text) != 1.5}
    assert labels <= shown
    assert not {"7", "70"} & shown


def test_the_legend_of_points_lies_within_the_plot():
    names = ["a_long_name_of_a_column"] * 4
    points = [Curve(f"coordinate {k}", [0.5, 1, 2, 3], range(4), k) for k in (1, 2, 3)]
    svg = plot_points(points, ("change", ""), names=names, legend=True).decode()
    width = float(re.findall(r'width="([\d.]+)pt"', svg)[0])
    starts = [float(x) for x in re.findall(r'x="([\d.]+)"[^>]*>coordinate \d', svg)]
    assert len(starts) == 3
    assert max(starts) + 60 < width  # a name takes about 55 points


def test_a_log_axis_leaves_out_what_it_cannot_show():
    def points(log):
        curve = Curve("a", [1, 2, 3], [1.0, 0.0, 0.5])
        svg = plot_curves([curve], LABELS, log=log, markers=True).decode()
        return svg.count(f"fill: {COLOURS[0]}")

    assert points("") - points("y") == 1


def test_a_log_axis_of_less_than_a_decade_has_labels():
    assert {"0.2", "0.3"} < set(texts(PLOTS["narrow"]()))


def test_an_unknown_backend_is_no_obstacle(tmp_path):
    """In another process, because matplotlib reads the variable when it is imported."""
    code = "from lorae.utils import plots; plots._import_matplotlib(); import matplotlib, os; "
    code += "assert os.environ['MPLBACKEND'] == 'nonsense'"
    environment = os.environ | {"MPLBACKEND": "nonsense"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
