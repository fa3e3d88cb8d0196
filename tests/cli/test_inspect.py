"""lorae spectrum, lorae report and lorae explore."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from refusals import assert_refused
from small import SMALL, content

from lorae.training.run_folder import Run

pytest_plugins = ["commands"]
pytestmark = pytest.mark.usefixtures("cached_data")


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


def test_a_rank_that_the_number_of_samples_bounds_is_noted(lorae):
    np.save("t.npy", np.random.default_rng(0).normal(size=(80, 24)))
    options = ("--model", "ae", "--latent", 24, "--width", 0.1, "--steps", 2)
    found = [lorae("train", "--data", "t.npy", *options, "--out", "run"), lorae("spectrum", "run")]
    assert all("8 test samples show a rank of at most 7 of 24" in out for _, out, _ in found)


def test_report_writes_a_file_and_prints_its_path(lorae, finished):
    status, out, _ = lorae("report", finished)
    assert status == 0
    assert Path(out.strip()) == finished / "report.html"
    assert "<html" in (finished / "report.html").read_text()
    status, out, _ = lorae("report", finished, "--out", "else/where.html")
    assert status == 0
    assert Path("else/where.html").is_file()


def test_explore_writes_a_page_and_prints_its_path(lorae, finished, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    status, out, err = lorae("explore", finished)
    assert (status, err) == (0, "")
    assert Path(out.strip()) == finished / "explorer.html"
    assert "lorae explorer" in (finished / "explorer.html").read_text(encoding="utf-8")
    assert opened == []
    status, out, _ = lorae(
        "explore", finished, "--out", "e.html", "--density", "mixture-4", "--open"
    )
    assert status == 0
    assert opened == [Path("e.html").resolve().as_uri()]


def test_report_opens_itself(lorae, finished, monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    status, _, err = lorae("report", finished, "--open")
    assert status == 0
    assert "no browser found to open" in err


@pytest.mark.parametrize("command", ["spectrum", "report", "explore"])
def test_a_missing_or_unfinished_run_is_refused(command, lorae, stopped):
    before = content(stopped)
    assert_refused(lorae(command, "nowhere"), "there is no run at 'nowhere'")
    assert_refused(lorae(command, stopped), "training has not ended.*--resume half")
    assert content(stopped) == before


@pytest.mark.parametrize("command", [["spectrum"], ["report"], ["explore"], ["train", "--resume"]])
def test_a_run_whose_data_have_changed_is_refused(command, lorae):
    samples = np.random.default_rng(0).normal(size=(200, 5))
    np.save("t.npy", samples)
    assert lorae("train", "--data", "t.npy", "--out", "run", "--steps", "3")[0] == 0
    np.save("t.npy", samples + 1)
    before = content(Path())
    assert_refused(lorae(*command, "run"), r"t\.npy' are not those .*'run'.* checksum differs")
    assert content(Path()) == before


def test_report_enters_folders_of_runs_and_skips_what_is_no_run(lorae, finished, stopped):
    shutil.copytree(finished, Path("runs/sweep/seed-0"))
    shutil.copytree(finished, Path("runs/sweep/seed-1"))
    shutil.copytree(stopped, Path("runs/stopped"))
    Path("runs/path").mkdir()
    Path("runs/path/path.json").write_text("{}")
    Path("runs/file").touch()
    status, out, err = lorae("report", *sorted(Path("runs").iterdir()), "--out", "page.html")
    assert (status, out) == (0, "page.html\n"), err
    for name, why in (("file", "no run"), ("path", "no run"), ("stopped", "not ended")):
        assert re.search(rf"warning: skipped 'runs/{name}': .*{why}", err)
    page = Path("page.html").read_text(encoding="utf-8")
    assert "seed-0" in page
    assert "seed-1" in page
    assert_refused(lorae("report", "runs/path"), "there is no finished run at 'runs/path'")
    assert_refused(lorae("report", finished, "runs/typo"), "there is no run at 'runs/typo'")
