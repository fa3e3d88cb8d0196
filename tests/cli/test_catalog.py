"""lorae models, lorae data and lorae runs."""

import json
from pathlib import Path

import pytest
from refusals import assert_refused

from lorae.objectives.registry import METHODS
from lorae.training.run_folder import Run

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


def test_runs_lists_finished_stopped_and_damaged_runs(lorae, finished, stopped):
    Path("broken").mkdir()
    Path("broken/config.json").write_text("{")
    status, out, err = lorae("runs", ".", "--json")
    assert (status, err) == (0, "")
    rows = {row["run"]: row for row in json.loads(out)}
    assert {name: row["state"] for name, row in rows.items()} == {
        "broken": "damaged",
        str(finished): "finished",
        str(stopped): "stopped",
    }
    final = Run(finished).last
    found = rows[str(finished)]
    assert (found["step"], found["error"], found["rank"]) == (
        final["step"],
        final["test"]["reconstruction"],
        final["test"]["rank"],
    )
    status, out, _ = lorae("runs", ".")
    assert status == 0
    assert f"{final['test']['reconstruction']:.6f}" in out
    assert "stopped" in out
    assert "damaged: " in out


def test_runs_of_an_empty_or_missing_folder(lorae):
    Path("empty").mkdir()
    assert lorae("runs", "empty")[:2] == (0, "there are no runs in empty\n")
    assert_refused(lorae("runs"), "folder must exist, got 'runs'")
