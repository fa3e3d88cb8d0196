"""Samples are returned in the container, layout and dtype in which they were given."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from lorae.data.labelled import layout_of
from lorae.errors import InputError
from lorae.estimator.inputs import (
    InputFormat,
    check_gaps,
    detect_container,
    grid_layout,
    label_samples,
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
    assert (found.is_grid, found.is_stack) == (True, True)
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
    assert (found.is_grid, found.is_stack) == (False, False)
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
    assert found.layout == ("NHWC" if last else "NCHW")
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
    assert (found.is_grid, found.is_stack) == (True, False)
    np.testing.assert_array_equal(found.from_tensor(flat), images.reshape(4, -1))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((9, 9), "as many values as a sample, 72"),
        ((3, 24), "must be at least 4"),
        ((72,), r"must be \(height, width\).*got \(72,\)"),
    ],
)
def test_an_invalid_image_shape_is_refused(shape, message):
    with pytest.raises(InputError, match=message):
        InputFormat("array", (72,), (72,)).with_image_shape(shape)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 28, 30), ((1, 28, 30), "NHW")),
        ((2, 28, 30, 3), ((3, 28, 30), "NHWC")),
        ((2, 3, 28, 30), ((3, 28, 30), "NCHW")),
        ((2, 28, 30, 1), ((1, 28, 30), "NHWC")),
        ((2, 5, 28, 30), ((5, 28, 30), "NCHW")),  # no number of channels of a picture file
        ((2, 100, 3), ((3, 100), "NLC")),
    ],
)
def test_the_layout_of_images(shape, expected):
    assert grid_layout(np.zeros(shape), "X") == expected


GRIDS = {
    "NL": (7,),
    "NCL": (2, 9),
    "NLC": (9, 2),
    "NHW": (4, 9),
    "NHWC": (4, 5, 6),
    "NDHW": (4, 5, 6),
    "NCDHW": (2, 4, 5, 6),
    "NDHWC": (4, 5, 6, 2),
}


@pytest.mark.parametrize("kind", ["array", "tensor"])
@pytest.mark.parametrize("layout", GRIDS)
def test_grids_are_returned_as_they_were_given(layout, kind):
    values = numbers(GRIDS[layout], "float32")
    array, found = read_samples(put_in(kind, values), layout=layout)
    tensor = found.to_tensor(array)
    assert found.layout == layout
    assert tensor.shape == (4, *found.shape)
    assert len(found.shape) == len(layout.replace("C", ""))
    back = found.from_tensor(tensor)
    assert detect_container(back) == kind
    np.testing.assert_array_equal(to_array(back), values)
    if kind == "array" and layout != "NL":
        flat, of_flat = read_samples(values.reshape(4, -1), GRIDS[layout], layout)
        assert torch.equal(of_flat.to_tensor(flat), tensor)
        np.testing.assert_array_equal(of_flat.from_tensor(tensor), values.reshape(4, -1))


def test_a_layout_in_doubt_is_asked_for():
    with pytest.raises(InputError, match=r"layout must be given for X .* NCHW, NHWC or NDHW"):
        read_samples(np.zeros((5, 16, 16, 16)))
    with pytest.raises(InputError, match=r"layout must be one of NL, .*, got 'NWH'"):
        read_samples(np.zeros((5, 16, 16)), layout="NWH")


# Named dimensions


def field() -> xr.DataArray:
    """Return two wind components on a 4 x 5 grid at 6 times, with coordinates of every kind."""
    return xr.DataArray(
        np.random.default_rng(0).normal(size=(6, 2, 4, 5)),
        dims=("time", "component", "y", "x"),
        coords={
            "time": pd.date_range("2000-01-01", periods=6),
            "hour": ("time", np.arange(6)),
            "component": ["u", "v"],
            "y": [0.5, 1.0, 1.5, 2.0],
            "latitude": (("y", "x"), np.arange(20.0).reshape(4, 5)),
            "reference": np.datetime64("1999-12-31", "ns"),
        },
        name="wind",
    )


def test_named_dimensions_and_coordinates_are_returned():
    array, found = read_samples(field())
    assert (found.container, found.layout, found.shape) == ("xarray", "NCHW", (2, 4, 5))
    restored = InputFormat.from_dict(json.loads(json.dumps(dataclasses.asdict(found))))
    back = restored.from_tensor(found.to_tensor(array))
    expected = field().drop_vars(["time", "hour"])  # those of new samples are not known
    xr.testing.assert_identical(back, expected)
    codes = found.return_codes(torch.zeros(6, 3), field())
    assert (codes.dims, codes.shape) == (("time", "code"), (6, 3))
    xr.testing.assert_identical(label_samples(back, codes), field())


@pytest.mark.parametrize(
    ("dims", "layout"),
    [
        (("time", "x"), "NL"),
        (("n", "z", "y", "x"), "NDHW"),
        (("n", "lat", "lon", "channel"), "NHWC"),
        (("n", "Variable", "x"), "NCL"),
    ],
)
def test_dimensions_tell_the_layout(dims, layout):
    assert layout_of(dims) == layout


@pytest.mark.parametrize("dims", [("n", "x", "x"), ("n",), ("n", "a", "b", "c1", "d"),
                                  ("n", "channel", "band", "x"), ("n", "channel")])  # fmt: skip
def test_other_dimensions_are_refused(dims):
    with pytest.raises(InputError, match="dimensions must"):
        layout_of(dims)


def test_dimensions_in_another_order_are_refused():
    _, found = read_samples(field())
    found.check_like(field()[:2])
    with pytest.raises(InputError, match="X must have the dimensions time, component, y, x, got"):
        found.check_like(field().transpose("time", "component", "x", "y"))
    with pytest.raises(InputError, match=r"the fitted shape \(2, 4, 5\), got \(1, 4, 5\)"):
        found.check_like(field()[:, :1])


def test_other_coordinates_of_the_grid_are_refused():
    _, found = read_samples(field())
    found.check_like(field().assign_coords(y=np.float32([0.5, 1.0, 1.5, 2.0])))
    found.check_like(field().drop_vars("y"))
    found.check_like(field().assign_coords(reference=np.datetime64("1999-01-01", "ns")))
    with pytest.raises(InputError, match="coordinates of the fit, got others in y, latitude; al"):
        found.check_like(field().isel(y=slice(None, None, -1)))
    with pytest.raises(InputError, match="coordinates of the fit, got others in component;"):
        found.check_like(field().assign_coords(component=["v", "u"]))


def test_a_dataset_is_refused():
    with pytest.raises(InputError, match=r"one array, got an xarray\.Dataset; select a variable"):
        read_samples(field().to_dataset("component"))


def test_a_place_without_an_observed_value_is_named():
    samples = field().values
    samples[:, 1, 2, 3] = np.nan
    with pytest.raises(InputError, match="every column, got only gaps in column 1:2:3;"):
        check_gaps(samples, None, fitting=True)
    check_gaps(samples, None, fitting=False)


# Formats as JSON


@pytest.mark.parametrize(
    "found",
    [
        InputFormat("array", (7,), (7,)),
        InputFormat("pandas", (2,), (2,), columns=("a", "b")),
        InputFormat("tensor", (9, 8, 3), (3, 9, 8), layout="NHWC", dtype="uint8"),
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


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: torch.tensor(x, dtype=torch.bfloat16),
        lambda x: x.astype(">f4"),
        lambda x: x.astype(np.longdouble),
        list,
        lambda x: [one.tolist() for one in x],
    ],
    ids=["bfloat16", "big-endian", "long double", "list of arrays", "nested lists"],
)
@pytest.mark.parametrize("shape", [(5, 7), (5, 9, 8)])
def test_samples_of_any_type_of_number_are_read(convert, shape):
    expected = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) % 32
    array, found = read_samples(convert(expected))
    np.testing.assert_array_equal(found.to_tensor(array).numpy().reshape(shape), expected)


def test_grids_of_several_shapes_in_a_list_are_refused():
    with pytest.raises(InputError, match=r"X must be samples of one shape, got \(4, 5\), \(5, 4\)"):
        read_samples([np.zeros((5, 4)), np.zeros((4, 5))])


@pytest.mark.parametrize("last", [[1.0] * 4, list("abab")], ids=["numbers", "categories"])
def test_integer_column_names_are_kept(last):
    frame = pd.DataFrame({0: np.ones(4), 7: np.ones(4), "c": last})
    array, found = read_samples(frame)
    restored = InputFormat.from_dict(json.loads(json.dumps(dataclasses.asdict(found))))
    assert restored == found
    assert restored.from_tensor(found.to_tensor(array)).columns.tolist() == [0, 7, "c"]


def test_equal_column_names_are_refused():
    frame = pd.DataFrame(np.ones((4, 3)), columns=[0, 7, "c"])
    frame.columns = ["a", "b", "a"]
    with pytest.raises(InputError, match="X must have columns of different names, got 'a' twice"):
        read_samples(frame)


def test_numbers_beyond_float32_are_refused():
    largest = torch.tensor([[torch.finfo(torch.float32).max]], dtype=torch.float64)
    assert to_float(largest).isfinite().all()
    with pytest.raises(InputError, match="within the range of float32"):
        to_float(2 * largest)
