"""Samples are returned in the container, layout and dtype in which they were given."""

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

from lorae.errors import InputError
from lorae.estimator.inputs import (
    InputFormat,
    detect_container,
    image_layout,
    read_samples,
    to_array,
    to_float,
)

DTYPES = ("float32", "float64", "uint8")
FLAT = {"array": (7,), "tensor": (7,), "pandas": (7,), "polars": (7,)}
STACKS = {"nhw": (9, 8), "nhwc": (9, 8, 3), "nchw": (3, 9, 8), "nhwc of one": (9, 8, 1)}
ROWS = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)


def numbers(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 256, (4, *shape))
    return values.astype(np.uint8) if dtype == "uint8" else (values / 255).astype(dtype)


def put_in(kind: str, values: np.ndarray):
    """Return values in a container of that kind."""
    names = [f"x{k}" for k in range(values.shape[-1])]
    return {
        "array": lambda: values,
        "tensor": lambda: torch.from_numpy(values),
        "pandas": lambda: pd.DataFrame(values, columns=names),
        "polars": lambda: pl.DataFrame(values, schema=names),
    }[kind]()


def read(samples, image_shape=None) -> tuple[torch.Tensor, InputFormat]:
    array, input_format = read_samples(samples, image_shape)
    return input_format.to_tensor(array), input_format


def as_units(tensor: torch.Tensor) -> torch.Tensor:
    """Return samples as a decoder would: bytes as numbers from 0 to 1."""
    return tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor


# Round trips


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["array", "tensor"])
@pytest.mark.parametrize("layout", STACKS)
def test_images_are_returned_as_they_were_given(layout, kind, dtype):
    values = numbers(STACKS[layout], dtype)
    tensor, found = read(put_in(kind, values))
    assert tensor.shape == (4, *found.shape)
    assert (found.is_image, found.is_stack) == (True, True)
    assert found.n_values == math.prod(STACKS[layout])
    back = found.from_tensor(as_units(tensor))
    assert detect_container(back) == kind
    assert back.shape == values.shape
    assert str(to_array(back).dtype) == dtype
    np.testing.assert_array_equal(to_array(back), values)


@pytest.mark.parametrize("kind", FLAT)
def test_vectors_are_returned_as_they_were_given(kind):
    samples = put_in(kind, ROWS)
    tensor, found = read(samples)
    # scikit-learn takes the numbers of a polars frame for float64, which holds all of float32.
    assert tensor.dtype == (torch.float64 if kind == "polars" else torch.float32)
    np.testing.assert_array_equal(tensor, ROWS)
    assert (found.is_image, found.is_stack) == (False, False)
    back = found.from_tensor(tensor)
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
    tensor, found = read(images)
    assert found.channels_last == last
    assert found.shape == (channels, height, width)
    seen = np.moveaxis(images, 3, 1) if last else images
    np.testing.assert_array_equal(tensor.numpy(), seen)
    np.testing.assert_array_equal(found.from_tensor(tensor), images)


@given(st.lists(st.floats(-2, 3, width=32), min_size=1, max_size=64))
def test_bytes_are_rounded_to_the_nearest_and_kept_within_their_range(values):
    image = torch.tensor(values + [0.0] * (64 - len(values))).view(1, 1, 8, 8)
    given_ = InputFormat("array", (8, 8), (1, 8, 8), dtype="uint8").from_tensor(image)
    assert given_.dtype == np.uint8
    expected = 255 * image.clamp(0, 1).flatten().double().numpy()
    # Half a grey level, and what float32 rounds of 255.
    assert np.abs(given_.flatten() - expected).max() <= 0.5 + 1e-4


def test_flat_bytes_are_numbers_and_not_images():
    tensor, found = read(numbers((7,), "uint8"))
    assert tensor.dtype in (torch.float32, torch.float64)
    assert np.asarray(found.from_tensor(tensor + 0.25)).dtype.kind == "f"


def test_the_tensor_is_a_copy():
    for samples in (ROWS.copy(), numbers((9, 8, 3), "uint8")):
        tensor, _ = read(samples)
        before = samples.copy()
        tensor.zero_()
        np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("dtype", ["float16", "int16", "bool"])
def test_other_dtypes_become_float32(dtype):
    tensor, _ = read(numbers((9, 8), "uint8").astype(dtype))
    assert tensor.dtype == torch.float32


# Flat samples that are images


@pytest.mark.parametrize("layout", STACKS)
def test_networks_see_flat_images_as_stacked_ones(layout):
    images = numbers(STACKS[layout], "float32")
    stacked, _ = read(images)
    flat, found = read(images.reshape(4, -1), STACKS[layout])
    torch.testing.assert_close(flat, stacked, rtol=0, atol=0)
    assert (found.is_image, found.is_stack) == (True, False)
    np.testing.assert_array_equal(found.from_tensor(flat), images.reshape(4, -1))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((9, 9), "as many values as a sample, 72"),
        ((4, 18), "at least 8x8"),
        ((72,), r"must be \(height, width\).*got \(72,\)"),
    ],
)
def test_an_invalid_image_shape_is_refused(shape, message):
    with pytest.raises(InputError, match=message):
        InputFormat("array", (72,), (72,)).with_image_shape(shape)


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


# Formats as JSON


@pytest.mark.parametrize(
    "found",
    [
        InputFormat("array", (7,), (7,)),
        InputFormat("pandas", (2,), (2,), columns=("a", "b")),
        InputFormat("tensor", (9, 8, 3), (3, 9, 8), channels_last=True, dtype="uint8"),
    ],
)
def test_a_format_is_restored_from_json(found):
    fields = json.loads(json.dumps(dataclasses.asdict(found)))
    assert InputFormat.from_dict(fields) == found


# Training dtype


def test_bytes_become_shares_of_255_and_other_numbers_stay():
    assert to_float(torch.tensor([[0, 255]], dtype=torch.uint8)).tolist() == [[0, 1]]
    wide = torch.tensor([[1 / 3]], dtype=torch.float64)
    assert to_float(wide) is wide


def test_numbers_beyond_float32_are_refused():
    largest = torch.tensor([[torch.finfo(torch.float32).max]], dtype=torch.float64)
    assert to_float(largest).isfinite().all()
    with pytest.raises(InputError, match="within the range of float32"):
        to_float(2 * largest)
