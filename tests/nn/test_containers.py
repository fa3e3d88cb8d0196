"""Models encode, decode and reconstruct arrays and data frames as they do their training data."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import lorae
from lorae.errors import InputError
from lorae.training.options import data_of


@pytest.fixture(scope="module")
def wine(tmp_path_factory):
    """Columns of very different units, and a run on a file of them."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(80, 3)) * (1, 100, 1e-3) + (5, -300, 0)
    frame = pd.DataFrame(values, columns=["acid", "sugar", "salt"])
    folder = tmp_path_factory.mktemp("wine")
    frame.to_csv(folder / "wine.csv", index=False)
    data, out = str(folder / "wine.csv"), folder / "run"
    return frame, lorae.train(data=data, out=out, latent=2, steps=5, width=0.1, show=False)


def by_hand(run: lorae.Run, values: np.ndarray) -> np.ndarray:
    """Codes through the parts of the network, with the units computed from the training samples."""
    model, train = run.model().double(), data_of(run).train.double()
    scaled = (torch.tensor(values) - train.mean(0)) / train.std(0, correction=0)
    return model.bridge(model.encoder(scaled)).detach().numpy()


def test_columns_are_found_by_name_and_scaled_as_those_of_the_run(wine):
    frame, run = wine
    model = lorae.load(run.path)
    expected = by_hand(run, frame.to_numpy())
    shuffled = frame.assign(label="a", id=range(80))[["label", "salt", "id", "sugar", "acid"]]
    for samples in (frame.to_numpy(), frame, shuffled, pl.DataFrame(shuffled.to_dict("list"))):
        codes = model.encode(samples)
        assert isinstance(codes, np.ndarray)
        np.testing.assert_allclose(codes, expected, rtol=1e-4, atol=1e-5)


def test_a_frame_is_reconstructed_as_a_frame(wine):
    frame, run = wine
    model = lorae.load(run.path)
    named = frame[["salt", "acid", "sugar"]].set_axis([f"row {k}" for k in range(80)])
    found = model.reconstruct(named)
    assert list(found.columns) == ["salt", "acid", "sugar"]
    assert list(found.index) == list(named.index)
    expected = model.decode(model.encode(frame.to_numpy()))
    same = found[["acid", "sugar", "salt"]]
    np.testing.assert_allclose(same.to_numpy(), expected, rtol=1e-4, atol=1e-4)
    assert model.reconstruct(pl.DataFrame(frame.to_dict("list"))).columns == list(frame.columns)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="sugar"), "training data, got no sugar among acid, salt"),
        (lambda f: f.assign(sugar="much"), r"must be numbers, got text in sugar \('much' in row 1"),
        (lambda f: f.assign(salt=np.nan), r"finite numbers.*salt \(80, first in row 1"),
        (lambda f: f.to_numpy()[:, :2], r"samples of shape 3, got an array of shape \(80, 2\)"),
        (lambda f: f.to_numpy() / 0, "finite numbers"),
        (lambda f: f.to_numpy().astype(str), "array of numbers"),
        (lambda f: f.to_numpy()[0], "array of numbers with a row for each sample"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_does_not_suit_is_refused(wine, change, message):
    frame, run = wine
    with pytest.raises(InputError, match=message):
        lorae.load(run.path).encode(change(frame))


def test_categories_and_booleans_are_found_by_name(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=40), "kind": list("abca") * 10})
    frame = frame.assign(new=frame["kind"] == "a")
    options = {"latent": 2, "steps": 3, "width": 0.1, "show": False}
    frame.to_csv(tmp_path / "a.csv", index=False)
    runs = [
        lorae.train(data=data, out=tmp_path / name, **options)
        for name, data in (("memory", frame), ("file", tmp_path / "a.csv"))
    ]
    codes = [lorae.load(run.path).encode(frame[["new", "kind", "size"]]) for run in runs]
    np.testing.assert_allclose(codes[0], codes[1], atol=1e-5)
    model = lorae.load(runs[0].path)
    again = model.reconstruct(frame)
    assert list(again.columns) == ["size", "kind", "new"]
    assert set(again["kind"]) <= set("abc")
    with pytest.raises(InputError, match="'kind' must hold the categories of the fit"):
        model.encode(frame.assign(kind="z"))


def test_codes_that_do_not_suit_are_refused(wine):
    model = lorae.load(wine[1].path)
    with pytest.raises(InputError, match=re.escape("n x 2, got float64 of shape")):
        model.decode(np.zeros((3, 5)))
    with pytest.raises(InputError, match="codes must hold finite numbers"):
        model.decode([[np.nan, 0.0]])


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits") / "run"
    return lorae.train(data="digits", out=out, latent=3, steps=5, width=0.1, show=False)


def test_images_in_every_layout_and_type_have_the_same_codes(digits):
    model, images = lorae.load(digits.path), data_of(digits).test[:9]
    pixels = images[:, 0].numpy()
    expected = model(images.float() / 255).detach()[:, 0].numpy()
    codes = model.encode(images.float() / 255).detach().numpy()
    for samples in (pixels, pixels[..., None], pixels[:, None], pixels / 255, images):
        np.testing.assert_allclose(model.encode(samples), codes, atol=1e-5)
        found = np.asarray(model.reconstruct(samples))
        assert found.shape == tuple(samples.shape)
        assert found.dtype == np.asarray(samples).dtype
        if found.dtype == np.uint8:
            assert np.abs(found.reshape(expected.shape) - 255 * expected).max() <= 0.5 + 1e-3
        else:
            np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-5)
    assert model.decode(codes).shape == (9, 1, 8, 8)


def test_images_of_another_range_are_refused(digits):
    model, pixels = lorae.load(digits.path), np.full((2, 8, 8), 255.0)
    with pytest.raises(InputError, match="range 0 to 1, as the training images, got 255 to"):
        model.encode(pixels)
    with pytest.raises(InputError, match="shape 1 x 8 x 8, got an array of"):
        model.encode(np.zeros((2, 9, 8)))


def test_bytes_stay_as_they_are_for_a_model_of_floats_up_to_255(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8)).astype(np.float32)
    run = lorae.train(data=pixels, out=tmp_path / "a", latent=2, steps=2, width=0.1, show=False)
    model = lorae.load(run.path)
    np.testing.assert_array_equal(model.encode(pixels.astype(np.uint8)), model.encode(pixels))
