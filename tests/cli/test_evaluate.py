"""The commands that judge and use a trained model."""

import dataclasses
import json
import re
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from launcher import flags
from PIL import Image
from refusals import assert_refused_without_loss
from small import SMALL

from lorae import data
from lorae.metrics import protocol
from lorae.metrics.classifier import fit_or_load_classifier

pytest_plugins = ["commands"]


@pytest.fixture(autouse=True)
def quick(data_kept, monkeypatch):
    monkeypatch.setattr(
        protocol, "fit_or_load_classifier", partial(fit_or_load_classifier, steps=20)
    )


@pytest.fixture
def table(lorae) -> Path:
    """A run on a table with named columns."""
    values = np.random.default_rng(0).normal(size=(200, 2)) @ np.ones((2, 3))
    pl.DataFrame(values, schema=["a", "b", "c"]).write_csv("t.csv")
    lorae("train", "--data", "t.csv", "--steps", "5", "--latent", "2", "--out", "table")
    return Path("table")


def test_evaluate_prints_and_keeps_scores(lorae, finished):
    quick = ["--samples", "40", "--repeats", "2", "--labels", "20"]
    status, out, err = lorae("evaluate", finished, *quick)
    assert status == 0, err
    for part in ("reconstruction", "generation", "interpolation", "dimension", "classification"):
        assert re.search(rf"^{part}$", out, re.MULTILINE)
    assert re.search(r"classifier distance +gaussian +[\d.]+ ± [\d.]+", out)
    assert "FID" not in out
    assert re.search(
        r"^reconstruction, .*: .*test samples; seeds 0 to 1; features: cla", out, re.MULTILINE
    )
    assert re.search(r"rank at 1e-02 +M +\d+$", out, re.MULTILINE)
    status, out, _ = lorae("evaluate", finished, "--only", "dimension", "--json", *quick)
    assert status == 0
    assert json.loads(out) == json.loads((finished / "evaluation.json").read_text())
    status, _, _ = lorae("report", finished)
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "classifier distance" in page
    assert "What the scores mean" in page


def test_sample_writes_images(lorae, finished):
    status, out, err = lorae("sample", finished, "-n", "7", "--out", "new")
    assert (status, out) == (0, "7 samples in new\n"), err
    paths = sorted(Path("new").iterdir())
    assert [path.name for path in paths] == [f"{k:06}.png" for k in range(7)]
    lorae("sample", finished, "-n", "7", "--out", "new.npy")
    images = np.load("new.npy")
    assert images.shape == (7, 8, 8, 1)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images[3, ..., 0], np.asarray(Image.open(paths[3])))
    lorae("sample", finished, "-n", "7", "--seed", "1", "--out", "other.npy")
    assert (np.load("other.npy") != images).any()
    assert data.load("new", test_fraction=0.5).shape == (1, 8, 8)  # what is written can be read


@pytest.mark.parametrize("density", ["gaussian", "mixture-4", "flow"])
def test_sample_takes_a_density(density, lorae, finished):
    assert lorae("sample", finished, "-n", "3", "--density", density, "--out", "x.npy")[0] == 0
    assert np.load("x.npy").shape == (3, 8, 8, 1)


def test_sample_writes_rows_of_a_table_in_its_own_units(lorae, table):
    assert lorae("sample", table, "-n", "50", "--out", "x.csv")[0] == 0
    rows = pl.read_csv("x.csv")
    assert rows.columns == ["a", "b", "c"]
    assert rows.shape == (50, 3)
    lorae("sample", table, "-n", "50", "--out", "x.npy")
    np.testing.assert_allclose(np.load("x.npy"), rows.to_numpy(), rtol=1e-5)


@pytest.mark.parametrize("kind", ["linear", "spherical", "axes"])
def test_interpolate_draws_a_picture_and_measures(kind, lorae, finished):
    arguments = ["--kind", kind, "--rows", "3", "--steps", "5"]
    status, out, err = lorae("interpolate", finished, *arguments, "--json")
    assert status == 0, err
    answer = json.loads(out)
    assert len(answer["detour"]["values"]) == 3
    assert min(answer["detour"]["values"]) >= 1
    with Image.open(answer["picture"]) as picture:
        assert picture.size == (5 * 8 + 4, 3 * 8 + 2)
    status, out, _ = lorae("interpolate", finished, *arguments, "--out", "a.png")
    assert out.startswith("a.png\ndetour")


def test_classify_prints_the_papers_table(lorae, finished):
    arguments = ["--labels", "10", "30", "--draws", "2", "--probe", "logistic"]
    status, out, err = lorae("classify", finished, *arguments, "--supervised")
    assert status == 0, err
    head, row, supervised = out.splitlines()
    assert head.split() == ["test", "accuracy,", "%", "10", "labels", "30", "labels"]
    assert row.startswith(finished.name)
    assert supervised.startswith("supervised")
    values = [float(v) for v in re.findall(r"([\d.]+) ±", row)]
    assert all(5 < value < 100 for value in values)
    a, b = (
        json.loads(lorae("classify", finished, *arguments, "--inputs", i, "--json")[1])
        for i in ("codes", "encoder")
    )
    assert a != b  # M E(x), E(x)


@pytest.fixture
def weights(tmp_path_factory) -> Path:
    """A network that stands for Inception: averages over parts of the image."""
    path = tmp_path_factory.mktemp("weights") / "w.pt"
    pool = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(3), torch.nn.Flatten())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.trace(pool, torch.zeros(1, 3, 299, 299)).save(str(path))
    return path


@pytest.mark.filterwarnings("ignore")
def test_fid_compares_any_two_sets(lorae, finished, weights):
    lorae("sample", finished, "-n", "60", "--out", "folder")
    lorae("sample", finished, "-n", "60", "--out", "a.npy")
    use = ["--weights", weights, "--json"]
    same = json.loads(lorae("fid", "a.npy", "a.npy", *use)[1])
    assert same["FID"] < 1e-6
    assert same["precision"] == same["coverage"] == 1
    found = {}
    for other in ("folder", "a.npy", str(finished), "digits:train"):
        status, out, err = lorae("fid", "digits", other, "--samples", "60", *use)
        assert status == 0, err
        found[other] = json.loads(out)
        assert found[other]["images"] == [60, 60]
        assert "sha" not in out
    assert found["folder"]["FID"] == pytest.approx(found["a.npy"]["FID"], rel=1e-4)
    assert found["digits:train"]["FID"] < found["folder"]["FID"] / 5
    status, out, err = lorae("fid", "digits", "a.npy", "--samples", "25", "--weights", weights)
    assert status == 0
    assert re.search(r"FID +\d+\.\d+ +\(25 and 25 images, resized bicubic\)", out)
    assert "it needs more images than the 27 features, got 25" in err


BAD = {
    "evaluate-part": (["evaluate", "RUN", "--only", "dimensoin"], "unknown part of an evaluation"),
    "evaluate-run": (["evaluate", "nowhere"], "there is no run at 'nowhere'"),
    "evaluate-density": (["evaluate", "RUN", "--densities", "gmm"], "unknown density 'gmm'"),
    "evaluate-few": (["evaluate", "RUN", "--samples", "3"], "samples must be .*at least 20, got 3"),
    "evaluate-weights": (
        ["evaluate", "RUN", "--features", "no.pt"],
        "weights must be a file of Inception weights",
    ),
    "evaluate-labels": (
        ["evaluate", "RUN", "--only", "classification", "--labels", "5"],
        "labels must be at least 10 .* got 5",
    ),
    "sample-n": (["sample", "RUN", "-n", "0", "--out", "x"], "n must be .*at least 1, got 0"),
    "sample-density": (
        ["sample", "RUN", "--density", "mix", "--out", "x"],
        "unknown density 'mix'",
    ),
    "sample-prior": (
        ["sample", "RUN", "--density", "prior", "--out", "x"],
        "not trained to a prior",
    ),
    "sample-out": (["sample", "RUN", "--out", "x.csv"], "a folder or an .npy file for images"),
    "sample-full": (["sample", "RUN", "--out", "full"], "must be a new or empty folder"),
    "sample-table": (["sample", "TABLE", "--out", "x"], "a .csv or .npy file for a table"),
    "interpolate-kind": (
        ["interpolate", "RUN", "--kind", "liner"],
        "kind must be one of linear, spherical, axes, got 'liner'",
    ),
    "interpolate-steps": (
        ["interpolate", "RUN", "--steps", "1"],
        "steps must be .*at least 2, got 1",
    ),
    "interpolate-table": (["interpolate", "TABLE"], "needs a run on images, got one on 't'"),
    "classify-probe": (["classify", "RUN", "--probe", "svm"], "unknown probe 'svm'"),
    "classify-inputs": (
        ["classify", "RUN", "--inputs", "x"],
        "inputs must be one of codes, encoder, got 'x'",
    ),
    "classify-labels": (["classify", "RUN", "--labels", "9"], "labels must be at least 10"),
    "classify-table": (["classify", "TABLE"], "one label for each sample, and 't' has none"),
    "classify-two": (["classify", "RUN", "TABLE"], "runs must be of one data set, got 2"),
    "classify-seed": (["classify", "RUN", "--seed", "-1"], "seed must be .*at least 0.* got -1"),
    "interpolate-seed": (["interpolate", "RUN", "--seed", str(2**80)], "seed must be .*at most"),
    "interpolate-out": (
        ["interpolate", "RUN", "--out", "done/model.safetensors"],
        "must not be a file that a run consists of",
    ),
    "sample-prior-deep": (
        ["sample", "RUN", "--density", "prior", "--out", "a/b/x.npy"],
        "not trained to a prior",
    ),
    "sample-seed": (["sample", "RUN", "--seed", "-1", "--out", "x"], "seed must be .*at least 0"),
    "evaluate-seed": (["evaluate", "RUN", "--seed", "-1"], "seed must be .*at least 0, got -1"),
    "evaluate-resize": (["evaluate", "RUN", "--resize", "area"], "resize must be one of"),
    "evaluate-table": (
        ["evaluate", "TABLE", "--only", "generation", "classification"],
        "one that applies to the model and data of 'table', got generation, classification",
    ),
    "report-out": (
        ["report", "RUN", "--out", "done/config.json"],
        "must not be a file that a run consists of",
    ),
    "fid-few": (["fid", "digits", "digits", "--samples", "0"], "samples must be .*at least 6"),
    "fid-missing": (["fid", "digits", "no/where"], "must be a path that exists .* got .?no/where"),
    "fid-part": (["fid", "digits:tset", "digits"], "must be one of train, test, got 'tset'"),
    "fid-table": (["fid", "digits", "t.csv"], "fid compares images, got 't.csv', which has none"),
    "fid-table-run": (
        ["fid", "digits", "TABLE"],
        "got 'table', which has none",
    ),
    "fid-density": (["fid", "RUN", "digits", "--density", "nope"], "unknown density 'nope'"),
    "fid-resize": (["fid", "digits", "digits", "--resize", "area"], "resize must be one of"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_done_is_told(case, lorae, finished, table, plain):
    assert_refused_without_loss(lorae, *BAD[case], {"RUN": finished, "TABLE": table, "AE": plain})


def test_a_gan_is_told_where_an_encoder_is_needed(lorae):
    arguments = flags(dataclasses.replace(SMALL, model="gan"))
    lorae("train", "--out", "gan", *arguments)
    status, _, err = lorae("interpolate", "gan")
    assert status == 2
    assert "this model has no encoder" in err
    assert lorae("sample", "gan", "-n", "2", "--out", "x.npy")[0] == 0
