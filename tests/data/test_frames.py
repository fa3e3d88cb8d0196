"""Samples in memory give the same data as a file with the same values."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from lorae.data.columns import Column, Schema
from lorae.data.datasets import load
from lorae.data.frames import frame_values, schema_of, to_polars, write_samples
from lorae.errors import InputError

FRAME = pd.DataFrame(
    {
        "whole": [1, 2, 3, 4],
        "real": np.array([0.5, 1.5, -2.5, 3.0], np.float32),
        "yes": [True, False, True, True],
        "holes": pd.array([1, None, 3, 4], dtype="Int64"),
        "text": ["a", None, "c", "d"],
        "kind": pd.Categorical(["x", "y", "x", "y"]),
    },
    index=[7, 8, 9, 10],
)


def test_columns_of_pandas_keep_values_and_gaps():
    assert to_polars(FRAME).to_dict(as_series=False) == {
        "whole": [1, 2, 3, 4],
        "real": [0.5, 1.5, -2.5, 3.0],
        "yes": [1, 0, 1, 1],
        "holes": [1, None, 3, 4],
        "text": ["a", None, "c", "d"],
        "kind": ["x", "y", "x", "y"],
    }


def test_values_are_those_of_the_named_columns():
    expected = FRAME[["yes", "whole"]].to_numpy(float)
    for frame in (FRAME, to_polars(FRAME)):
        found = frame_values(frame, schema_of(["yes", "whole"]))
        np.testing.assert_array_equal(found, expected)


def test_categories_are_groups_of_values():
    levels = {"real": None, "kind": ("x", "y"), "text": ("a", "c", "d")}
    schema = Schema(tuple(Column(name, "str", some) for name, some in levels.items()))
    found = frame_values(FRAME, schema, "keep")
    np.testing.assert_array_equal(found[:, 0], FRAME["real"])
    np.testing.assert_array_equal(found[:, 1], FRAME["kind"] == "x")
    assert np.isnan(found[1, 3:]).all()
    np.testing.assert_array_equal(found[[0, 2, 3], 3:], np.eye(3))


def test_two_columns_of_one_name_are_refused():
    twice = pd.DataFrame(np.ones((2, 3)), columns=["a", "b", "a"])
    with pytest.raises(InputError, match="different names, got a twice"):
        to_polars(twice)


@pytest.mark.parametrize("kind", ["pandas", "polars", "array", "tensor"])
def test_samples_in_memory_load_as_a_file_of_them(kind, tmp_path):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 2)), columns=["a", "b"])
    frame.to_csv(tmp_path / "file.csv", index=False)
    samples = {
        "pandas": frame,
        "polars": pl.DataFrame(frame.to_dict("list")),
        "array": frame.to_numpy(),
        "tensor": torch.tensor(frame.to_numpy()),
    }[kind]
    found = load(write_samples(samples, tmp_path), seed=3)
    expected = load(tmp_path / "file.csv", seed=3)
    assert torch.equal(found.train, expected.train)
    assert torch.equal(found.test, expected.test)
    if kind in ("pandas", "polars"):
        assert found.columns == expected.columns


def test_objects_are_refused(tmp_path):
    with pytest.raises(InputError, match="real numbers, got dtype <U1"):
        write_samples(np.array([["a"]]), tmp_path)
