"""Fixtures for tests of the command line; name them in `pytest_plugins`."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from launcher import flags
from small import SMALL

from lorae.cli import main
from lorae.training.loop import Stepper
from lorae.training.run_folder import Run
from lorae.training.train import train


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


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Folder of a finished run `done`, and of a run `half` stopped after its first checkpoint."""
    folder, step = tmp_path_factory.mktemp("runs"), Stepper.step

    def stop_at_six(self, x):
        if self.steps == 6:
            raise KeyboardInterrupt
        return step(self, x)

    train(SMALL, folder / "done", show=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stepper, "step", stop_at_six)
        with pytest.raises(KeyboardInterrupt):
            train(SMALL, folder / "half", show=False)
    assert Run(folder / "half").checkpoint.exists()
    return folder


@pytest.fixture
def finished(lorae, runs) -> Path:
    return shutil.copytree(runs / "done", Path("done"))


@pytest.fixture
def stopped(lorae, runs) -> Path:
    return shutil.copytree(runs / "half", Path("half"))


@pytest.fixture
def plain(lorae) -> Path:
    """A run without a matrix."""
    lorae("train", "--out", "plain", *flags(dataclasses.replace(SMALL, model="ae", steps=2)))
    return Path("plain")


@pytest.fixture
def table(lorae) -> Path:
    """A run on a table with named columns."""
    values = np.random.default_rng(0).normal(size=(200, 2)) @ np.ones((2, 3))
    pl.DataFrame(values, schema=["a", "b", "c"]).write_csv("t.csv")
    lorae("train", "--data", "t.csv", "--steps", "5", "--latent", "2", "--out", "table")
    return Path("table")
