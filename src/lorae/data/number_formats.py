"""Numbers as people write them in text: decimal signs, thousands, units, missing values."""

import re
import string
from collections.abc import Iterable, Sequence

import polars as pl

MISSING = (
    "", "na", "n/a", "nan", "-nan", "null", "none", "<na>", "?", "-",
    "#n/a", "#nv", "#na", "#div/0!", "#value!",
    ".", *(f".{letter}" for letter in string.ascii_lowercase),  # of Stata
)  # fmt: skip
PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|infinity)", re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[+-]?(\d+,\d*|,\d+)(e[+-]?\d+)?", re.IGNORECASE)
SPACES = " '\u2019\u00a0\u202f"  # between thousands
GROUPED = {  # numbers with a sign between thousands, by decimal sign
    ".": rf"^[+-]?\d{{1,3}}([,{SPACES}]\d{{3}})+(\.\d*)?$",
    ",": rf"^[+-]?\d{{1,3}}([.{SPACES}]\d{{3}})+(,\d*)?$",
}
UNITS = "$€£¥%"  # before or after the numbers of a column
SPELLINGS = {  # of a minus sign, of a negative number in accounts, and of powers of ten in Fortran
    "\u2212": "-",
    r"^\((.+)\)$": "-$1",
    r"^([\d.,+-]+)[dD]([+-]?\d+)$": "${1}e$2",
}


def guess_decimal(cells: Iterable[str], separator: str) -> str:
    """Return the decimal sign of numbers: a comma if it can be nothing else.

    Example:
        >>> guess_decimal(["1.234,5", "2"], ";"), guess_decimal(["1,234", "12,345.6"], ",")
        (',', '.')
    """
    with_comma = [cell.strip(f" {UNITS}") for cell in cells if "," in cell]
    comma = [c for c in with_comma if DECIMAL_COMMA.fullmatch(c) or re.match(GROUPED[","], c)]
    point = [c for c in with_comma if re.match(GROUPED["."], c) and c.lstrip("+-")[0] != "0"]
    if not comma or len(comma) < len(point):
        return "."
    return "." if len(comma) == len(point) and separator != ";" else ","


def to_numbers(column: pl.Series, decimal: str) -> pl.Series:
    """Return cells as float64, null where they are no numbers; a unit that all have is ignored."""
    plain = column.cast(pl.Float64, strict=False)
    if decimal == "." and not plain.null_count():
        return plain
    if unit := common_unit(column):
        column = column.str.replace(rf"^([+-]?)\s*[{unit}]\s*|\s*[{unit}]$", "$1")
    for spelling, usual in SPELLINGS.items():
        column = column.str.replace(spelling, usual)
    groups = GROUPED[decimal]
    if column.str.contains(groups).any():
        bare = column.str.replace_all(rf"[{',' if decimal == '.' else '.'}{SPACES}]", "")
        column = bare.zip_with(column.str.contains(groups).fill_null(value=False), column)
    if decimal == ",":  # a point is no decimal sign then
        column = column.str.replace_all(".", "x", literal=True).str.replace(",", ".", literal=True)
    return column.cast(pl.Float64, strict=False)


def common_unit(column: pl.Series) -> str:
    """Return the character of :data:`UNITS` that all cells hold, empty if there is none."""
    first = next((cell for cell in column if cell and cell.lower() not in MISSING), "")
    unit = next((character for character in UNITS if character in first), "")
    without = column.filter(~column.str.contains(unit, literal=True)) if unit else column
    return unit if unit and without.str.to_lowercase().is_in(MISSING).all() else ""


def are_numbers(cells: Sequence[str], decimal: str) -> bool:
    """Return whether all cells are numbers."""
    plain = PLAIN if decimal == "." else DECIMAL_COMMA
    return all(
        PLAIN.fullmatch(c) or plain.fullmatch(c) or re.match(GROUPED[decimal], c)
        for c in map(str.strip, cells)
    )


def may_be_number(cell: str) -> bool:
    """Return whether a cell is a number with some decimal sign, or missing."""
    bare = cell.strip(f" {UNITS}")
    return bare.lower() in MISSING or are_numbers([bare], ".") or are_numbers([bare], ",")


def mostly_numbers(column: pl.Series, decimal: str) -> bool:
    """Return whether more than half of the cells that are not missing are numbers or booleans."""
    present = column.filter(~column.fill_null("").str.to_lowercase().is_in(MISSING))
    booleans = present.str.to_lowercase().is_in(("true", "false"))
    numbers = to_numbers(present, decimal).is_not_null() | booleans
    return len(present) > 0 and float(numbers.mean() or 0) > 0.5  # type: ignore[arg-type]
