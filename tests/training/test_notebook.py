"""The notebook's picture of a run."""

import base64
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from lorae.training.run_folder import Run

pytest_plugins = ["commands"]


def rows(page: str) -> dict[str, str]:
    return dict(re.findall(r"<th[^>]*>(.*?)</th><td[^>]*>(.*?)</td>", page))


def test_a_finished_run_shows_its_figures(finished):
    run, page = Run(finished), Run(finished)._repr_html_()
    last = run.last
    assert rows(page)["test error"] == f"{last['test']['reconstruction']:.4g}"
    assert rows(page)["rank at 1e-2"] == f"{last['test']['rank']} of 6"
    assert rows(page)["state"] == "finished"
    plots = re.findall(r"base64,([^']+)'", page)
    assert [ET.fromstring(base64.b64decode(plot)).tag[-3:] for plot in plots] == ["svg", "svg"]


def test_a_stopped_run_says_how_far_it_is(stopped):
    assert rows(Run(stopped)._repr_html_())["state"] == "stopped"
    assert rows(Run(stopped)._repr_html_())["step"] == "5 of 12"


@pytest.mark.parametrize("name", ["nowhere", "<b>"])
def test_what_is_no_run_is_a_sentence(name, tmp_path):
    page = Run(Path(name))._repr_html_()
    assert page.startswith("<p>there is no file")
    assert "<b>" not in page
