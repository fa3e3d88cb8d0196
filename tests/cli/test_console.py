"""The command line: what its commands print and leave behind."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from launcher import flags, needs_fork, start
from refusals import assert_refused
from small import SMALL, content

import lorae as lorae_package
from lorae.cli.console import COMMANDS
from lorae.objectives.registry import METHODS
from lorae.training.loop import Stepper
from lorae.training.options import Options
from lorae.training.run_folder import Run

HEAVY = {"lightning_fabric", "matplotlib", "numpy", "polars", "scipy", "sklearn", "torch"}

pytest_plugins = ["commands"]
pytestmark = pytest.mark.usefixtures("data_kept")


@pytest.mark.parametrize("command", [[name] for name in COMMANDS], ids=" ".join)
def test_every_command_has_help_without_none(command, lorae):
    status, out, err = lorae(*command, "--help")
    assert (status, err) == (0, "")
    assert str(COMMANDS[command[0]].__doc__).partition("\n")[0] in out
    assert "None" not in out
    assert "(default: )" not in out


def test_help_of_train_describes_every_option(lorae):
    _, out, _ = lorae("train", "--help")
    fields = [field.name.replace("_", "-") for field in dataclasses.fields(Options)]
    for name in ("out", "resume", "json", *fields):
        assert f" --{name} " in out
    assert "(default: mnist)" in out


def test_help_lists_the_commands(lorae):
    status, out, _ = lorae("--help")
    assert status == 0
    assert re.findall(r"^  (\w+) +[A-Z]", out, re.MULTILINE) == list(COMMANDS)
    assert max(map(len, out.splitlines())) <= 100
    assert lorae() == (2, "", out)


def test_version(lorae):
    assert lorae("--version") == (0, f"lorae {lorae_package.__version__}\n", "")


def test_a_mistyped_command_is_refused_with_the_closest_one(lorae):
    assert_refused(lorae("tran"), r"unknown command 'tran' \(did you mean 'train'\?\); known: ")


def test_train_prints_a_table_or_json_and_progress_beside_it(lorae):
    status, out, err = lorae("train", "--out", "a", *flags(SMALL))
    assert status == 0
    assert "rank at" in out
    assert "lorae report a" in out
    assert "a: step 12/12, error" in err
    status, out, _ = lorae("train", "--out", "b", "--json", *flags(SMALL))
    answer = json.loads(out)
    assert status == 0
    assert answer["run"] == "b"
    assert answer["step"] == 12
    assert len(answer["covariance"]) == len(answer["matrix"]) == SMALL.latent
    final = Run(Path("b")).metrics()[-1]["test"]
    assert {key: answer[key] for key in final} == final


def test_train_names_its_folder_itself_and_never_takes_one_twice(lorae):
    for expected in ("runs/digits-lorae", "runs/digits-lorae-2"):
        status, out, _ = lorae("train", "--json", *flags(SMALL))
        assert status == 0
        assert Path(json.loads(out)["run"]) == Path(expected)


def test_the_resolved_options_are_written_down(lorae, finished):
    saved = json.loads((finished / "config.json").read_text())
    assert set(saved["options"]) == {field.name for field in dataclasses.fields(Options)}
    assert saved["options"]["learning_rate"] == 1e-3
    assert saved["options"]["weight"] == 1e-3
    assert saved["environment"]["torch"]
    assert saved["data"]["shape"] == [1, 8, 8]


def test_spectrum(lorae, finished):
    status, out, err = lorae("spectrum", finished)
    assert (status, err) == (0, "")
    assert "1e-02 of the largest" in out
    assert "latent dimension 6; codes of 180 test samples" in out
    status, out, err = lorae("spectrum", finished, "--json")
    assert (status, err) == (0, "")
    answer = json.loads(out)
    final = Run(finished).metrics()[-1]["test"]
    assert answer["covariance"]["rank"]["1e-02"] == final["rank"]
    assert answer["covariance"]["singular_values"] == pytest.approx(final["covariance"], rel=1e-5)
    assert 1 <= answer["covariance"]["effective_rank"] <= SMALL.latent
    assert 1 <= answer["matrix"]["stable_rank"] <= SMALL.latent


def test_report_writes_a_file_and_prints_its_path(lorae, finished):
    status, out, _ = lorae("report", finished)
    assert status == 0
    assert Path(out.strip()) == finished / "report.html"
    assert "<html" in (finished / "report.html").read_text()
    status, out, _ = lorae("report", finished, "--out", "else/where.html")
    assert status == 0
    assert Path("else/where.html").is_file()


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


def test_a_model_takes_its_settings(lorae):
    arguments = flags(dataclasses.replace(SMALL, model="rrae", settings={"rank": 2, "momentum": 1}))
    assert lorae("train", "--out", "a", *arguments)[0] == 0
    assert Run(Path("a")).options["settings"] == {"rank": 2, "momentum": 1.0}
    status, out, _ = lorae("spectrum", "a", "--json")
    assert status == 0
    assert set(json.loads(out)["covariance"]["rank"].values()) == {2}
    assert lorae("train", "--resume", "a", "--settings", "rank", "3")[0] == 2


def test_what_is_wrong_with_a_training_is_told_and_kept(lorae):
    arguments = flags(dataclasses.replace(SMALL, model="gan", learning_rate=1e-9))
    status, out, err = lorae("train", "--out", "a", *arguments)
    assert status == 0
    warning = "of the variance of the data: the decoder maps all codes to nearly the same sample"
    assert "warning: a: samples drawn from the prior have" in out
    assert warning in out
    assert err.count(warning) == 4  # at three evaluations and at the end
    assert "error" not in err
    assert all(warning in line["warnings"][0] for line in Run(Path("a")).metrics())
    status, out, _ = lorae("spectrum", "a")
    assert status == 0
    assert warning in out
    assert "no reconstruction: the codes are the features of a critic" in out
    assert json.loads(lorae("spectrum", "a", "--json")[1])["reconstruction"] is None


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


def test_demo_trains_its_models_and_goes_on_where_it_stopped(lorae):
    small = ("demo", "--data", "digits", "--steps", "2", "--width", "0.1", "--out", "shown")
    status, out, err = lorae(*small)
    assert status == 0, err
    report = Path(re.search(r"^report: (.+)$", out, re.MULTILINE)[1])
    assert report.is_file()
    before = content(Path("shown"))
    status, again, _ = lorae(*small)
    assert (status, again) == (0, out)
    assert content(Path("shown")) == before


def test_ctrl_c_says_how_to_go_on(lorae, monkeypatch):
    def interrupted(self, x):
        signal.raise_signal(signal.SIGINT)
        return {"reconstruction": torch.zeros(())}

    monkeypatch.setattr(Stepper, "step", interrupted)
    status, out, err = lorae("train", "--out", "new", *flags(SMALL))
    assert (status, out) == (130, "")
    assert err == "lorae: stopped at step 1; continue with: lorae train --resume new\n"


@needs_fork
def test_a_closed_pipe_is_no_error(tmp_path):
    """Such as that of `lorae data list | head -0`."""
    closed = (
        "import os, sys, lorae.cli; ours, theirs = os.pipe(); os.close(ours); os.dup2(theirs, 1)\n"
    )
    process = start(folder=tmp_path, code=closed + "sys.exit(lorae.cli.main(['data', 'list']))")
    assert process.wait() == 0
    assert process.err == ""


def test_python_m_lorae_is_the_command(tmp_path):
    command = [sys.executable, "-m", "lorae", "data", "fetch", "mnits"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lorae: unknown data set 'mnits' (did you mean 'mnist'?)")


QUICK = (
    *([name, "--help"] for name in COMMANDS),
    ["--help"],
    ["--version"],
    ["models", "--json"],
    ["tran"],
    ["train", "--seed", "x"],
    ["train", "--lattent", "3"],
    ["train", "--latent", "0"],
    ["train", "--model", "lorea"],
    ["sweep", "--settings", "depht", "3"],
    ["evaluate"],
    ["sample", "run", "--out", "new", "-n", "0"],
    ["fid", "a", "b", "--samples", "1"],
    ["classify"],
    ["report"],
)


def test_help_lists_and_refusals_import_nothing_that_takes_long(tmp_path):
    """One process runs them all: a module that any of them imports stays imported."""
    code = f"""
import sys
from lorae.cli import main

for words in {QUICK}:
    try:
        main(words)
    except SystemExit:
        pass
    heavy = {HEAVY} & {{name.partition(".")[0] for name in sys.modules}}
    assert not heavy, f"lorae {{' '.join(words)}} imports {{heavy}}"
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
