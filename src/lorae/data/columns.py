"""Columns of a table as values: numbers as they are, categories as one-hot groups.

The values of a row are those of its numbers, then for each column of categories one value for each
category, 1 for the one that it has and 0 for the others. A missing number is NaN, and a missing
category is a group of NaN.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from lorae.data.arrays import Array
from lorae.errors import InputError
from lorae.utils.text import shorten_list

Level = str | bool | int | float
MOST_LEVELS = 1000
_MOST_DISTINCT = 20  # texts that all differ; more of them are names of rows


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its name.
        dtype: the name of its type in the user's container.
        levels: its categories; None for numbers.
        ordered: whether the categories are ordered.
    """

    name: str
    dtype: str
    levels: tuple[Level, ...] | None = None
    ordered: bool = False

    def encode(self, cells: Sequence[Any]) -> Array:
        """Return the values of cells, n x 1 or n x levels."""
        if self.levels is None:
            return as_numbers(self.name, cells)[:, None]
        place = {level: k for k, level in enumerate(self.levels)}
        codes = np.array([-1 if _is_missing(c) else place.get(c, -2) for c in cells])
        if (codes == -2).any():
            unseen = dict.fromkeys(repr(c) for c, k in zip(cells, codes, strict=True) if k == -2)
            raise InputError(
                f"column {self.name!r} must hold the categories of the fit, "
                f"{shorten_list([repr(level) for level in self.levels])}, got unseen "
                f"{shorten_list(list(unseen))}"
            )
        values: Array = np.eye(len(self.levels))[codes]
        values[codes == -1] = np.nan
        return values

    def decode(self, values: Array) -> list[Any]:
        """Return the cells of values: numbers, or the categories of the largest value."""
        if self.levels is None:
            numbers = values[:, 0]
            is_integer = "int" in self.dtype.lower()
            return [round(x) if is_integer else x for x in numbers.tolist()]
        return [self.levels[k] for k in values.argmax(1)]


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in the user's order.

    Args:
        columns: at least one.

    Example:
        >>> schema = Schema((Column("kind", "str", ("a", "b")), Column("size", "float64")))
        >>> values = schema.encode([["b", None], [1.5, 2.0]])
        >>> values
        array([[1.5, 0. , 1. ],
               [2. , nan, nan]])
        >>> schema.decode(values[:1])
        [['b'], [1.5]]
    """

    columns: tuple[Column, ...]

    @property
    def order(self) -> list[int]:
        """The indices of the columns in the order of their values: numbers first."""
        return sorted(range(len(self.columns)), key=lambda k: self.columns[k].levels is not None)

    @property
    def categorical(self) -> tuple[Column, ...]:
        """The columns of categories."""
        return tuple(column for column in self.columns if column.levels is not None)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of categories of each column that has any."""
        return tuple(len(column.levels or ()) for column in self.categorical)

    @property
    def value_names(self) -> tuple[str, ...]:
        """A name for each value, such as ``kind=a``."""
        names: list[str] = []
        for k in self.order:
            column = self.columns[k]
            levels = column.levels
            names += [column.name] if levels is None else [f"{column.name}={x}" for x in levels]
        return tuple(names)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Return the schema that `dataclasses.asdict` and JSON turned into `fields`."""
        columns = (
            Column(**column | {"levels": None if (x := column["levels"]) is None else tuple(x)})
            for column in fields["columns"]
        )
        return cls(tuple(columns))

    def select(self, values: Array) -> "Schema":
        """Return the schema of the columns of which values are kept.

        Args:
            values: for each value whether it is kept, alike for all of a column.
        """
        kept, start = set(), 0
        for k in self.order:
            if values[start]:
                kept.add(k)
            start += len(self.columns[k].levels or (0,))
        return Schema(tuple(column for k, column in enumerate(self.columns) if k in kept))

    def encode(self, columns: Sequence[Sequence[Any]]) -> Array:
        """Return the values of a table, n x D, as float64.

        Args:
            columns: the cells of each column.
        """
        return np.concatenate([self.columns[k].encode(columns[k]) for k in self.order], 1)

    def decode(self, values: Array) -> list[list[Any]]:
        """Return the cells of each column."""
        cells: list[list[Any]] = [[] for _ in self.columns]
        start = 0
        for k in self.order:
            stop = start + len(self.columns[k].levels or (0,))
            cells[k] = self.columns[k].decode(values[:, start:stop])
            start = stop
        return cells


def describe_column(name: str, dtype: str, cells: Sequence[Any]) -> Column:
    """Return the column of cells without declared categories: numbers, booleans or text."""
    present = [cell for cell in cells if not _is_missing(cell)]
    kinds = {_kind(cell) for cell in present}
    if len(kinds) > 1 or "other" in kinds:
        raise InputError(
            f"column {name!r} must hold only numbers, only text or only booleans, got "
            f"{shorten_list(sorted({type(cell).__name__ for cell in present}))}"
        )
    if kinds <= {"number"}:
        return Column(name, dtype)
    if kinds == {"boolean"}:
        return Column(name, dtype, (False, True))
    levels = sorted(set(present))
    column = category_column(name, dtype, levels)
    if len(levels) == len(present) > _MOST_DISTINCT:
        raise InputError(
            f"column {name!r} must have categories that repeat, got {len(levels)} different ones "
            "in as many rows; leave the column out"
        )
    return column


def category_column(
    name: str, dtype: str, levels: Iterable[Any], *, ordered: bool = False
) -> Column:
    """Return a column of categories."""
    plain = tuple(x.item() if isinstance(x, np.generic) else x for x in levels)
    if not 1 <= len(plain) <= MOST_LEVELS:
        raise InputError(
            f"column {name!r} must have 1 to {MOST_LEVELS:,} categories, got {len(plain):,}; leave "
            "the column out, or merge its rare categories"
        )
    if not all(isinstance(x, Level) for x in plain):
        raise InputError(
            f"categories of column {name!r} must be text, numbers or booleans, got "
            f"{type(plain[0]).__name__}"
        )
    return Column(name, dtype, plain, ordered)


def as_numbers(name: str, cells: Sequence[Any]) -> Array:
    """Return cells as float64, missing ones as NaN."""
    try:
        return np.array([np.nan if _is_missing(cell) else float(cell) for cell in cells])
    except (TypeError, ValueError):
        wrong = next(c for c in cells if not _is_missing(c) and _kind(c) != "number")
        raise InputError(f"column {name!r} must hold numbers, got {wrong!r}") from None


def _kind(cell: Any) -> str:
    if isinstance(cell, bool | np.bool_):
        return "boolean"
    if isinstance(cell, int | float | np.number):
        return "number"
    return "text" if isinstance(cell, str) else "other"


def _is_missing(cell: Any) -> bool:
    is_nan = isinstance(cell, float | np.floating) and np.isnan(cell)
    return cell is None or bool(is_nan) or type(cell).__name__ in ("NAType", "NaTType")
