"""Tables: .csv, .tsv and .parquet files as vectors with named columns."""

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING

from lorae.data.splits import Split, split_at_random
from lorae.errors import InputError
from lorae.utils.text import shorten_list

if TYPE_CHECKING:
    import polars as pl

MISSING = ("", "na", "n/a", "nan", "null", "none", "?", "-")
SEPARATORS = ",;\t|"


def load_table(path: Path, test_fraction: float, seed: int) -> Split:
    """Read a table and hold out a fraction of its rows at random."""
    frame = _as_numbers(_read(path), path)
    split = split_at_random(frame.to_numpy(), None, test_fraction, seed)
    return Split(split.train, split.test, columns=tuple(frame.columns))


def number_columns(width: int) -> tuple[str, ...]:
    """Return names for columns that have none.

    Example:
        >>> number_columns(2)
        ('column_1', 'column_2')
    """
    return tuple(f"column_{k + 1}" for k in range(width))


def _read(path: Path) -> "pl.DataFrame":
    import polars as pl

    try:
        if path.suffix.lower() == ".parquet":
            return pl.read_parquet(path, glob=False)
        separator, has_header = _detect_format(path)
        frame = pl.read_csv(
            path,
            separator=separator,
            has_header=has_header,
            infer_schema_length=None,
            glob=False,
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path} cannot be read as a table ({reason})") from error
    if has_header:
        return frame
    # polars' own names differ between its versions
    return frame.rename(dict(zip(frame.columns, number_columns(frame.width), strict=True)))


def _detect_format(path: Path) -> tuple[str, bool]:
    """Return the separator, and whether the first line is a header, i.e. not all numbers."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        line = file.readline()
    separator = max(SEPARATORS, key=line.count)
    cells = next(csv.reader([line], delimiter=separator), [])
    return separator, not all(map(_is_number, cells))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.strip().lower() in MISSING
    return True


def _as_numbers(frame: "pl.DataFrame", path: Path) -> "pl.DataFrame":
    """Return all columns as float32: missing values become NaN, true and false 1 and 0."""
    import polars as pl

    columns, text = [], []
    for column in frame.iter_columns():
        if column.dtype == pl.String:
            cells = column.str.strip_chars()
            missing = cells.is_null() | cells.str.to_lowercase().is_in(MISSING)
            number = cells.cast(pl.Float32, strict=False)
            if (number.is_null() & ~missing).any():
                text.append(column.name)
            columns.append(number)
        elif column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null):
            columns.append(column.cast(pl.Float32))
        else:
            text.append(column.name)
    if text:
        raise InputError(
            f"columns of {path} must be numbers, got text in {shorten_list(text)}; drop these "
            f"columns, or encode them as numbers (one 0/1 column per category)"
        )
    return pl.DataFrame(columns).fill_null(math.nan)
