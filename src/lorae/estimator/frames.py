"""Data frames of pandas and polars: their columns as values, and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lorae.data.columns import Column, Schema, category_column, describe_column

Array = np.ndarray[Any, Any]


def is_frame(X: object) -> bool:
    """Return whether samples are a data frame of pandas or polars."""
    package = type(X).__module__.partition(".")[0]
    return package in ("pandas", "polars") and hasattr(X, "columns")


def describe_frame(X: Any) -> Schema | None:
    """Return the columns of a data frame; None if all of them are numbers.

    Raises:
        InputError: if a column holds several types, or too many categories.
    """
    columns = _columns(X)
    if all(_is_numeric(column) for column in columns):
        return None
    schema = Schema(tuple(map(_describe, columns)))
    return schema if schema.categorical else None


def encode_frame(X: Any, schema: Schema) -> Array:
    """Return the values of a data frame, n x D.

    Raises:
        InputError: if its columns hold other things than in the fit.
    """
    return schema.encode([column.to_list() for column in _columns(X)])


def decode_frame(values: Array, schema: Schema, package: str, labels: Sequence[str | int]) -> Any:
    """Return the data frame of values, with the types of its columns.

    Args:
        values: n x D.
        schema: the columns.
        package: pandas or polars.
        labels: names of the columns, for pandas, where they need not be text.
    """
    cells = dict(zip((c.name for c in schema.columns), schema.decode(values), strict=True))
    if package == "polars":
        import polars as pl

        return pl.DataFrame(
            {c.name: pl.Series(cells[c.name], dtype=_polars_type(c)) for c in schema.columns}
        )
    import pandas as pd

    def typed(column: Column) -> Any:
        if column.dtype == "category":
            levels = list(column.levels or ())
            return pd.Categorical(cells[column.name], levels, ordered=column.ordered)
        return pd.Series(cells[column.name], dtype=column.dtype)

    return pd.DataFrame(dict(zip(labels, map(typed, schema.columns), strict=True)))


def with_index(samples: Any, codes: Any) -> Any:
    """Return samples with the index of codes, if both are data frames of pandas."""
    if all(is_frame(part) and hasattr(part, "iloc") for part in (samples, codes)):
        samples.index = codes.index
    return samples


def fill_frame(X: Any, values: Any) -> Any:
    """Return a copy of a data frame whose missing cells have other values.

    Args:
        X: the data frame.
        values: a data frame of pandas or polars, or an array, of the same shape.
    """
    columns = _columns(values) if is_frame(values) else list(values.T)
    if hasattr(X, "iloc"):
        filled = X.copy()
        for k in np.flatnonzero(X.isna().to_numpy().any(0)).tolist():
            other = type(X.iloc[:, k])(list(columns[k]), index=X.index, dtype=X.dtypes.iloc[k])
            filled.isetitem(k, X.iloc[:, k].where(X.iloc[:, k].notna(), other))
        return filled
    import polars as pl

    parts = []
    for column, other in zip(_columns(X), columns, strict=True):
        gap = column.is_null()
        if column.dtype.is_float():
            gap |= column.is_nan().fill_null(value=True)
        parts.append(pl.Series(column.name, list(other)).cast(column.dtype).zip_with(gap, column))
    return X.with_columns(parts)


def _columns(X: Any) -> list[Any]:
    if hasattr(X, "iloc"):
        return [X.iloc[:, k] for k in range(X.shape[1])]
    return list(X.iter_columns())


def _is_numeric(column: Any) -> bool:
    kind = getattr(column.dtype, "kind", None)  # pandas
    return kind in "iuf" if kind is not None else bool(column.dtype.is_numeric())


def _describe(column: Any) -> Column:
    name, dtype = str(column.name), column.dtype
    levels: Any = getattr(dtype, "categories", None)
    if hasattr(column, "iloc"):
        if levels is not None:
            return category_column(name, "category", list(levels), ordered=bool(dtype.ordered))
        return describe_column(name, str(dtype), column.to_list())
    base = str(dtype.base_type())
    if base == "Enum":
        return category_column(name, base, list(levels), ordered=True)
    return describe_column(name, base, column.to_list())


def _polars_type(column: Column) -> Any:
    import polars as pl

    levels = [str(level) for level in column.levels or ()]
    return pl.Enum(levels) if column.dtype == "Enum" else getattr(pl, column.dtype)
