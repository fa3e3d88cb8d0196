"""Data frames of pandas and polars, and arrays, that are in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lorae.data.arrays import Array, check_observed
from lorae.data.columns import Column, Schema
from lorae.data.tables import as_one_hot, to_matrix
from lorae.data.text_tables import Table
from lorae.errors import InputError
from lorae.utils.text import shorten_list


def is_frame(samples: object) -> bool:
    """Return whether samples are a data frame of pandas or polars.

    Example:
        >>> is_frame(pl.DataFrame({"a": [1]})), is_frame(np.ones((1, 1)))
        (True, False)
    """
    package = type(samples).__module__.partition(".")[0]
    return package in ("pandas", "polars") and hasattr(samples, "columns")


def to_polars(frame: Any) -> pl.DataFrame:
    """Return a data frame as one of polars, without the index of pandas.

    Example:
        >>> import pandas as pd
        >>> to_polars(pd.DataFrame({"a": [1.5, 2.5], "b": ["x", "y"]})).columns
        ['a', 'b']
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    names = [str(name) for name in frame.columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"columns must have different names, got {shorten_list(twice)} twice")
    return pl.DataFrame({name: _column(frame.iloc[:, k]) for k, name in enumerate(names)})


def _column(column: Any) -> pl.Series:
    """Return a column of pandas, whose missing values become null."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        return pl.Series(column.to_numpy())
    present = column.notna().to_numpy()
    values = [x if here else None for x, here in zip(column, present, strict=True)]
    if all(isinstance(x, int | float | np.number | None) for x in values):
        return pl.Series([None if x is None else float(x) for x in values], dtype=pl.Float64)
    return pl.Series([None if x is None else str(x) for x in values], dtype=pl.String)


def schema_of(columns: Sequence[str]) -> Schema:
    """Return the schema of a table whose columns are all numbers.

    Example:
        >>> schema_of(["size", "weight"]).value_names
        ('size', 'weight')
    """
    return Schema(tuple(Column(column, "float64") for column in columns))


def frame_values(frame: Any, schema: Schema, missing: str = "refuse") -> Array:
    """Return some columns of a data frame, found by their names, as values.

    Example:
        >>> frame = pl.DataFrame({"b": [1, 2], "label": ["x", "y"], "a": [3, 4]})
        >>> frame_values(frame, schema_of(["a", "b"]))
        array([[3., 1.],
               [4., 2.]])
    """
    table = Table(Path("X"), to_polars(frame))
    return select_values(table, table.frame, schema, np.arange(len(table.frame)), missing)


def select_values(
    table: Table, frame: pl.DataFrame, schema: Schema, rows: Array, missing: str = "refuse"
) -> Array:
    """Return some columns of a table, found by their names, as values.

    Args:
        table: what errors name, and how text is read as numbers.
        frame: the rows of the table that are used.
        schema: the columns to read.
        rows: the numbers of these rows in the table.
        missing: keep or refuse missing cells.
    """
    names = [schema.columns[k].name for k in schema.order]
    if absent := [name for name in names if name not in frame.columns]:
        raise InputError(
            f"{table.path} must have the columns of the training data, got no "
            f"{shorten_list(absent)} among {shorten_list(frame.columns)}"
        )
    categories = {column.name: column for column in schema.categorical}
    numbers = frame.select(name for name in names if name not in categories)
    values = to_matrix(table, numbers, rows, missing, fitted=True)
    one_hot = as_one_hot(table, frame, rows, categories, missing, fitted=True)
    array: Array = np.concatenate([values, *one_hot], 1)
    check_observed(array, str(table.path), lambda k: table.row(int(rows[k])))
    return array


def write_samples(samples: Any, folder: Path) -> Path:
    """Write samples in memory to data.parquet or data.npy in a folder, and return its path.

    Args:
        samples: a data frame, or an array or a tensor of vectors or images.
        folder: an existing folder.
    """
    if is_frame(samples):
        path = folder / "data.parquet"
        to_polars(samples).write_parquet(path)
        return path
    array = np.asarray(samples.detach().cpu() if hasattr(samples, "detach") else samples)
    if array.dtype.kind not in "biuf":
        raise InputError(f"data must hold real numbers, got dtype {array.dtype}")
    np.save(folder / "data.npy", array, allow_pickle=False)
    return folder / "data.npy"
