"""What cannot be done is told in one sentence, with status 2, and nothing is lost."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from launcher import flags, needs_fork, start
from refusals import assert_refused
from small import SMALL, content

from lorae.training.run_folder import Run
from lorae.utils.files import load_tensors

pytest_plugins = ["commands"]
pytestmark = pytest.mark.usefixtures("data_kept")


BAD_TRAIN = {
    "data-name": (["--data", "digts"], r"unknown data set 'digts' \(did you mean 'digits'\?\)"),
    "data-path": (["--data", "no/such.csv"], "no/such.csv.* does not exist"),
    "data-folder": (["--data", "nowhere/"], "nowhere/ does not exist"),
    "model": (["--model", "lorea"], r"unknown model 'lorea' \(did you mean 'lorae'\?\)"),
    "network": (["--network", "conf"], r"unknown network 'conf' \(did you mean 'conv'\?\)"),
    "network-shape": (["--network", "mnist"], r"takes samples of shape \(1, 32, 32\)"),
    "weight": (["--weight", "-0.1"], r"weight must be .* at least 0, got -0\.1"),
    "weight-nan": (["--weight", "nan"], "weight must be .*finite.* got nan"),
    "weight-ae": (["--model", "ae", "--weight", "1"], "weight must be None for a model without"),
    "latent-0": (["--latent", "0"], "latent must be .* at least 1, got 0"),
    "latent-large": (["--latent", "65"], "latent must be 1 to 64"),
    "width": (["--width", "0"], "width must be .* greater than 0"),
    "setting": (["--settings", "depth", "3"], "unknown setting of the model 'depth'; known: "),
    "setting-close": (
        ["--model", "irmae", "--settings", "dept", "3"],
        r"unknown setting of the model 'dept' \(did you mean 'depth'\?\)",
    ),
    "setting-value": (
        ["--model", "irmae", "--settings", "depth", "0"],
        "depth must be finite, at least 1, got 0",
    ),
    "setting-type": (
        ["--model", "irmae", "--settings", "depth", "2.5"],
        "depth must be an integer, got 2.5",
    ),
    "rank-batch": (
        ["--model", "rrae", "--settings", "rank", "20", "--batch-size", "10"],
        "batch_size must be at least 20 for rrae",
    ),
    "rank-latent": (
        ["--model", "rrae", "--settings", "rank", "65"],
        "rank must be finite, at least 1 and at most 64, got 65",
    ),
    "batch-of-one": (["--model", "wae", "--batch-size", "1"], "batch_size must be at least 2"),
    "validation": (["--model", "gan", "--validation", "0.1"], "validation must be 0 for gan"),
    "batch": (["--batch-size", "1618"], "batch_size must be at most .* 1617 of 'digits', got 1618"),
    "both": (["--steps", "5", "--epochs", "1"], "steps or epochs, not both"),
    "rate": (["--learning-rate", "0"], "learning_rate must be .* greater than 0"),
    "ema": (["--ema", "1"], "ema must be .* below 1, got 1"),
    "patience": (["--patience", "2"], "patience needs validation"),
    "precision": (["--precision", "8-true"], "precision must be one of"),
    "device": (["--device", "tpux"], "device 'tpux' cannot be used"),
    "fraction": (["--test-fraction", "1"], "test_fraction"),
    "seed": (["--seed", "-1"], "seed must be .* at least 0"),
    "size": (["--size", "8"], "size and crop are for folders"),
}


@pytest.mark.parametrize("case", BAD_TRAIN)
def test_train_refuses(case, lorae):
    arguments, pattern = BAD_TRAIN[case]
    kept = [] if "--data" in arguments else ["--data", "digits"]
    assert_refused(lorae("train", "--out", "new", *kept, *arguments), pattern)
    assert not Path("new").exists()


def test_a_table_that_is_unfit_is_refused(lorae):
    table = np.random.default_rng(0).normal(size=(50, 3))
    table[7, 1] = np.nan
    np.save("t.npy", table)
    assert_refused(lorae("train", "--data", "t.npy", "--out", "new"), "NaN")
    assert not Path("new").exists()


def test_an_unknown_option_is_refused_without_a_traceback(lorae):
    status, _, err = lorae("train", "--lattent", "3")
    assert status == 2
    assert "--lattent" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_holds_something_else_is_left_alone(resume, lorae, finished):
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("years of work")
    Path("file").write_text("more of it")
    before = content(Path())
    assert_refused(lorae("train", "--out", finished, *flags(SMALL)), "already holds a run: choose")
    for name in ("mine", "file"):
        if resume:
            assert_refused(lorae("train", "--resume", name), f"there is no run at '{name}'")
        else:
            assert_refused(lorae("train", "--out", name, *flags(SMALL)), "new or empty folder")
    assert_refused(lorae("train", "--out", "a", "--resume", finished), "out or resume, not both")
    for name in (finished / "new" / "..", Path("mine/new/..")):
        assert_refused(lorae("train", "--out", name, *flags(SMALL)), "already holds|new or empty")
    assert content(Path()) == before


@pytest.mark.parametrize("command", ["spectrum", "report"])
def test_a_run_that_is_missing_or_not_finished_is_told(command, lorae, stopped):
    before = content(stopped)
    assert_refused(lorae(command, "nowhere"), "there is no run at 'nowhere'")
    assert_refused(lorae(command, stopped), "training has not ended.*--resume half")
    assert content(stopped) == before


@pytest.mark.parametrize("command", [["spectrum"], ["report"], ["train", "--resume"]])
def test_a_run_whose_data_have_changed_is_refused(command, lorae):
    samples = np.random.default_rng(0).normal(size=(200, 5))
    np.save("t.npy", samples)
    assert lorae("train", "--data", "t.npy", "--out", "run", "--steps", "3")[0] == 0
    np.save("t.npy", samples + 1)
    before = content(Path())
    assert_refused(lorae(*command, "run"), r"t\.npy' are not those .*'run'.* checksum differs")
    assert content(Path()) == before


def test_resuming_with_other_options_is_refused(lorae, stopped):
    before = content(stopped)
    for arguments, pattern in (
        (["--latent", "5"], "latent was 6 and is now 5"),
        (["--width", "1"], "width was 0.1 and is now 1.0"),  # the default, but given
        (["--model", "ae"], "model was lorae and is now ae.* weight was 0.001 and is now None"),
        (["--epochs", "7"], "steps was 12 and is now 175"),
    ):
        assert_refused(lorae("train", "--resume", stopped, *arguments), pattern)
    assert content(stopped) == before
    assert lorae("train", "--resume", stopped, *flags(SMALL), "--device", "cpu")[0] == 0
    assert Run(stopped).finished


def test_a_run_made_in_epochs_is_resumed_by_the_same_command(lorae):
    arguments = [*flags(dataclasses.replace(SMALL, steps=None)), "--epochs", "0.2"]
    assert lorae("train", "--out", "a", *arguments)[0] == 0
    assert lorae("train", "--resume", "a", *arguments)[0] == 0


def test_a_checkpoint_of_another_configuration_is_refused(lorae, stopped, finished):
    checkpoint = Run(stopped).checkpoint
    for arguments in ({"latent": 5}, {"model": "ae"}, {"ema": 0.9}):
        other = Path("other" + "".join(arguments))
        lorae("train", "--out", other, *flags(dataclasses.replace(SMALL, **arguments)))
        (other / "model.safetensors").unlink()
        Run(other).checkpoint.write_bytes(checkpoint.read_bytes())
        before = content(other)
        assert_refused(lorae("train", "--resume", other), "checkpoint of another model")
        assert content(other) == before


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_checkpoint_or_model_cut_short_is_refused(share, lorae, stopped, finished):
    for path, arguments in (
        (Run(stopped).checkpoint, ("train", "--resume", stopped)),
        (finished / "model.safetensors", ("spectrum", finished)),
    ):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        before = content(Path())
        assert_refused(lorae(*arguments), "cut short or not a safetensors")
        assert content(Path()) == before


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl"])
def test_a_damaged_run_folder_is_told(name, lorae, finished):
    (finished / name).write_text('{"options": \n')
    arguments = ("report", finished) if name == "metrics.jsonl" else ("spectrum", finished)
    assert_refused(lorae(*arguments), name)
    (finished / name).unlink()
    assert_refused(lorae("train", "--resume", finished), rf"there is no run|{name}.* is missing")


@pytest.mark.slow
@needs_fork
def test_a_full_disk_loses_nothing(tmp_path, finished):
    folder = tmp_path / "run"
    size = (finished / "model.safetensors").stat().st_size
    process = start("train", "--out", "run", *flags(SMALL), folder=tmp_path, limit=size // 2)
    assert process.wait() == 2
    assert re.fullmatch(r"(run: .*\n)*lorae: cannot use.*too large\n", process.err), process.err
    assert not list(folder.rglob("*.part"))
    process = start("train", "--resume", "run", folder=tmp_path)
    assert process.wait() == 0, process.err
    model = folder / "model.safetensors"
    assert model.read_bytes() == (finished / "model.safetensors").read_bytes()
    assert load_tensors(model)
