"""lorae demo."""

import re
from pathlib import Path

import pytest
from small import content

pytest_plugins = ["commands"]
pytestmark = pytest.mark.usefixtures("cached_data")


def test_demo_trains_its_models_and_resumes(lorae):
    small = ("demo", "--data", "digits", "--steps", "2", "--width", "0.1", "--out", "shown")
    status, out, err = lorae(*small)
    assert status == 0, err
    report = Path(re.search(r"^report: (.+)$", out, re.MULTILINE)[1])
    assert report.is_file()
    before = content(Path("shown"))
    status, again, _ = lorae(*small)
    assert (status, again) == (0, out)
    assert content(Path("shown")) == before
