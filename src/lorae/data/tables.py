"""Tables: .csv, .tsv and .parquet files as vectors with named columns.

A column that only numbers or names the rows is dropped; columns that look like an identifier or a
label are pointed at. A column holds finite numbers, or categories: text, or true and false.
"""

import re
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import polars as pl

from lorae.data.arrays import Array, check_observed, is_finite
from lorae.data.columns import Column, Schema, category_column
from lorae.data.number_formats import MISSING, to_numbers
from lorae.data.options import ReadOptions
from lorae.data.splits import Split, split_at_random
from lorae.data.text_tables import Table, read_text_table, unique_names
from lorae.errors import InputError, unknown_name
from lorae.utils.text import shorten_list

INDEX = re.compile(r"index|level_0|unnamed: 0(\.\d+)*|row[._ ]?names?|rn|x(\.\d+)*", re.IGNORECASE)
LABEL = re.compile(r"labels?|class(es)?|target|y|species|outcome|category|diagnosis", re.IGNORECASE)
DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([T ].*)?")
MOST_CLASSES = 20
COLUMNAR: dict[str, tuple[str, Callable[[Path], pl.DataFrame]]] = {
    ".parquet": ("a Parquet", partial(pl.read_parquet, glob=False)),
    ".feather": ("a Feather", pl.read_ipc),
    ".arrow": ("an Arrow", pl.read_ipc),
}


def load_table(path: Path, options: ReadOptions, test_fraction: float, seed: int) -> Split:
    """Read a table and hold out a fraction of its rows at random."""
    table = read_table(path, options)
    frame, notes = select_columns(table.frame, options)
    frame, kept, empty = drop_empty(frame)
    levels = find_categories(table, frame, options)
    numbers = frame.select(name for name in frame.columns if name not in levels)
    values = to_matrix(table, numbers, kept, options.missing)
    notes = [*table.notes, *notes, *empty, *_point_at(numbers.columns, values)]
    names, schema = tuple(frame.columns), None
    if levels:
        whole = dict(zip(numbers.columns, _are_whole(values), strict=True))
        columns = (
            levels.get(n) or Column(n, "int64" if whole[n] else "float64") for n in frame.columns
        )
        schema = Schema(tuple(columns))
        names = schema.value_names
        one_hot = as_one_hot(table, frame, kept, levels, options.missing)
        values = np.concatenate([values, *one_hot], 1)
        counts = [f"{name} ({len(column.levels or ())})" for name, column in levels.items()]
        notes.append(
            f"columns of categories (how many): {shorten_list(counts)}; to leave one out, give "
            "--drop"
        )
    check_observed(values, str(path), lambda k: table.row(int(kept[k])))
    split = split_at_random(values, None, test_fraction, seed)
    return Split(split.train, split.test, columns=names, schema=schema, notes=tuple(notes))


def find_categories(table: Table, frame: pl.DataFrame, options: ReadOptions) -> dict[str, Column]:
    """Return the columns of categories by name.

    These are the columns that are named so, those of true and false, and those of text: fewer than
    half of their cells are numbers, and some categories have several cells.
    """
    for name in options.categories:
        if name not in frame.columns:
            raise unknown_name("column", name, frame.columns)
    found: dict[str, Column] = {}
    for column in frame.iter_columns():
        if column.dtype.is_nested():
            continue
        cells = _text_cells(column).drop_nulls()
        wrong = _column_numbers(column, table.decimal)[1]
        distinct = cells.n_unique()
        is_text = 2 * int(wrong.sum()) > len(cells) and distinct < max(2, len(cells))
        lower = cells.str.to_lowercase()
        is_boolean = len(cells) > 0 and bool(lower.is_in(("true", "false")).all())
        is_date = column.dtype.is_temporal() or (is_text and all(map(DATE.fullmatch, cells)))
        if column.name in options.categories or is_boolean or (is_text and not is_date):
            levels = sorted(cells.unique().to_list(), key=_natural)
            found[column.name] = category_column(column.name, str(column.dtype), levels)
    return found


def _natural(level: str) -> tuple[float, str]:
    """Return a key by which numbers are sorted as numbers, before text."""
    try:
        return float(level), level
    except ValueError:
        return float("inf"), level


def _text_cells(column: pl.Series) -> pl.Series:
    """Return the cells of a column as text, null where they are missing."""
    cells = column.cast(pl.String, strict=False).str.strip_chars()
    missing = cells.str.to_lowercase().is_in(MISSING).fill_null(value=True)
    return cells.zip_with(~missing, pl.repeat(None, len(cells), dtype=pl.String, eager=True))


def as_one_hot(
    table: Table,
    frame: pl.DataFrame,
    rows: Array,
    levels: dict[str, Column],
    missing: str,
    *,
    fitted: bool = False,
) -> list[Array]:
    """Return the values of each column of categories, or refuse missing ones.

    A model may be `fitted` to these columns, which then cannot be left out.
    """
    found = []
    for name, column in levels.items():
        cells = _text_cells(frame[name])
        if missing == "refuse" and (count := cells.null_count()):
            at = int(cells.is_null().arg_true()[0])
            first = table.row(int(rows[at]))
            _refuse_missing(table, {name: f"{count}, first in {first}"}, fitted=fitted)
        by_text = {str(level): level for level in column.levels or ()}
        if {text.lower() for text in by_text} == {"true", "false"}:  # in any spelling
            by_text = {text.lower(): level for text, level in by_text.items()}
            cells = cells.str.to_lowercase()
        found.append(column.encode([by_text.get(x, x) for x in cells]))
    return found


def read_table(path: Path, options: ReadOptions) -> Table:
    """Read the cells of a table."""
    if path.suffix.lower() not in COLUMNAR:
        return read_text_table(path, options)
    kind, read = COLUMNAR[path.suffix.lower()]
    try:
        return Table(path, read(path))
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        raise InputError(f"{path} must be {kind} file, got another or a damaged one") from None


def select_columns(frame: pl.DataFrame, options: ReadOptions) -> tuple[pl.DataFrame, list[str]]:
    """Return the columns to use, without the index, and notes."""
    for given in (*options.columns, *options.drop, *filter(None, [options.index])):
        if given not in frame.columns and given != "none":
            raise unknown_name("column", given, filter(None, frame.columns))
    notes, left_out = [], set(options.drop)
    if options.index is None:
        index: list[str] = []  # a second one follows the first where a table was saved twice
        for k, name in enumerate(frame.columns):
            if _is_index(frame[name], first=k == len(index)):
                index.append(name)
        for name in [n for n in index if n not in (*options.columns, *options.drop)]:
            left_out.add(name)
            which = f"column {name!r}" if name else "the first column, which has no name"
            notes.append(f"dropped the index, {which}; to keep it, give --index none")
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


def drop_empty(frame: pl.DataFrame) -> tuple[pl.DataFrame, Array, list[str]]:
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
    empty = len(rows) - len(kept)
    notes = [f"dropped {empty} empty {'row' if empty == 1 else 'rows'}"] if empty else []
    if unnamed and len(unnamed) < frame.width:
        frame = frame.drop(unnamed)
        columns = "column" if len(unnamed) == 1 else "columns"
        notes.append(f"dropped {len(unnamed)} empty {columns} without a name")
    return frame.filter(rows), kept, notes


def to_matrix(
    table: Table, frame: pl.DataFrame, rows: Array, missing: str, *, fitted: bool = False
) -> Array:
    """Return all columns as float64, missing values as NaN; a refusal names rows and columns.

    A model may be `fitted` to these columns, which then cannot be left out.
    """
    values = np.empty((len(rows), frame.width))
    text, holes = {}, {}
    for k, column in enumerate(frame.iter_columns()):
        numbers, wrong = _column_numbers(column, table.decimal)
        values[:, k] = numbers.fill_null(float("nan")).to_numpy()
        if wrong.any():
            at = int(wrong.arg_true()[0])
            text[column.name] = f"{str(column[at])!r} in {table.row(int(rows[at]))}"
            continue
        finite = is_finite(values[:, k])
        if missing == "keep":
            finite |= np.isnan(values[:, k])
        if not finite.all():
            at = int(np.flatnonzero(~finite)[0])
            holes[column.name] = f"{(~finite).sum()}, first in {table.row(int(rows[at]))}"
    if text:
        _refuse_text(table, text, fitted=fitted)
    if holes:
        _refuse_missing(table, holes, fitted=fitted)
    return values


def _refuse_text(table: Table, text: dict[str, str], *, fitted: bool) -> NoReturn:
    where = shorten_list([f"{name} ({what})" for name, what in text.items()])
    advice = (
        f"; leave these columns out (--drop {_join(text)}), or read them as categories "
        f"(--categories {_join(text)})"
    )
    other = "," if table.decimal == "." else "."
    number = re.compile(rf"'[+-]?\d+{re.escape(other)}\d+'")
    hint = f"; if {other} is the decimal sign, give --decimal {other}"
    raise InputError(
        f"columns of {table.path} must be numbers, got text in {where}"
        + ("" if fitted else advice)
        + (hint if any(map(number.match, text.values())) else "")
    )


def _refuse_missing(table: Table, holes: dict[str, str], *, fitted: bool) -> NoReturn:
    where = shorten_list([f"{name} ({what})" for name, what in holes.items()])
    columns = "" if fitted else f", or leave these columns out (--drop {_join(holes)})"
    raise InputError(
        f"{table.path} must hold finite numbers, got missing, NaN or infinite values (how many) in "
        f"the columns {where}; keep missing values as gaps (--missing keep), or fill them, "
        f"{'' if columns else 'or '}leave these rows out{columns}"
    )


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


def _join(names: Sequence[str] | dict[str, str]) -> str:
    return " ".join(shlex.quote(name) for name in names)


def _are_whole(values: Array) -> list[bool]:
    """Return for each column whether its observed values are whole numbers."""
    return [bool(((x == np.rint(x)) | np.isnan(x)).all()) for x in values.T]


def _point_at(names: Sequence[str], values: Array) -> list[str]:
    """Return notes on columns that look like an identifier or a label."""
    if len(values) < 10 or len(names) < 2:
        return []
    whole = _are_whole(values)
    counts = [len(np.unique(column)) if w else 0 for column, w in zip(values.T, whole, strict=True)]
    identifiers = [n for n, count in zip(names, counts, strict=True) if count == len(values)]
    labels = [
        name
        for k, (name, count) in enumerate(zip(names, counts, strict=True))
        if 1 < count <= MOST_CLASSES
        and (LABEL.fullmatch(name) or (sum(whole) == 1 and k in (0, len(names) - 1)))
    ]
    kinds = {"an identifier": identifiers, "a label": labels}
    notes = [
        f"{shorten_list(found)} may be {kind}, which is no measurement; to leave it out, give "
        f"--drop {_join(found)}"
        for kind, found in kinds.items()
        if found
    ]
    codes = [
        f"{name} ({code:g})"
        for name, column in zip(names, values.T, strict=True)
        if (code := _missing_code(column)) is not None
    ]
    if codes:
        notes.append(
            f"a value far from all others may stand for missing ones in {shorten_list(codes)}; if "
            "so, leave its cells empty, and give --missing keep"
        )
    return notes


def _missing_code(column: Array) -> float | None:
    """Return -9, -99, ... or 99, 999, ... if it is repeated and far from all other values."""
    for code in (column.min(), column.max()):
        others = column[column != code]
        if (
            re.fullmatch(r"-9+|99+", f"{code:g}")
            and len(column) - len(others) > 1
            and len(others)
            and np.abs(others - code).min() > np.ptp(others)
        ):
            return float(code)
    return None
