"""Arrays of .npy and .npz files: layouts, types, big files, errors."""

import os
import pickle
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from lorae import data
from lorae.data import splits
from lorae.data.arrays import checksum, open_npy
from lorae.data.datasets import as_tensor
from lorae.data.splits import split_rows
from lorae.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LORAE_DATA", str(tmp_path / "cache"))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def npy(path, array):
    np.save(path / "a.npy", array)
    return path / "a.npy"


def npz(path, **named):
    np.savez(path / "a.npz", **named)
    return path / "a.npz"


@pytest.mark.parametrize(
    ("shape", "sample"),
    [
        ((20, 5), (5,)),
        ((20, 9, 11), (1, 9, 11)),
        ((20, 9, 11, 3), (3, 9, 11)),
        ((20, 3, 9, 11), (3, 9, 11)),
        ((20, 7, 9, 11), (7, 9, 11)),
        ((20, 9, 11, 1), (1, 9, 11)),
        ((20, 4, 5, 3), (3, 4, 5)),
        ((20, 1, 8, 9, 10), (1, 8, 9, 10)),
        ((20, 8, 9, 10, 2), (2, 8, 9, 10)),
    ],
)
def test_rank_and_channels(tmp_path, shape, sample):
    path = npy(tmp_path, pixels(*shape))
    loaded = data.load(path)
    assert loaded.shape == sample
    assert loaded.train.is_contiguous()
    assert loaded.train.dtype == (torch.float32 if len(shape) == 2 else torch.uint8)
    assert len(loaded.train) + len(loaded.test) == 20


LAYOUTS = {
    "NL": ((20, 30), (1, 30)),
    "NCL": ((20, 12, 100), (12, 100)),
    "NLC": ((20, 100, 12), (12, 100)),
    "NHW": ((20, 5, 100), (1, 5, 100)),
    "NCHW": ((20, 16, 16, 16), (16, 16, 16)),
    "NHWC": ((20, 9, 11, 13), (13, 9, 11)),
    "NDHW": ((20, 4, 16, 16), (1, 4, 16, 16)),
    "NCDHW": ((20, 2, 4, 5, 6), (2, 4, 5, 6)),
    "NDHWC": ((20, 4, 5, 6, 8), (8, 4, 5, 6)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_move_the_channels_and_nothing_else(tmp_path, layout):
    shape, sample = LAYOUTS[layout]
    array = noise(*shape).astype(np.float32)
    loaded = data.load(npy(tmp_path, array), layout=layout)
    assert loaded.shape == sample
    letters = layout if "C" in layout else f"N1{layout[1:]}"
    axes = "".join(sorted(letters, key="N1CDHWL".index))
    expected = np.einsum(f"{layout}->{axes.replace('1', '')}", array).reshape(20, *sample)
    assert np.array_equal(loaded.train.numpy(), expected[split_rows(20, 0.1, 0)[0]])


@pytest.mark.parametrize(
    ("shape", "choices"),
    [
        ((20, 100, 12), "NHW, NCL or NLC"),
        ((20, 16, 16, 16), "NCHW, NHWC or NDHW"),
        ((20, 5, 6, 7), "NCHW, NHWC or NDHW"),
        ((20, 9, 9, 9, 9), "NCDHW or NDHWC"),
    ],
)
def test_a_layout_in_doubt_is_asked_for(tmp_path, shape, choices):
    with pytest.raises(InputError, match=rf"layout must be given .* which may be {choices}$"):
        data.load(npy(tmp_path, noise(*shape)))


@pytest.mark.parametrize(
    ("shape", "read"), [((20, 3, 100), "NCL"), ((20, 100, 3), "NLC"), ((20, 9, 9), "NHW")]
)
def test_a_guessed_layout_is_reported(tmp_path, shape, read):
    assert any(f"read as {read}" in note for note in data.load(npy(tmp_path, noise(*shape))).notes)


@pytest.mark.parametrize(
    ("shape", "layout", "message"),
    [
        ((20, 9, 9), "NCHW", r"layout must have as many axes as .*, got NCHW for the shape"),
        ((20, 3, 100), "NLC", r"sides of .* must be at least 4, got 3 in the layout NLC"),
        ((20, 9, 3, 9), "NDHW", r"sides of .* must be at least 4, got 9x3x9 in the layout NDHW"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(tmp_path, shape, layout, message):
    with pytest.raises(InputError, match=message):
        data.load(npy(tmp_path, noise(*shape)), layout=layout)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "i4", "u2", "?"])
def test_types_become_float32(tmp_path, dtype):
    rows = pixels(30, 4).astype(dtype) if dtype != "?" else pixels(30, 4) > 127
    loaded = data.load(npy(tmp_path, rows))
    assert loaded.train.dtype == torch.float32
    train, _ = split_rows(30, 0.1, 0)
    assert np.array_equal(loaded.train.numpy(), rows[train].astype(np.float32))


def test_boolean_images_become_black_and_white(tmp_path):
    loaded = data.load(npy(tmp_path, pixels(20, 8, 8) > 127))
    assert loaded.train.dtype == torch.uint8
    assert set(loaded.train.unique().tolist()) == {0, 255}


def test_fortran_order_is_read_correctly(tmp_path):
    rows = np.asfortranarray(noise(20, 3))
    train, _ = split_rows(20, 0.1, 0)
    loaded = data.load(npy(tmp_path, rows))
    assert np.array_equal(loaded.train.numpy(), rows[train].astype(np.float32))


@pytest.mark.parametrize("shape", [(40, 6), (40, 9, 11, 3)])
def test_big_files_stay_on_disk_with_equal_content(tmp_path, shape, monkeypatch):
    path = npy(tmp_path, pixels(*shape))
    in_memory = data.load(path)
    assert not (tmp_path / "cache" / "parts").exists()
    monkeypatch.setattr(splits, "BIG", 1)
    for _ in range(2):  # written, then loaded
        mapped = data.load(path)
        assert mapped.checksum == in_memory.checksum
        assert torch.equal(mapped.train, in_memory.train)
    assert len(list((tmp_path / "cache" / "parts").iterdir())) == 1
    assert data.load(path, seed=1).checksum != in_memory.checksum
    mapped.train.zero_()  # copy-on-write: the file does not change
    assert data.load(path).checksum == in_memory.checksum


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5), "shape \\(5,\\)"),
        (np.zeros((2, 1, 8, 8, 8, 8)), "shape \\(2, 1, 8, 8, 8, 8\\)"),
        (np.zeros((5, 0)), "shape \\(5, 0\\)"),
        (np.zeros((0, 3)), "at least 2 samples, got 0"),
        (np.zeros((1, 3)), "at least 2 samples, got 1"),
        (np.zeros((5, 3, 3)), "sides of .* must be at least 4, got shape \\(5, 3, 3\\)"),
        (np.zeros((5, 8, 8)), "must vary, got 0 at every place"),
        (np.array([["a", "b"]] * 5), "dtype <U1"),
        (np.zeros((5, 3), complex), "dtype complex128"),
        (np.array([[{}]] * 5, dtype=object), "Python objects"),
    ],
)
def test_unfit_arrays_are_refused(tmp_path, array, message):
    with pytest.raises(InputError, match=message):
        data.load(npy(tmp_path, array))


def test_pickles_and_cut_files_are_refused(tmp_path):
    whole = npy(tmp_path, noise(100, 3)).read_bytes()
    zipped = npz(tmp_path, a=noise(100, 3)).read_bytes()
    cases = {"a.npy": (pickle.dumps({"a": 1}), whole[:-8], b""), "a.npz": (zipped[:-100],)}
    for name, contents in cases.items():
        for content in contents:
            (tmp_path / name).write_bytes(content)
            with pytest.raises(InputError, match=r"got (another or a damaged one|Python objects)"):
                data.load(tmp_path / name)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_counted(tmp_path, value):
    images, rows = noise(20, 8, 8), noise(20, 3)
    images[3, 1, 2] = images[4, 0, 0] = value
    rows[:, 1] = value
    with pytest.raises(InputError, match="must hold finite numbers, got 2 NaN or infinite"):
        data.load(npy(tmp_path, images))
    with pytest.raises(InputError, match=r"in the columns column_2 \(20, first in row 1\)"):
        data.load(npy(tmp_path, rows))


def test_samples_and_channels_without_an_observed_value_are_named(tmp_path):
    samples = np.random.default_rng(0).standard_normal((40, 2, 8, 8)).astype("f4")
    samples[:, :, 3, 3] = np.nan  # as land in a field of the sea: a place may be missing in all
    np.save(tmp_path / "a.npy", samples)
    load = partial(data.load, tmp_path / "a.npy", layout="NCHW", missing="keep")
    assert load().train.isnan().any()
    samples[:, 1] = np.nan
    np.save(tmp_path / "a.npy", samples)
    with pytest.raises(InputError, match="every channel, got only gaps in channel_2; leave"):
        load()
    samples[6] = np.nan
    np.save(tmp_path / "a.npy", samples)
    with pytest.raises(InputError, match="every sample, got only gaps in sample 7; leave"):
        load()


def test_infinite_values_are_no_gaps(tmp_path):
    np.save(tmp_path / "a.npy", np.full((20, 8, 8), np.inf))
    with pytest.raises(InputError, match="first in sample 1; fill them, or leave"):
        data.load(tmp_path / "a.npy", missing="keep")


def test_constant_columns_are_named_or_dropped(tmp_path):
    rows = noise(20, 4)
    rows[:, 1], rows[:, 3] = 0.1, 7
    path = npy(tmp_path, rows)
    with pytest.raises(
        InputError, match=r"got constant column_2, column_4; drop them with drop_constant"
    ):
        data.load(path)
    loaded = data.load(path, drop_constant=True)
    assert loaded.shape == (2,)
    assert loaded.columns == ("column_1", "column_3")
    assert loaded.scale.min() > 0
    with pytest.raises(InputError, match="constant"):
        data.load(npy(tmp_path, np.ones((5, 2))), drop_constant=True)


def test_a_column_that_varies_in_the_test_rows_alone_is_constant(tmp_path):
    rows = noise(20, 2)
    rows[:, 1] = 0
    rows[split_rows(20, 0.1, 0)[1], 1] = 1
    with pytest.raises(InputError, match="column_2"):
        data.load(npy(tmp_path, rows))


def test_count_keeps_random_rows(tmp_path):
    rows = np.arange(200.0).reshape(100, 2)
    loaded = data.load(npy(tmp_path, rows), count=20)
    assert (len(loaded.train), len(loaded.test)) == (20, 4)
    assert loaded.train[:, 0].max() > 100


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="needs a sparse file")
def test_an_array_larger_than_memory_is_mapped(tmp_path):
    """The system refuses to map such a large file for writing, even copy-on-write."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with Path("/proc/meminfo").open() as file:
        swap = next(int(line.split()[1]) for line in file if line.startswith("SwapTotal")) * 1024
    count = (memory + swap) // 4096 + 10_000
    with (tmp_path / "large.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, 1, 64, 64)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(range(256)) * 16)
        file.truncate(file.tell() + (count - 1) * 4096)
    array = open_npy(tmp_path / "large.npy")
    assert isinstance(array, np.memmap)
    found = as_tensor(array)
    assert found.shape == (count, 1, 64, 64)
    assert found[0].sum() == 16 * sum(range(256))
    assert found[-1].sum() == 0


def test_the_checksum_depends_on_bytes_type_shape_and_labels():
    a = np.zeros((4, 4), np.uint8)
    b = a.copy()
    b[3, 3] = 1
    labels = np.arange(4)
    variants = [
        {"train": a, "test": a},
        {"train": b, "test": a},
        {"train": a, "test": b},
        {"train": a.view(np.int8), "test": a},
        {"train": a.reshape(2, 8), "test": a},
        {"train": a, "test": a, "train_labels": labels},
        {"train": a, "test": a, "train_labels": labels + 1},
    ]
    assert len({checksum(variant) for variant in variants}) == len(variants)
    assert checksum({"test": a, "train": b}) == checksum({"train": b, "test": a})


# npz


def test_npz_with_a_split_and_labels(tmp_path):
    train, test = pixels(20, 8, 8), pixels(6, 8, 8, seed=1)
    y_train, y_test = np.arange(20) % 3, (np.arange(6) % 3).reshape(6, 1).astype(float)
    labels = {"y_train": y_train, "y_test": y_test}
    for named in (
        {"train": train, "test": test, **labels},
        {"x_train": train, "x_test": test, **labels},
        {
            "train_images": train,
            "test_images": test,
            "train_labels": y_train,
            "Test_Labels": y_test,
        },
    ):
        path = npz(tmp_path, **named, about=np.array("x"))
        loaded = data.load(path)
        assert np.array_equal(loaded.train[:, 0].numpy(), train)
        assert np.array_equal(loaded.test[:, 0].numpy(), test)
        assert loaded.train_labels is not None
        assert loaded.test_labels is not None
        assert loaded.train_labels.tolist() == y_train.tolist()
        assert loaded.test_labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert loaded.test_labels.dtype == torch.int64


def test_npz_with_one_array(tmp_path):
    rows, labels = noise(40, 3), np.repeat([0, 5], 20)
    alone = data.load(npz(tmp_path, anything=rows))
    assert alone.shape == (3,)
    assert alone.train_labels is None
    for name in ("y", "labels"):
        labelled = data.load(npz(tmp_path, x=rows, **{name: labels}), test_fraction=0.5)
        assert labelled.test_labels is not None
        assert labelled.test_labels.bincount().tolist() == [10, 0, 0, 0, 0, 10]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"a": noise(9, 2), "b": noise(9, 2)}, "must hold train and test, .* got a, b"),
        ({}, "must hold train and test, .* got no arrays"),
        ({"train": noise(9, 2), "test": noise(9, 3)}, r"of shape \(2,\) .* got \(3,\)"),
        (
            {"train": pixels(9, 8, 8), "test": noise(9, 8, 8)},
            "type uint8, as train, got .* and float64",
        ),
        ({"train": noise(9, 2), "test": noise(0, 2)}, "at least one test sample, got none"),
        (
            {"train": noise(9, 2), "y_train": np.zeros(8, int)},
            r"labels y_train in .* must be 9 whole numbers, got shape \(8,\)",
        ),
        ({"train": noise(9, 2), "y_train": noise(9)}, "labels y_train in .* must be whole numbers"),
        ({"x": noise(9, 2), "y": np.array(["a"] * 9)}, "type <U1"),
        ({"x": np.array([None] * 9)}, "got Python objects"),
    ],
)
def test_unfit_npz_is_refused(tmp_path, named, message):
    with pytest.raises(InputError, match=message):
        data.load(npz(tmp_path, **named))
