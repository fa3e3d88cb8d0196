"""The command line as a whole: help, version, unknown words, and what it imports."""

import dataclasses
import re
import subprocess
import sys
from typing import Annotated, get_args, get_origin

import pytest
from launcher import needs_fork, start
from refusals import assert_refused

import lorae as package
from lorae.cli import parsing
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
        assert re.search(rf" --(no-)?{name} ", out)
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "train --lattent 3",
            r"unknown option '--lattent' \(did you mean '--latent'\?\); see lorae",
        ),
        ("train --bach-size=3", r"unknown option '--bach-size' \(did you mean '--batch-size'\?\)"),
        ("train --qqqq", "unknown option '--qqqq'; see lorae train --help"),
        ("train --jsn", r"unknown option '--jsn' \(did you mean '--json'\?\)"),
        (
            "train digits",
            r"unexpected word 'digits' \(data are named by --data\); see lorae train --help",
        ),
        ("spectrum a b", "unexpected word 'b'"),
        ("train --latent x", "--latent must be an integer, got 'x'"),
        ("train --latent=1e3", "--latent must be an integer, got '1e3'"),
        ("train --width wide --seed 1", "--width must be a number, got 'wide'"),
        ("sweep --seeds 0 one", "--seeds must be integers, got '0 one'"),
        ("train --settings rank", "--settings must be names, each followed by a value, got 'rank'"),
        ("sample run --out new -n 1e300", "--n must be an integer, got '1e300'"),
        ("train --model", "--model must be followed by a value"),
        ("sample", "lorae sample needs RUN and --out"),
        ("data", "lorae data must be followed by one of list, fetch"),
        ("data lst", "lorae data must be followed by one of list, fetch"),
    ],
)
def test_a_word_that_is_not_understood_is_refused_in_one_sentence(arguments, message, lorae):
    assert_refused(lorae(*arguments.split()), message)


def test_options_of_one_name_take_the_same_values_in_every_command():
    kinds: dict[str, set[str]] = {}
    for command in COMMANDS.values():
        for name, hint in parsing.option_types(command):
            plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
            several = tuple if get_origin(plain) is tuple else None
            kinds.setdefault(name, set()).add(f"{several} {parsing.describe(plain)}")
    kinds.pop("seeds")  # of reproduce it is their number
    assert not {name: found for name, found in kinds.items() if len(found) > 1}


def test_dir_lists_what_is_public():
    assert all(not name.startswith("_") for name in dir(package))
    assert {"train", "load", "LowRankAutoencoder"} <= set(dir(package)) == set(package.__all__)
    assert not {"os", "lazy_loader"} & set(dir(package))


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
    ["explore", "nowhere"],
    ["explore", "run", "--density", "gausian"],
    ["evaluate", "nowhere"],
    ["evaluate", "run", "--only", "generaton"],
    ["evaluate", "run", "--probes", "hed"],
    ["classify", "run", "--probes", "hed"],
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
