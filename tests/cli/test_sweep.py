"""lorae sweep."""

import dataclasses
import json
from pathlib import Path

import pytest
from launcher import flags
from refusals import assert_refused
from small import SMALL

pytest_plugins = ["commands"]
pytestmark = pytest.mark.usefixtures("cached_data")


def test_sweep_answers_with_every_run_and_is_resumed(lorae):
    small = [*flags(dataclasses.replace(SMALL, steps=2)), "--processes", "1", "--out", "s"]
    status, out, err = lorae("sweep", *small, "--seeds", "0", "1", "--weights", "0.01")
    assert status == 0, err
    assert "weight-0.01-seed-0 " in out
    assert "next: lorae report s/*" in out
    assert "step 2/2, error" in err
    assert lorae("report", *sorted(Path("s").glob("[!.]*")))[0] == 0
    status, out, _ = lorae("sweep", "--resume", "s", "--processes", "1", "--json")
    rows = json.loads(out)
    assert [Path(row["run"]).name for row in rows] == ["weight-0.01-seed-0", "weight-0.01-seed-1"]
    assert all(len(row["covariance"]) == SMALL.latent for row in rows)


def test_ctrl_c_while_processes_train_says_how_to_continue(lorae, monkeypatch):
    def interrupt(self, calls):
        raise KeyboardInterrupt

    monkeypatch.setattr("joblib.Parallel.__call__", interrupt)
    small = flags(dataclasses.replace(SMALL, steps=2))
    status, _, err = lorae("sweep", *small, "--seeds", "0", "1", "--processes", "2", "--out", "s")
    assert status == 130
    assert "stopped; continue with: lorae sweep --resume s" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digits", "--seeds", "1", "1"], "must be distinct, got seed-1 twice"),
        (["--data", "digits", "--seeds", "-1"], "seed must be .*got -1"),
        (["--data", "digits", "--processes", "0"], "processes must be .*got 0"),
        (["--resume", "nowhere"], "there is no sweep at 'nowhere'"),
        (["--resume", "nowhere", "--seed", "0"], "with its own options: do not give seed"),
    ],
)
def test_refusals(arguments, message, lorae):
    assert_refused(lorae("sweep", *arguments), message)
    assert not Path("runs").exists()
