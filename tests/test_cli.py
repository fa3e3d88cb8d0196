"""The command line: what it prints, what it refuses and how."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from launcher import flags, needs_fork, start
from small import SMALL, load

from lorae.cli import main
from lorae.files import load_tensors
from lorae.options import Options
from lorae.runs import Run
from lorae.training import Session

COMMANDS = (
    ["demo"],
    ["train"],
    ["spectrum"],
    ["report"],
    ["data"],
    ["data", "list"],
    ["data", "fetch"],
)


@pytest.fixture(autouse=True)
def data_kept(monkeypatch):
    monkeypatch.setattr(Options, "load", load)


@pytest.fixture
def lorae(capsys, tmp_path, monkeypatch):
    """Return a function that runs `lorae ARGUMENTS` in a folder: status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture
def finished(lorae) -> Path:
    assert lorae("train", "--out", "done", *flags(SMALL))[0] == 0
    return Path("done")


@pytest.fixture
def stopped(lorae, monkeypatch) -> Path:
    """Return a run stopped after its first checkpoint."""
    step = Session.step

    def stopping(self, x):
        if self.state.step == 6:
            raise KeyboardInterrupt
        return step(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "step", stopping)
        assert lorae("train", "--out", "half", *flags(SMALL))[0] == 130
    assert Run(Path("half")).checkpoint.exists()
    return Path("half")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(answer: tuple[int, str, str], pattern: str) -> None:
    """Check for status 2 and one line of one sentence on standard error, nothing beside it."""
    status, out, err = answer
    assert status == 2, err
    assert out == ""
    assert re.fullmatch(r"lorae: [^\n]+\n", err), err
    assert re.search(pattern, err), err


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_help_tells_every_option_with_its_default(command, lorae):
    status, out, _ = lorae(*command, "--help")
    assert status == 0
    text = re.sub(r"([│╭╮╰╯─\s]|-{4,})+", " ", out)
    _, *told = re.split(r" --(?=[a-z-]+ )", text)
    options = {f"--{part.split()[0]}" for part in told}
    assert "--help" in options
    assert all("(default:" in part or part.startswith("help ") for part in told), told
    if command == ["train"]:
        names = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(Options)}
        assert names | {"--out", "--resume", "--json"} <= options


def test_help_lists_the_commands(lorae):
    _, out, _ = lorae("--help")
    for command in ("demo", "train", "spectrum", "report", "data"):
        assert re.search(rf"\b{command}\b", out)


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


BAD_TRAIN = {
    "data-name": (["--data", "digts"], r"unknown data set 'digts' \(did you mean 'digits'\?\)"),
    "data-path": (["--data", "no/such.csv"], "no/such.csv.* does not exist"),
    "model": (["--model", "lorea"], r"unknown model 'lorea' \(did you mean 'lorae'\?\)"),
    "network": (["--network", "conf"], r"unknown network 'conf' \(did you mean 'conv'\?\)"),
    "network-shape": (["--network", "mnist"], r"takes samples of shape \(1, 32, 32\)"),
    "weight": (["--weight", "-0.1"], r"weight must be .* at least 0, got -0\.1"),
    "weight-nan": (["--weight", "nan"], "weight must be .*finite.* got nan"),
    "weight-ae": (["--model", "ae", "--weight", "1"], "weight is not an option of AE"),
    "latent-0": (["--latent", "0"], "latent must be .* at least 1, got 0"),
    "latent-large": (["--latent", "65"], "latent must be 1 to 64"),
    "width": (["--width", "0"], "width must be .* greater than 0"),
    "depth": (["--depth", "3"], "depth is an option of irmae only"),
    "batch": (["--batch-size", "1618"], "batch_size must not exceed .* 1618 for 1617"),
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
    assert content(Path()) == before


@pytest.mark.parametrize("command", ["spectrum", "report"])
def test_a_run_that_is_missing_or_not_finished_is_told(command, lorae, stopped):
    before = content(stopped)
    assert_refused(lorae(command, "nowhere"), "there is no run at 'nowhere'")
    assert_refused(lorae(command, stopped), "training has not ended.*--resume half")
    assert content(stopped) == before


def test_resuming_with_other_options_is_refused(lorae, stopped):
    before = content(stopped)
    for arguments, pattern in (
        (["--latent", "5"], "latent was 6 and is now 5"),
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
    for arguments in ({"latent": 5}, {"model": "ae"}, {"width": 0.2}, {"ema": 0.9}):
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


@needs_fork
def test_a_closed_pipe_is_no_error(tmp_path):
    """Such as that of `lorae data list | head -0`."""
    closed = (
        "import os, sys, lorae.cli; ours, theirs = os.pipe(); os.close(ours); os.dup2(theirs, 1)\n"
    )
    process = start(folder=tmp_path, code=closed + "sys.exit(lorae.cli.main(['data', 'list']))")
    assert process.wait() == 0
    assert process.err == ""


def test_python_m_lorae_is_the_command_and_imports_no_more_than_it_needs(tmp_path):
    code = """
import runpy, sys
sys.argv = ["lorae", "data", "fetch", "mnits"]
try:
    runpy.run_module("lorae", run_name="__main__")
except SystemExit as stop:
    heavy = {"lightning_fabric", "sklearn", "matplotlib", "polars"} & set(sys.modules)
    print(stop.code, heavy)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "2 set()\n"
    assert done.stderr.startswith("lorae: unknown data set 'mnits' (did you mean 'mnist'?)")
