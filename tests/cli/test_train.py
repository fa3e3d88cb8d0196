"""lorae train: what it prints and writes, and what it refuses without losing anything."""

import dataclasses
import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from launcher import flags, needs_fork, start
from refusals import assert_refused
from small import SMALL, VARIANTS, content

from lorae.training.loop import Stepper
from lorae.training.options import Options
from lorae.training.run_folder import Run
from lorae.utils.tensor_files import load_tensors

pytest_plugins = ["commands"]
pytestmark = pytest.mark.usefixtures("cached_data")


def test_train_prints_a_table_or_json(lorae):
    status, out, err = lorae("train", "--out", "a", *flags(SMALL))
    assert status == 0
    assert "rank at" in out
    assert "lorae report a" in out
    assert err.count("a: step 12/12, error") == 1
    status, out, _ = lorae("train", "--out", "b", "--json", *flags(SMALL))
    answer = json.loads(out)
    assert status == 0
    assert answer["run"] == "b"
    assert answer["step"] == 12
    assert len(answer["covariance"]) == len(answer["matrix"]) == SMALL.latent
    final = Run(Path("b")).metrics()[-1]["test"]
    assert {key: answer[key] for key in final} == final


def test_train_chooses_a_new_folder(lorae):
    for expected in ("runs/digits-lorae", "runs/digits-lorae-2"):
        status, out, _ = lorae("train", "--json", *flags(SMALL))
        assert status == 0
        assert Path(json.loads(out)["run"]) == Path(expected)


def test_config_holds_the_resolved_options(lorae, finished):
    saved = json.loads((finished / "config.json").read_text())
    assert set(saved["options"]) == {field.name for field in dataclasses.fields(Options)}
    assert saved["options"]["learning_rate"] == 1e-3
    assert saved["options"]["weight"] == 1e-3
    assert saved["environment"]["torch"]
    assert saved["data"]["shape"] == [1, 8, 8]


def test_the_precision_that_is_chosen_is_printed_and_saved(lorae):
    status, _, err = lorae("train", "--out", "a", "--precision", "auto", *flags(SMALL))
    assert status == 0
    saved = json.loads(Path("a/config.json").read_text())["options"]["precision"]
    assert saved in ("32-true", "bf16-mixed")
    assert f"a: note: precision is {saved}: " in err
    assert lorae("train", "--resume", "a", "--steps", "14")[0] == 0


def test_a_model_takes_its_settings(lorae):
    arguments = flags(dataclasses.replace(SMALL, model="rrae", settings={"rank": 2, "momentum": 1}))
    assert lorae("train", "--out", "a", *arguments)[0] == 0
    assert Run(Path("a")).options["settings"] == {"rank": 2, "momentum": 1.0}
    status, out, _ = lorae("spectrum", "a", "--json")
    assert status == 0
    assert set(json.loads(out)["covariance"]["rank"].values()) == {2}
    assert lorae("train", "--resume", "a", "--settings", "rank", "3")[0] == 2


def test_warnings_are_printed_and_recorded(lorae):
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


def test_ctrl_c_says_how_to_resume(lorae, monkeypatch):
    def interrupted(self, x):
        signal.raise_signal(signal.SIGINT)
        return {"reconstruction": torch.zeros(())}

    monkeypatch.setattr(Stepper, "step", interrupted)
    status, out, err = lorae("train", "--out", "new", *flags(SMALL))
    assert (status, out) == (130, "")
    assert err == "lorae: stopped at step 1; continue with: lorae train --resume new\n"


def test_a_gpu_without_enough_memory_gets_one_sentence(lorae, monkeypatch):
    def full(self, x):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(Stepper, "step", full)
    status, _, err = lorae("train", "--out", "a", *flags(SMALL))
    assert status == 2
    assert err == "lorae: memory must suffice for these options: try smaller sizes\n"


BAD_TRAIN = {
    "data-name": (["--data", "digts"], r"unknown data set 'digts' \(did you mean 'digits'\?\)"),
    "data-path": (["--data", "no/such.csv"], "data must be a path that exists .*got no/such.csv"),
    "data-folder": (["--data", "nowhere/"], "data must be a path that exists .*got nowhere/"),
    "model": (["--model", "lorea"], r"unknown model 'lorea' \(did you mean 'lorae'\?\)"),
    "network": (["--network", "conf"], r"unknown network 'conf' \(did you mean 'conv'\?\)"),
    "network-shape": (["--network", "mnist"], r"shape must be \(1, 32, 32\) for the network"),
    "weight": (["--weight", "-0.1"], r"weight must be .*at least 0, got -0\.1"),
    "weight-nan": (["--weight", "nan"], "weight must be .*finite.* got nan"),
    "weight-ae": (["--model", "ae", "--weight", "1"], "weight must be None for a model without"),
    "latent-0": (["--latent", "0"], "latent must be .*at least 1, got 0"),
    "latent-huge": (["--latent", str(10**10)], "latent and width must be smaller: lorae and its"),
    "latent-beyond": (["--latent", str(10**30)], "latent and width must be smaller: lorae and its"),
    "width-huge": (["--width", "64", "--latent", str(10**8)], "must be smaller: .* GB of memory"),
    "width": (["--width", "0"], "width must be .*greater than 0"),
    "setting": (["--settings", "depth", "3"], "unknown setting of the model 'depth'; known: "),
    "setting-close": (
        ["--model", "irmae", "--settings", "dept", "3"],
        r"unknown setting of the model 'dept' \(did you mean 'depth'\?\)",
    ),
    "setting-value": (
        ["--model", "irmae", "--settings", "depth", "0"],
        "depth must be at least 1, got 0",
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
        "rank must be at least 1 and at most 64, got 65",
    ),
    "batch-of-one": (["--model", "wae", "--batch-size", "1"], "batch_size must be at least 2"),
    "validation": (["--model", "gan", "--validation", "0.1"], "validation must be 0 for gan"),
    "both": (["--steps", "5", "--epochs", "1"], "steps or epochs, not both"),
    "rate": (["--learning-rate", "0"], "learning_rate must be .*greater than 0"),
    "ema": (["--ema", "1"], "ema must be .*below 1, got 1"),
    "patience": (["--patience", "2"], "validation must be above 0 for patience"),
    "precision": (["--precision", "8-true"], "precision must be one of"),
    "device": (["--device", "tpux"], "device 'tpux' cannot be used"),
    "fraction": (["--test-fraction", "1"], "test_fraction"),
    "seed": (["--seed", "-1"], "seed must be .*at least 0"),
    "size": (["--size", "8"], "folder or zip of images for size and crop"),
}


@pytest.mark.parametrize("case", BAD_TRAIN)
def test_train_refuses(case, lorae):
    arguments, pattern = BAD_TRAIN[case]
    kept = [] if "--data" in arguments else ["--data", "digits"]
    assert_refused(lorae("train", "--out", "new", *kept, *arguments), pattern)
    assert not Path("new").exists()


def test_a_table_with_missing_values_is_refused(lorae):
    table = np.random.default_rng(0).normal(size=(50, 3))
    table[7, 1] = np.nan
    np.save("t.npy", table)
    refused = lorae("train", "--data", "t.npy", "--out", "new")
    assert_refused(
        refused, r"column_2 \(1, first in row 8\); keep missing values as gaps .--missing keep"
    )
    assert not Path("new").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_other_content_is_left_alone(resume, lorae, finished):
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


def test_resuming_with_other_options_is_refused(lorae, stopped):
    before = content(stopped)
    for arguments, pattern in (
        (["--latent", "5"], "latent was 6 and is now 5"),
        (["--width", "1"], "width was 0.1 and is now 1.0"),  # the default, but given
        (["--model", "ae"], "model was lorae and is now ae.* weight was 0.001 and is now None"),
        (["--batch-size", "7"], "batch_size was .* and is now 7"),
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
        assert_refused(lorae("train", "--resume", other), "checkpoint of another run")
        assert content(other) == before


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


@pytest.mark.parametrize(
    ("n", "model", "kind"),
    [
        *((n, "lorae", kind) for n in (2, 3, 11, 15) for kind in ("table", "images")),
        *((25, model, "table") for model in ("ae", "vae", "wae", "rrae", "gan", "least-volume")),
    ],
)
def test_few_samples_are_refused_before_a_folder_is_made_or_serve_every_command(
    n, model, kind, lorae
):
    shape = (n, 3) if kind == "table" else (n, 8, 8)
    np.save("few.npy", np.random.default_rng(0).random(shape, np.float32))
    status, _, err = lorae(
        "train",
        "--data",
        "few.npy",
        "--model",
        model,
        "--steps",
        "3",
        "--width",
        "0.1",
        "--out",
        "run",
    )
    if status == 2:
        assert re.fullmatch(r"(lorae: warning: [^\n]+\n)*lorae: [^\n]+\n", err), err
        assert not Path("run").exists()
        return
    assert status == 0, err
    commands = [
        ("spectrum", "run"),
        ("report", "run"),
        ("sample", "run", "-n", "2", "--out", "samples.npy"),
        ("evaluate", "run", "--only", "dimension", "--repeats", "1", "--samples", "20"),
    ]
    for command in commands:
        status, _, err = lorae(*command)
        assert status == 0, (command, err)


def test_a_batch_larger_than_the_training_set_is_all_of_it_and_said(lorae):
    np.save("few.npy", np.random.default_rng(0).random((20, 3), np.float32))
    status, _, err = lorae(
        "train", "--data", "few.npy", "--steps", "2", "--latent", "5", "--out", "r"
    )
    assert status == 0, err
    assert "note: a step takes all 18 training samples" in err
    assert "note: latent is 5, more than the 3 values of a sample" in err
    assert Run(Path("r")).options["batch_size"] == 18


@pytest.mark.parametrize("model", ["lorae", "ae", "vae"])
def test_a_finished_run_continues_to_more_steps_as_if_it_had_not_stopped(model, lorae):
    small = dataclasses.replace(SMALL, model=model)
    assert lorae("train", "--out", "long", *flags(dataclasses.replace(small, steps=20)))[0] == 0
    assert lorae("train", "--out", "short", *flags(dataclasses.replace(small, steps=10)))[0] == 0
    before = (Path("short") / "model.safetensors").read_bytes()
    status, _, err = lorae("train", "--resume", "short", "--steps", "20")
    assert status == 0, err
    assert "continues from step 10 to 20, after 10 steps at first, with" in err
    assert "the same learning rate, 0.001" in err
    assert (
        content(Path("short"))["short/model.safetensors"]
        == content(Path("long"))["long/model.safetensors"]
    )
    assert (Path("short") / "model-10.safetensors").read_bytes() == before
    run = Run(Path("short"))
    assert (run.options["steps"], run.about["continued_from"], run.last["step"]) == (20, [10], 20)
    assert_refused(lorae("train", "--resume", "short", "--steps", "5"), "steps was 20 and is now 5")


def test_a_run_that_patience_has_ended_is_not_continued(lorae):
    early = VARIANTS["patience"]
    assert lorae("train", "--out", "early", *flags(early))[0] == 0
    assert Run(Path("early")).last["step"] < early.steps
    before = content(Path("early"))
    answer = lorae("train", "--resume", "early", "--steps", 10 * early.steps)
    assert_refused(answer, "whose patience ended it at step")
    assert content(Path("early")) == before


def test_a_saved_config_gives_the_options(lorae, finished):
    config = finished / "config.json"
    status, _, err = lorae("train", "--config", config, "--steps", "3", "--out", "again")
    assert status == 0, err
    again = Run(Path("again")).options
    assert again == Run(finished).options | {"steps": 3}
    Path("bad.json").write_text('{"options": {"steps": "3"}}')
    refused = lorae("train", "--config", "bad.json", "--out", "new")
    assert_refused(refused, "steps must be an integer or null, got '3'")
    Path("bad.json").write_text("[]")
    refused = lorae("train", "--config", "bad.json", "--out", "new")
    assert_refused(refused, "config must be the config.json of a run, got 'bad.json'")
    assert not Path("new").exists()


def test_a_dry_run_prints_options_and_time_and_writes_nothing(lorae):
    before = set(Path().iterdir())
    status, out, err = lorae("train", *flags(SMALL), "--dry-run")
    assert (status, err) == (0, "")
    assert re.search(r"^learning_rate +0.001$", out, re.MULTILINE)
    assert re.search(
        r"^12 steps of [\d.e-]+ ms take about \d+ s here, evaluations not", out, re.MULTILINE
    )
    status, out, _ = lorae("train", *flags(SMALL), "--dry-run", "--json")
    answer = json.loads(out)
    assert answer["options"]["latent"] == SMALL.latent
    assert answer["seconds"] == pytest.approx(12 * answer["seconds_per_step"])
    assert set(Path().iterdir()) == before
