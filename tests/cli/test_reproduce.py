"""`lorae reproduce`: what it prints and leaves behind, and what a kill costs."""

import json
import signal
import time
from pathlib import Path

import pytest
from launcher import needs_fork, start

from lorae.paper.queue import portable_options
from lorae.paper.recipes import RECIPES
from lorae.training.loop import Stepper
from lorae.training.options import Options

pytest_plugins = ["commands"]

SMOKE = ("--scale", "smoke", "--seeds", "1")
OLD_CELLS = Path(__file__).with_name("old_cells.json")


def test_list_prints_the_claims(lorae):
    status, out, _ = lorae("reproduce", "--list")
    assert status == 0
    assert all(recipe.claim in out for recipe in RECIPES.values())
    status, out, _ = lorae("reproduce", "--json")
    assert [row["name"] for row in json.loads(out)] == list(RECIPES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["table33"], "unknown recipe 'table33' (did you mean 'table3'?)"),
        (["table3", "--scale", "cup"], "unknown scale 'cup' (did you mean 'cpu'?)"),
        (["table3", "--protocol", "mine"], "protocol must be one of lorae, authors, got 'mine'"),
        (["table3", "--seeds", "0"], "seeds must be at least 1, got 0"),
        (["table3", "--processes", "0"], "processes must be at least 1, got 0"),
        (
            ["figure2", "--protocol", "authors"],
            "protocol must be 'lorae' for figure2",
        ),
        (["table3", "--minutes", "0"], "minutes must be"),
        (["table3", "--cluster", "moon"], "cluster must be one of"),
        (
            ["table3", "--only-work", "--only-write"],
            "only_work and only_write must not be given together",
        ),
    ],
)
def test_bad_input_gets_one_sentence(lorae, arguments, said):
    status, _, err = lorae("reproduce", *arguments)
    assert status == 2
    assert err.strip().startswith(f"lorae: {said}")
    assert err.count("\n") == 1


def test_data_that_are_missing_are_named_with_what_to_do(lorae, monkeypatch):
    monkeypatch.delenv("LORAE_CELEBA", raising=False)
    status, _, err = lorae("reproduce", "table8", "--scale", "cpu", "--seeds", "1")
    assert status == 2
    assert "celeba" in err.lower()
    assert "list_eval_partition.txt" in err


def test_one_table_from_nothing_to_the_page(lorae, tmp_path):
    status, out, _ = lorae("reproduce", "table7", *SMOKE)
    assert status == 0
    assert "5 of 5 cells measured" in out
    page = (tmp_path / "results" / "RESULTS.md").read_text()
    assert "lorae reproduce table7 --scale smoke" in page
    assert "Not run" not in page
    written = json.loads((tmp_path / "results" / "smoke" / "table7.json").read_text())
    assert len(written["seconds"]) == written["cells"] == 5
    assert written["seeds"] == [0]
    status, out, _ = lorae("reproduce", "table7", *SMOKE, "--only-write", "--json")
    assert json.loads(out)["results"] == ["results/smoke/table7.json"]


def test_a_signal_stops_it_and_the_same_command_resumes(lorae, monkeypatch):
    asked = ("reproduce", "table7", *SMOKE)
    real, calls = Stepper.step, iter(range(1000))

    def stopping(self, x):
        if next(calls) == 6:
            signal.raise_signal(signal.SIGTERM)
        return real(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", stopping)
        status, _, err = lorae(*asked)
    assert status == 128 + signal.SIGTERM
    assert "stopped at step 7; continue with: the same command" in err
    status, out, _ = lorae(*asked)
    assert status == 0
    assert "5 of 5 cells measured" in out


def test_a_budget_of_minutes_stops_it_and_the_same_command_resumes(lorae, monkeypatch):
    asked = ("reproduce", "table7", *SMOKE)
    real = Stepper.step

    def slow(self, x):
        time.sleep(0.3)
        return real(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", slow)
        status, out, err = lorae(*asked, "--minutes", "0.05")
    assert status == 0
    assert "stopped after 0.05 minutes; the same command resumes" in err
    assert "0 of 5 cells measured" in out
    status, out, _ = lorae(*asked)
    assert status == 0
    assert "5 of 5 cells measured" in out


BACKGROUND = """
import signal, time
import lorae.cli, lorae.paper.queue as queue

signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for a command after nohup, or with &
queue.Queue.work = lambda *_: [time.sleep(0.1) for _ in range(1200)]  # without a training
status = lorae.cli.main(["reproduce", "table7", "--scale", "smoke", "--minutes", "0.01"])
assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
raise SystemExit(status)
"""


@needs_fork
def test_a_budget_ends_a_command_that_ignores_ctrl_c(tmp_path):
    begin = time.monotonic()
    process = start(folder=tmp_path, code=BACKGROUND)
    assert process.wait() == 0
    assert time.monotonic() - begin < 100
    assert "stopped after 0.01 minutes; the same command resumes" in process.err


def test_options_that_were_added_leave_the_keys_of_stored_cells():
    """Records of version 0.1.0."""
    stored = json.loads(OLD_CELLS.read_text()).values()
    options = [record["cell"]["training"] for record in stored if record["cell"]["training"]]
    assert options
    for one in options:
        assert portable_options(Options(**one)) == one


def without_clock(text):
    return {k: v for k, v in json.loads(text).items() if k != "seconds"}


@needs_fork
@pytest.mark.slow
def test_a_killed_command_resumes_to_the_same_result(tmp_path):
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir()
    names = ("table3", "table7")
    assert start("reproduce", *names, *SMOKE, folder=folders[0]).wait() == 0
    cells = folders[1] / "runs" / "reproduce" / "cells"
    child = start("reproduce", *names, *SMOKE, folder=folders[1])
    while len(list(cells.glob("*.json"))) < 3:
        time.sleep(0.01)
    child.kill(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in cells.glob("*.json")}
    assert start("reproduce", *names, *SMOKE, folder=folders[1]).wait() == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for name in names:
        whole, killed = (
            without_clock((folder / "results" / "smoke" / f"{name}.json").read_text())
            for folder in folders
        )
        assert killed == whole


@pytest.mark.slow
def test_all_at_the_scale_smoke(lorae, tmp_path):
    status, _, _ = lorae("reproduce", "all", *SMOKE)
    assert status == 0
    page = (tmp_path / "results" / "RESULTS.md").read_text()
    assert "not run" not in page.lower().replace("a cell that was not run says so", "")
    assert "Failed" not in page
    for recipe in RECIPES.values():
        assert f"## {recipe.title}" in page
    status, _, _ = lorae("reproduce", "all", *SMOKE, "--protocol", "authors")
    assert status == 0
    assert "by the authors' protocol" in (tmp_path / "results" / "RESULTS.md").read_text()


@pytest.mark.slow
def test_workers_beside_each_other_measure_everything_once(lorae, tmp_path):
    status, out, _ = lorae("reproduce", "table7", *SMOKE, "--processes", "2")
    assert status == 0
    assert "5 of 5 cells measured" in out
    logs = list((tmp_path / "runs" / "reproduce" / "logs").iterdir())
    assert len(logs) == 2
    assert all("Traceback" not in log.read_text() for log in logs)


@pytest.mark.slow
def test_workers_on_a_cluster_measure_everything_once(lorae, tmp_path):
    """Here the cluster is submitit's trial, processes of this machine."""
    pytest.importorskip("submitit")
    options = ("--cluster", "local", "--cluster-options", "timeout_min", "5")
    status, out, err = lorae("reproduce", "figure2", *SMOKE, "--processes", "2", *options)
    assert status == 0, err
    assert "cells measured" in out
    logs = list((tmp_path / "runs" / "reproduce" / "jobs").glob("*.err"))
    assert len(logs) == 2
    assert all("Traceback" not in log.read_text() for log in logs)
