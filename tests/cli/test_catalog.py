"""lorae models and lorae data."""

import json
from pathlib import Path

import pytest

from lorae.objectives.registry import METHODS

pytest_plugins = ["commands"]
pytestmark = pytest.mark.usefixtures("cached_data")


def test_models_lists_every_model_with_its_settings(lorae):
    status, out, _ = lorae("models")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == list(METHODS)
    assert "(weight 1e-06, depth 4)" in out
    status, out, _ = lorae("models", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert list(rows) == list(METHODS)
    assert rows["rae-l2"]["weight"] == 1e-4
    assert rows["rae-l2"]["settings"] == {"smoothness": 1e-7}
    assert all(row["purpose"] and row["reference"] for row in rows.values())


def test_data_list_and_fetch(lorae):
    status, out, _ = lorae("data", "list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert status == 0
    assert {"mnist", "shapes", "digits"} <= set(rows)
    assert rows["digits"]["ready"] is True
    status, out, _ = lorae("data", "list")
    assert status == 0
    assert len(out.splitlines()) == len(rows)
    status, out, _ = lorae("data", "fetch", "digits")
    assert status == 0
    assert Path(out.strip()).name
