"""Samples come back in what they were given in, whatever the networks see in between."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator

from lorae.errors import InputError
from lorae.estimator.containers import (
    Container,
    as_array,
    as_training,
    image_layout,
    kind_of,
    taken,
)

DTYPES = ("float32", "float64", "uint8")
FLAT = {"array": (7,), "tensor": (7,), "pandas": (7,), "polars": (7,)}
STACKS = {"nhw": (9, 8), "nhwc": (9, 8, 3), "nchw": (3, 9, 8), "nhwc of one": (9, 8, 1)}
ROWS = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)


class Estimator(BaseEstimator):
    """What scikit-learn sets its attributes on."""


def numbers(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 256, (4, *shape))
    return values.astype(np.uint8) if dtype == "uint8" else (values / 255).astype(dtype)


def held(values: np.ndarray, kind: str):
    """Return values in a container of that kind."""
    names = [f"x{k}" for k in range(values.shape[-1])]
    return {
        "array": lambda: values,
        "tensor": lambda: torch.from_numpy(values),
        "pandas": lambda: pd.DataFrame(values, columns=names),
        "polars": lambda: pl.DataFrame(values, schema=names),
    }[kind]()


def first(samples, image_shape=None) -> tuple[torch.Tensor, Container]:
    return taken(Estimator(), samples, image_shape, reset=True)


def as_units(tensor: torch.Tensor) -> torch.Tensor:
    """Return what a decoder would give for samples: bytes as numbers from 0 to 1."""
    return tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor


# There and back


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["array", "tensor"])
@pytest.mark.parametrize("layout", STACKS)
def test_images_come_back_as_they_were(layout, kind, dtype):
    values = numbers(STACKS[layout], dtype)
    tensor, container = first(held(values, kind))
    assert tensor.shape == (4, *container.shape)
    assert (container.is_image, container.is_stack) == (True, True)
    assert container.values == math.prod(STACKS[layout])
    back = container.give(as_units(tensor))
    assert kind_of(back) == kind
    assert back.shape == values.shape
    assert str(as_array(back).dtype) == dtype
    np.testing.assert_array_equal(as_array(back), values)


@pytest.mark.parametrize("kind", FLAT)
def test_vectors_come_back_as_they_were(kind):
    samples = held(ROWS, kind)
    tensor, container = first(samples)
    # scikit-learn takes the numbers of a polars frame for float64, which holds all of float32.
    assert tensor.dtype == (torch.float64 if kind == "polars" else torch.float32)
    np.testing.assert_array_equal(tensor, ROWS)
    assert (container.is_image, container.is_stack) == (False, False)
    back = container.give(tensor)
    assert type(back) is type(samples)
    assert list(getattr(back, "columns", ())) == list(getattr(samples, "columns", ()))
    np.testing.assert_array_equal(np.asarray(back), ROWS)


@given(
    st.integers(1, 4),
    st.sampled_from([1, 3, 4]),
    st.integers(8, 12),
    st.integers(8, 12),
    st.booleans(),
)
def test_channels_keep_their_pixels(n, channels, height, width, last):
    """Pixel (i, j) of channel c is the same number to the user and to the networks."""
    images = np.arange(n * channels * height * width, dtype=np.float32)
    images = images.reshape((n, height, width, channels) if last else (n, channels, height, width))
    tensor, container = first(images)
    assert container.channels_last == last
    assert container.shape == (channels, height, width)
    seen = np.moveaxis(images, 3, 1) if last else images
    np.testing.assert_array_equal(tensor.numpy(), seen)
    np.testing.assert_array_equal(container.give(tensor), images)


@given(st.lists(st.floats(-2, 3, width=32), min_size=1, max_size=64))
def test_bytes_are_rounded_to_the_nearest_and_kept_within_their_range(values):
    image = torch.tensor(values + [0.0] * (64 - len(values))).view(1, 1, 8, 8)
    given_ = Container("array", (8, 8), (1, 8, 8), dtype="uint8").give(image)
    assert given_.dtype == np.uint8
    expected = 255 * image.clamp(0, 1).flatten().double().numpy()
    # Half a grey level, and what float32 rounds of 255.
    assert np.abs(given_.flatten() - expected).max() <= 0.5 + 1e-4


def test_flat_bytes_are_numbers_and_no_image():
    tensor, container = first(numbers((7,), "uint8"))
    assert tensor.dtype in (torch.float32, torch.float64)
    assert np.asarray(container.give(tensor + 0.25)).dtype.kind == "f"


def test_what_is_taken_is_a_copy():
    for samples in (ROWS.copy(), numbers((9, 8, 3), "uint8")):
        tensor, _ = first(samples)
        before = samples.copy()
        tensor.zero_()
        np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("dtype", ["float16", "int16", "bool"])
def test_other_numbers_are_taken_as_floats(dtype):
    tensor, _ = first(numbers((9, 8), "uint8").astype(dtype))
    assert tensor.dtype == torch.float32


# Flat samples that are images


@pytest.mark.parametrize("layout", STACKS)
def test_flat_images_are_the_networks_the_same_as_stacked_ones(layout):
    images = numbers(STACKS[layout], "float32")
    stacked, _ = first(images)
    flat, container = first(images.reshape(4, -1), STACKS[layout])
    torch.testing.assert_close(flat, stacked, rtol=0, atol=0)
    assert (container.is_image, container.is_stack) == (True, False)
    np.testing.assert_array_equal(container.give(flat), images.reshape(4, -1))


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((9, 9), "as many values as a sample, 72"),
        ((4, 18), "8x8 is the least"),
        ((72,), r"must be \(height, width\).*got \(72,\)"),
    ],
)
def test_an_image_shape_that_is_none_is_refused(shape, told):
    with pytest.raises(InputError, match=told):
        Container("array", (72,), (72,)).folded(shape)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 28, 30), ((1, 28, 30), False)),
        ((2, 28, 30, 3), ((3, 28, 30), True)),
        ((2, 3, 28, 30), ((3, 28, 30), False)),
        ((2, 28, 30, 1), ((1, 28, 30), True)),
        ((2, 5, 28, 30), ((5, 28, 30), False)),  # no number of channels of a picture file
    ],
)
def test_the_layout_of_images(shape, expected):
    assert image_layout(np.zeros(shape), "X") == expected


# What is kept of a container


@pytest.mark.parametrize(
    "container",
    [
        Container("array", (7,), (7,)),
        Container("pandas", (2,), (2,), columns=("a", "b")),
        Container("tensor", (9, 8, 3), (3, 9, 8), channels_last=True, dtype="uint8"),
    ],
)
def test_a_container_comes_back_from_json(container):
    told = json.loads(json.dumps(dataclasses.asdict(container)))
    assert Container.from_dict(told) == container


# Later samples


@pytest.mark.parametrize(
    ("earlier", "later", "told"),
    [
        (numbers((9, 8), "float32"), numbers((8, 9), "float32"), r"\(8, 9\).*\(9, 8\)"),
        (numbers((9, 8, 3), "uint8"), numbers((3, 9, 8), "uint8"), r"\(3, 9, 8\).*\(9, 8, 3\)"),
        (numbers((9, 8), "float32"), ROWS, "7 features"),
        (ROWS, numbers((9, 8), "float32"), r"samples of shape \(9, 8\)"),
        (ROWS, ROWS[:, :6], "6 features"),
    ],
)
def test_later_samples_must_be_like_the_first(earlier, later, told):
    estimator = Estimator()
    _, estimator.container_ = taken(estimator, earlier, None, reset=True)
    taken(estimator, earlier[:1], None, reset=False)
    with pytest.raises(ValueError, match=told):
        taken(estimator, later, None, reset=False)


def test_names_of_columns_are_forgotten_with_the_data_frame_they_came_with():
    estimator = Estimator()
    taken(estimator, held(ROWS, "pandas"), None, reset=True)
    assert list(estimator.feature_names_in_) == [f"x{k}" for k in range(7)]
    taken(estimator, numbers((9, 8), "float32"), None, reset=True)
    assert not hasattr(estimator, "feature_names_in_")
    assert estimator.n_features_in_ == 72


# What is trained on


def test_training_is_in_bytes_or_float32():
    assert as_training(torch.zeros(2, 3, dtype=torch.uint8)).dtype == torch.uint8
    narrow = as_training(torch.tensor([[1 / 3]], dtype=torch.float64))
    assert narrow.dtype == torch.float32
    assert narrow.item() == pytest.approx(1 / 3)


def test_numbers_beyond_float32_are_refused():
    largest = torch.tensor([[torch.finfo(torch.float32).max]], dtype=torch.float64)
    assert as_training(largest).isfinite().all()
    with pytest.raises(InputError, match="within float32"):
        as_training(2 * largest)
