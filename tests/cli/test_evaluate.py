"""The commands evaluate, classify and fid."""

import json
import re
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from refusals import assert_refused_without_loss

from lorae.metrics import subject
from lorae.metrics.classifier import fit_or_load_classifier

pytest_plugins = ["commands"]


@pytest.fixture(autouse=True)
def quick(cached_data, monkeypatch):
    monkeypatch.setattr(
        subject, "fit_or_load_classifier", partial(fit_or_load_classifier, steps=20)
    )


def test_evaluate_prints_and_writes_scores(lorae, finished):
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
    assert json.loads(out).items() < json.loads((finished / "evaluation.json").read_text()).items()
    status, _, _ = lorae("report", finished)
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "classifier distance" in page
    assert "What the scores mean" in page


def test_classify_prints_accuracies(lorae, finished):
    arguments = ["--labels", "10", "30", "--repeats", "2", "--probes", "logistic"]
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
def weights(tmp_path_factory):
    """A stand-in for Inception: averages over parts of the image."""
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
    trusted = ["--features", weights, "--trust-weights"]
    use = [*trusted, "--json"]
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
    status, out, err = lorae("fid", "digits", "a.npy", "--samples", "25", *trusted)
    assert status == 0
    assert re.search(r"FID +\d+\.\d+ +\(25 and 25 images, resized bicubic\)", out)
    assert "it needs more images than the 27 features, got 25" in err
    status, out, err = lorae("fid", "digits", "a.npy", *trusted[:2])
    assert (status, out) == (2, "")
    assert re.search(r"\nlorae: [^\n]+is a program[^\n]+\n$", err)  # after notes on the array


def test_fid_refuses_missing_values_without_advice_that_it_does_not_take(lorae, finished):
    images = np.random.default_rng(0).random((30, 8, 8))
    images[3, 2, 2] = np.nan
    np.save("gaps.npy", images)
    status, out, err = lorae("fid", "digits", "gaps.npy")
    assert (status, out) == (2, "")
    assert "gaps.npy must hold images without missing values, got NaN; fill them" in err
    assert "--missing" not in err


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
    "classify-probe": (["classify", "RUN", "--probes", "svm"], "unknown probe 'svm'"),
    "classify-inputs": (
        ["classify", "RUN", "--inputs", "x"],
        "inputs must be one of codes, encoder, got 'x'",
    ),
    "classify-labels": (["classify", "RUN", "--labels", "9"], "labels must be at least 10"),
    "classify-table": (["classify", "TABLE"], "one label for each sample, and 't' has none"),
    "classify-two": (["classify", "RUN", "TABLE"], "runs must be of one data set, got 2"),
    "classify-seed": (["classify", "RUN", "--seed", "-1"], "seed must be .*at least 0.* got -1"),
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
    "explore-out": (
        ["explore", "RUN", "--out", "done/config.json"],
        "must not be a file that a run consists of",
    ),
    "fid-few": (["fid", "digits", "digits", "--samples", "0"], "samples must be .*at least 6"),
    "fid-missing": (["fid", "digits", "no/where"], "must be a path that exists .* got .?no/where"),
    "fid-part": (["fid", "digits:tset", "digits"], "must be one of train, test, got 'tset'"),
    "fid-table": (
        ["fid", "digits", "t.csv"],
        "a and b must be sets of images, got the table 't.csv'",
    ),
    "fid-table-run": (
        ["fid", "digits", "TABLE"],
        "a and b must be sets of images, got .table.",
    ),
    "fid-density": (["fid", "RUN", "digits", "--density", "nope"], "unknown density 'nope'"),
    "fid-resize": (["fid", "digits", "digits", "--resize", "area"], "resize must be one of"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_refused(case, lorae, finished, table, plain):
    assert_refused_without_loss(lorae, *BAD[case], {"RUN": finished, "TABLE": table, "AE": plain})
