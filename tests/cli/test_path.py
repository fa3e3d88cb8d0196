"""lorae path."""

import json

import numpy as np
import pytest
import torch
from refusals import assert_refused

from lorae.nn.serialization import load

pytest_plugins = ["commands"]
SMALL = ("path", "--data", "digits", "--ranks", 4, "--steps", 20, "--width", 0.1, "--out", "kept")


def table() -> np.ndarray:
    """Return three dimensions in eight, a flat and a bent part of them."""
    generator = np.random.default_rng(0)
    t = generator.normal(size=(400, 3)) @ generator.normal(size=(3, 8))
    return (t + 0.01 * np.tanh(t)).astype("float32")


def test_path_saves_every_model(lorae, tmp_path):
    np.save("table.npy", table())
    asked = ("path", "--data", "table.npy", "--ranks", 4, 3, 1, "--steps", 40, "--out", "kept")
    status, out, _ = lorae(*asked)
    assert status == 0
    assert "<- knee" in out
    assert "of PCA" in out
    assert load("kept/rank-003.safetensors").encode(torch.zeros(1, 8)).shape == (1, 3)
    about = json.loads((tmp_path / "kept" / "path.json").read_text())
    assert [point["rank"] for point in about["points"]] == [4, 3, 1]
    assert (tmp_path / "kept" / "path.svg").read_text().startswith("<?xml")
    status, _, err = lorae(*asked)
    assert status == 2
    assert "out must be a new or empty folder" in err
    status, _, err = lorae("path", "--data", "table.npy", "--features", "classifier")
    assert (status, err.count("\n")) == (2, 1)


def test_path_measures_generation(lorae):
    asked = ("path", "--data", "digits", "--ranks", 4, "--steps", 20, "--width", 0.2, "--json")
    status, out, _ = lorae(*asked, "--features", "classifier", "--samples", 50)
    assert status == 0
    assert all(point["distance"] > 0 for point in json.loads(out)["points"])


def test_path_of_several_seeds_saves_the_models_of_each(lorae):
    status, out, _ = lorae(*SMALL, "--seeds", 0, 1, "--processes", 1, "--json")
    assert status == 0
    assert json.loads(out)["folder"] == "kept"
    for seed in (0, 1):
        assert load(f"kept/seed-{seed}/rank-004.safetensors").bridge.latent == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", 0, 1, "--features", "classifier"], "give seeds or features, not both"),
        (["--processes", 0], "processes must be .*got 0"),
        (["--data", "mnits"], "unknown data set 'mnits'"),
    ],
)
def test_refusals(arguments, message, lorae):
    assert_refused(lorae("path", *arguments), message)
