"""The command line as a whole: help, version, unknown words, and what it imports."""

import dataclasses
import re
import subprocess
import sys

import pytest
from launcher import needs_fork, start
from refusals import assert_refused

import lorae as package
from lorae.cli.console import COMMANDS
from lorae.training.options import Options

HEAVY = {"lightning_fabric", "matplotlib", "numpy", "polars", "scipy", "sklearn", "torch"}

pytest_plugins = ["commands"]
pytestmark = pytest.mark.usefixtures("cached_data")


@pytest.mark.parametrize("command", [[name] for name in COMMANDS], ids=" ".join)
def test_every_command_has_help(command, lorae):
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
    assert lorae("--version") == (0, f"lorae {package.__version__}\n", "")


def test_a_mistyped_command_is_refused_with_the_closest_one(lorae):
    assert_refused(lorae("tran"), r"unknown command 'tran' \(did you mean 'train'\?\); known: ")


def test_an_unknown_option_is_refused_without_a_traceback(lorae):
    status, _, err = lorae("train", "--lattent", "3")
    assert status == 2
    assert "--lattent" in err
    assert "Traceback" not in err


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
    ["data", "list"],
    ["data", "fetch", "mnits"],
    ["tran"],
    ["train", "--seed", "x"],
    ["train", "--lattent", "3"],
    ["train", "--latent", "0"],
    ["train", "--model", "lorea"],
    ["train", "--data", "mnits"],
    ["train", "--resume", "nowhere"],
    ["sweep", "--settings", "depht", "3"],
    ["path", "--data", "mnits"],
    ["spectrum", "nowhere"],
    ["report", "nowhere"],
    ["evaluate", "nowhere"],
    ["evaluate", "run", "--only", "generaton"],
    ["evaluate", "run", "--probes", "hed"],
    ["classify", "run", "--probe", "hed"],
    ["fid", "a", "b", "--samples", "1"],
    ["fid", "a", "b", "--density", "gausian"],
    ["sample", "run", "--out", "new", "-n", "0"],
    ["sample", "run", "--out", "new", "--density", "gausian"],
    ["interpolate", "run", "--kind", "round"],
    ["fold", "nowhere"],
    ["export", "run", "--to", "onyx"],
)


def test_help_and_refusals_import_nothing_that_takes_long(tmp_path):
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
