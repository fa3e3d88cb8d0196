"""The commands sample and interpolate."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from launcher import flags
from PIL import Image
from refusals import assert_refused_without_loss
from small import SMALL

from lorae import data

pytest_plugins = ["commands"]
pytestmark = pytest.mark.usefixtures("cached_data")


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
def test_sample_accepts_a_density(density, lorae, finished):
    assert lorae("sample", finished, "-n", "3", "--density", density, "--out", "x.npy")[0] == 0
    assert np.load("x.npy").shape == (3, 8, 8, 1)


def test_sample_writes_rows_in_the_units_of_the_table(lorae, table):
    assert lorae("sample", table, "-n", "50", "--out", "x.csv")[0] == 0
    rows = pl.read_csv("x.csv")
    assert rows.columns == ["a", "b", "c"]
    assert rows.shape == (50, 3)
    lorae("sample", table, "-n", "50", "--out", "x.npy")
    np.testing.assert_allclose(np.load("x.npy"), rows.to_numpy(), rtol=1e-5)


def test_sample_writes_images_in_the_units_of_the_data(lorae):
    pixels = np.random.default_rng(0).uniform(-1, 1, (40, 8, 9, 3))
    np.save("deep.npy", (65535 * (pixels + 1) / 2).astype(np.uint16))
    np.save("signed.npy", pixels.astype(np.float32))
    for name, low, high in (("deep", 0, 65535), ("signed", -1, 1)):
        options = ("--latent", 3, "--width", 0.1, "--steps", 3)
        assert lorae("train", "--data", f"{name}.npy", *options, "--out", name)[0] == 0
        assert lorae("sample", name, "-n", 20, "--out", "samples.npy")[0] == 0
        found = np.load("samples.npy")
        assert found.dtype == np.float32
        assert found.shape == (20, 8, 9, 3)
        assert low <= found.min() < low + 0.7 * (high - low)
        assert high >= found.max() > high - 0.7 * (high - low)
        assert lorae("sample", name, "-n", 2, "--out", f"{name}-png")[0] == 0


@pytest.mark.parametrize("kind", ["linear", "spherical", "axes"])
def test_interpolate_writes_images_and_measures_the_detour(kind, lorae, finished):
    arguments = ["--kind", kind, "--rows", "3", "--images", "5"]
    status, out, err = lorae("interpolate", finished, *arguments, "--json")
    assert status == 0, err
    answer = json.loads(out)
    assert len(answer["detour"]["values"]) == 3
    assert min(answer["detour"]["values"]) >= 1
    with Image.open(answer["picture"]) as picture:
        assert picture.size == (5 * 8 + 4, 3 * 8 + 2)
    status, out, _ = lorae("interpolate", finished, *arguments, "--out", "a.png")
    assert out.startswith("a.png\ndetour")


BAD = {
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
        ["interpolate", "RUN", "--images", "1"],
        "images must be .*at least 2, got 1",
    ),
    "sample-memory": (
        ["sample", "RUN", "-n", str(10**30), "--out", "x.npy"],
        "n must be smaller: 10{30} samples and their codes need .* GB of memory",
    ),
    "interpolate-table": (
        ["interpolate", "TABLE"],
        "run must be of images .* got one of 't'",
    ),
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
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_refused(case, lorae, finished, table, plain):
    assert_refused_without_loss(lorae, *BAD[case], {"RUN": finished, "TABLE": table, "AE": plain})


def test_interpolate_refuses_models_without_encoder(lorae):
    arguments = flags(dataclasses.replace(SMALL, model="gan"))
    lorae("train", "--out", "gan", *arguments)
    status, _, err = lorae("interpolate", "gan")
    assert status == 2
    assert "run must be of a model with an encoder" in err
    assert lorae("sample", "gan", "-n", "2", "--out", "x.npy")[0] == 0


KINDS = ("ash", "elm", "oak")


def mixed_table(path, *, gaps):
    """Write a table whose columns of numbers, text and booleans follow one hidden kind."""
    lines = ["height,kind,rings,old"]
    for k in range(120):
        kind, wobble = k % 3, (k * 7 % 11) / 20
        hole = gaps and k % 10 == 0
        height = "" if hole else f"{2 * kind + wobble:.2f}"
        name = "" if gaps and k % 10 == 5 else KINDS[kind]
        lines.append(f"{height},{name},{10 * kind + k % 4},{str(kind == 2).lower()}")
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("gaps", [False, True])
def test_a_mixed_table_from_training_to_samples(lorae, gaps):
    mixed_table(Path("trees.csv"), gaps=gaps)
    missing = ["--missing", "keep"] if gaps else []
    train = ["--data", "trees.csv", "--steps", "300", "--out", "run", *missing]
    status, out, err = lorae("train", *train)
    assert status == 0
    assert "columns of categories (how many): kind (3), old (2)" in err
    assert "categories reconstructed right: kind 100.0%, old 100.0%" in out
    config = json.loads(Path("run/config.json").read_text())
    assert any("kind (3), old (2)" in note for note in config["data"]["notes"])
    assert lorae("sample", "run", "--out", "sample.csv", "-n", "300")[0] == 0
    made = pl.read_csv("sample.csv")
    assert made.columns == ["height", "kind", "rings", "old"]
    assert made.schema["rings"].is_integer()
    shares = made["kind"].value_counts(normalize=True)["proportion"]
    assert shares.to_list() == pytest.approx([1 / 3] * 3, abs=0.15)
    assert ((made["kind"] == "oak") == made["old"].cast(pl.String).eq("true")).mean() > 0.9
    status, out, _ = lorae("evaluate", "run")
    assert status == 0
    assert "accuracy of kind" in out
    for command in (["report", "run"], ["export", "run", "--to", "hub", "--out", "hub"]):
        assert lorae(*command)[0] == 0
