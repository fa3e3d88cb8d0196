"""Tables: .csv, .tsv and .parquet files as vectors with named columns.

A column that only numbers or names the rows is dropped; columns that look like an identifier or a
label are pointed at. Every cell must be a finite number, or true or false.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from lorae.data.arrays import Array, is_finite
from lorae.data.options import ReadOptions
from lorae.data.splits import Split, split_at_random
from lorae.data.text_tables import MISSING, read_text_table, to_numbers, unique_names
from lorae.errors import InputError, unknown_name
from lorae.utils.text import shorten_list

INDEX = re.compile(r"index|level_0|unnamed: 0(\.\d+)*|row[._ ]?names?|rn|x(\.\d+)*", re.IGNORECASE)
LABEL = re.compile(r"labels?|class(es)?|target|y|species|outcome|category|diagnosis", re.IGNORECASE)
MOST_CLASSES = 20


@dataclass(frozen=True)
class Table:
    """A table as it was read.

    Attributes:
        path: Of the file.
        frame: Its cells.
        decimal: The decimal sign of cells that are text.
        first_line: The line of the first row, if every row is a line.
        notes: What was guessed.
    """

    path: Path
    frame: pl.DataFrame
    decimal: str = "."
    first_line: int | None = None
    notes: tuple[str, ...] = ()

    def row(self, k: int) -> str:
        """Return the name of a row in messages."""
        line = "" if self.first_line is None else f", line {self.first_line + k}"
        return f"row {k + 1}{line}"


def load_table(path: Path, options: ReadOptions, test_fraction: float, seed: int) -> Split:
    """Read a table and hold out a fraction of its rows at random."""
    if path.suffix.lower() == ".parquet":
        table = Table(path, _read_parquet(path))
    else:
        text = read_text_table(path, options)
        table = Table(path, text.frame, text.decimal, text.first_line, text.notes)
    frame, notes = select_columns(table.frame, options)
    frame, kept, empty = _drop_empty(frame)
    values = _as_numbers(table, frame, kept)
    notes = [*table.notes, *notes, *empty, *_point_at(frame.columns, values)]
    split = split_at_random(values, None, test_fraction, seed)
    return Split(split.train, split.test, columns=tuple(frame.columns), notes=tuple(notes))


def select_columns(frame: pl.DataFrame, options: ReadOptions) -> tuple[pl.DataFrame, list[str]]:
    """Return the columns to use, without the index, and notes.

    Raises:
        InputError: A column has not the name that was given, or none is left.
    """
    for given in (*options.columns, *options.drop, *filter(None, [options.index])):
        if given not in frame.columns and given != "none":
            raise unknown_name("column", given, filter(None, frame.columns))
    notes, left_out = [], set(options.drop)
    if options.index is None:
        index: list[str] = []  # a second one follows the first where a table was saved twice
        for k, name in enumerate(frame.columns):
            if _is_index(frame[name], first=k == len(index)):
                index.append(name)
        index = [name for name in index if name not in (*options.columns, *options.drop)]
        left_out.update(index)
        notes += [
            f"dropped the index, {_describe(name)}; to keep it, give --index none" for name in index
        ]
    elif options.index != "none":
        left_out.add(options.index)
    names = [n for n in options.columns or frame.columns if n not in left_out]
    if not names:
        raise InputError("columns must be at least one column besides drop and index, got none")
    frame = frame.select(names)
    return frame.rename({"": unique_names(None, 1)[0]} if "" in names else {}), notes


def number_columns(width: int) -> tuple[str, ...]:
    """Return names for columns that have none.

    Example:
        >>> number_columns(2)
        ('column_1', 'column_2')
    """
    return tuple(unique_names(None, width))


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        raise InputError(f"{path} must be a Parquet file, got another or a damaged one") from None


def _is_index(column: pl.Series, *, first: bool) -> bool:
    """Return whether a column numbers or names the rows, by its name and its values."""
    if column.name.startswith("__index_level_") or (first and not column.name):
        return True
    if not (first and INDEX.fullmatch(column.name)):
        return False
    if column.dtype == pl.String:
        numbers = column.cast(pl.Int64, strict=False)
        if numbers.is_null().any():
            named = column.cast(pl.Float64, strict=False).is_null().all()
            return bool(named) and column.n_unique() == len(column)
        column = numbers
    return column.dtype.is_integer() and bool((column.diff().drop_nulls() == 1).all())


def _describe(name: str) -> str:
    return f"column {name!r}" if name else "the first column, which has no name"


def _drop_empty(frame: pl.DataFrame) -> tuple[pl.DataFrame, Array, list[str]]:
    """Drop rows without any value, and columns with neither name nor value."""
    blank = frame.select(
        (pl.col(n).is_null() if t != pl.String else pl.col(n).fill_null("") == "").alias(n)
        for n, t in frame.schema.items()
    )
    if not frame.height:
        return frame, np.arange(0), []
    unnamed = [n for n in frame.columns if n.startswith("column_") and blank[n].all()]
    rows = ~blank.select(pl.all_horizontal(pl.all())).to_series()
    kept = np.flatnonzero(rows.to_numpy())
    notes = [f"dropped {len(rows) - len(kept)} empty rows"] if len(kept) < len(rows) else []
    if unnamed and len(unnamed) < frame.width:
        frame = frame.drop(unnamed)
        notes.append(f"dropped {len(unnamed)} empty columns without a name")
    return frame.filter(rows), kept, notes


def _as_numbers(table: Table, frame: pl.DataFrame, rows: Array) -> Array:
    """Return all columns as float64, true and false as 1 and 0.

    Raises:
        InputError: A cell is text, missing or not finite; the message names row and column.
    """
    values = np.empty(frame.shape)
    text, holes = {}, {}
    for k, column in enumerate(frame.iter_columns()):
        numbers, wrong = _column_numbers(column, table.decimal)
        values[:, k] = numbers.fill_null(float("nan")).to_numpy()
        if wrong.any():
            at = int(wrong.arg_true()[0])
            text[column.name] = f"{str(column[at])!r} in {table.row(int(rows[at]))}"
        elif not (finite := is_finite(values[:, k])).all():
            at = int(np.flatnonzero(~finite)[0])
            holes[column.name] = f"{(~finite).sum()}, first in {table.row(int(rows[at]))}"
    if text:
        where = shorten_list([f"{name} ({what})" for name, what in text.items()])
        raise InputError(
            f"columns of {table.path} must be numbers, got text in {where}; leave these columns "
            f"out (--drop {_join(text)}), or encode them as numbers (one 0/1 column per category)"
            + _hint(text, table.decimal)
        )
    if holes:
        where = shorten_list([f"{name} ({what})" for name, what in holes.items()])
        raise InputError(
            f"{table.path} must hold finite numbers, got missing, NaN or infinite values (how "
            f"many) in the columns {where}; fill them, leave these rows out, or leave these "
            f"columns out (--drop {_join(holes)})"
        )
    return values


def _column_numbers(column: pl.Series, decimal: str) -> tuple[pl.Series, pl.Series]:
    """Return a column as float64, null where it is missing, and where it holds something else."""
    nowhere = pl.repeat(value=False, n=len(column), eager=True)
    if column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null):
        return column.cast(pl.Float64), nowhere
    if column.dtype != pl.String:
        return pl.repeat(None, len(column), dtype=pl.Float64, eager=True), column.is_not_null()
    cells = column.str.strip_chars()
    lower = cells.str.to_lowercase()
    missing = lower.is_null() | lower.is_in(MISSING)
    if (missing | lower.is_in(("true", "false"))).all():
        numbers = (lower == "true").cast(pl.Float64)
    else:
        numbers = to_numbers(cells, decimal)
    none = pl.repeat(None, len(column), dtype=pl.Float64, eager=True)
    return numbers.zip_with(~missing, none), numbers.is_null() & ~missing


def _hint(text: dict[str, str], decimal: str) -> str:
    other = "," if decimal == "." else "."
    looks = any(re.match(rf"'[+-]?\d+{re.escape(other)}\d+'", found) for found in text.values())
    return f"; if {other} is the decimal sign, give --decimal {other}" if looks else ""


def _join(names: Sequence[str] | dict[str, str]) -> str:
    return " ".join(shlex.quote(name) for name in names)


def _point_at(names: Sequence[str], values: Array) -> list[str]:
    """Return notes on columns that look like an identifier or a label."""
    if len(values) < 10 or len(names) < 2:
        return []
    whole = [bool((column == np.rint(column)).all()) for column in values.T]
    counts = [len(np.unique(column)) if w else 0 for column, w in zip(values.T, whole, strict=True)]
    identifiers = [n for n, count in zip(names, counts, strict=True) if count == len(values)]
    labels = [
        name
        for k, (name, count) in enumerate(zip(names, counts, strict=True))
        if 1 < count <= MOST_CLASSES
        and (LABEL.fullmatch(name) or (sum(whole) == 1 and k in (0, len(names) - 1)))
    ]
    kinds = {"an identifier": identifiers, "a label": labels}
    return [
        f"{shorten_list(found)} may be {kind}, which is no measurement; to leave it out, give "
        f"--drop {_join(found)}"
        for kind, found in kinds.items()
        if found
    ]
