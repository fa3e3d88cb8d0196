"""Text tables: encoding, separator, decimal sign and header, guessed unless they are given.

A table begins after blank lines, comments (``#`` or ``%``), a line ``sep=;`` as Excel writes it and
titles of a single cell. Its first line is a header if it has text above numbers, or numbers that
are no row of the table, such as 0, 1, 2, ... above decimals, which pandas writes for columns
without names.
"""

import codecs
import csv
import gzip
import itertools
import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from lorae.data.arrays import Array
from lorae.data.number_formats import (
    MISSING,
    are_numbers,
    common_unit,
    guess_decimal,
    may_be_number,
    mostly_numbers,
    to_numbers,
)
from lorae.data.options import ReadOptions
from lorae.errors import InputError
from lorae.utils.text import shorten_list

SAMPLE = 200  # lines that guesses look at
BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before that of UTF-16, which is its beginning
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
FOREIGN = {
    b"PK\x03\x04": "a zip file or an Excel workbook: export the table as CSV",
    b"PAR1": "a Parquet file: name it .parquet",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: export the table as CSV",
    b"\x93NUMPY": "a NumPy array: name it .npy",
    b"<!doc": "a web page",
    b"<html": "a web page",
    b"[{": "JSON: export the table as CSV",
    b'{"': "JSON: export the table as CSV",
}
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "white space"}


@dataclass(frozen=True)
class Table:
    """A table as it was read."""

    path: Path
    frame: pl.DataFrame  # cells of text have no white space around them
    decimal: str = "."  # the decimal sign of cells that are text
    first_line: int | None = None  # the line of the first row, if every row is a line
    notes: tuple[str, ...] = ()  # what was guessed, one sentence each

    def row(self, k: int) -> str:
        """Return the name of a row in messages."""
        line = "" if self.first_line is None else f", line {self.first_line + k}"
        return f"row {k + 1}{line}"


def read_text_table(path: Path, options: ReadOptions) -> Table:
    """Read a .csv or .tsv file."""
    text, encoding = decode(path, _read_bytes(path), options.encoding)
    lines, start, comments, stated = _skip_preamble(text.rstrip())
    if not lines:
        raise InputError(f"{path} must hold a table, got no lines with values")
    separator = options.separator_character or stated or guess_separator(lines[:SAMPLE])
    notes = [] if encoding.startswith("utf-8") else [f"read as {encoding} text"]
    title, name = lines[0].strip(), NAMES.get(separator, separator)
    comments = _separate_by_tabs([one.lstrip("#% ") for one in comments[-1:]], separator)[0]
    lines, separator = _separate_by_tabs(lines, separator)
    rows = _split(path, lines[:SAMPLE], separator)
    width = _most_common_width(rows[1:] or rows)
    if titles := _count_titles(lines, separator) if width > 2 else 0:
        notes.append(f"skipped {titles} lines above the table, the first {title!r}")
        lines, start = lines[titles:], start + titles
        rows = _split(path, lines[:SAMPLE], separator)
    first, used = _read_first_row(path, lines, separator, width, start)
    below = _read_rows(path, lines[used:], separator, width, start + used)

    decimal = options.decimal or guess_decimal(itertools.chain(*(rows[1:] or rows)), separator)
    has_header = options.header
    if has_header is None:
        quoted = '"' in lines[0] and '"' not in "".join(lines[used : used + 1])
        has_header = _is_header(first, below, decimal, quoted=quoted)
        if has_header and are_numbers([cell for cell in first if cell], decimal):
            notes.append(
                f"line {start + 1} holds numbers and was read as the header; "
                f"if it is a row, give --header no"
            )
    if has_header:
        names: list[str] | None = _fit_names(path, first, below, start + 1)
    else:
        used = 0
        if len(first) > width:
            raise _too_long(path, first, width, start + 1)
        below = pl.concat([_as_frame([[*first, *[""] * (width - len(first))]]), below])
        as_names = (one for one in _split(path, comments, separator) if len(one) == width)
        names = next((one for one in as_names if not any(map(may_be_number, one))), None)
    header = f"line {start + 1}" if has_header else "none" if names is None else "the comment"
    notes.insert(0, f"read as {below.height} rows of {width} columns: separator "
                    f"{name}, decimal sign {decimal}, header: {header}")  # fmt: skip
    one_line_each = below.height == len(lines) - used
    frame = below.rename(dict(zip(below.columns, unique_names(names, width), strict=True)))
    first_line = start + used + 1 if one_line_each else None
    return Table(path, frame, decimal, first_line, (*notes, *_note_units(frame, decimal)))


def _read_first_row(
    path: Path, lines: list[str], separator: str, width: int, before: int
) -> tuple[list[str], int]:
    """Return the cells of the first row, and how many lines it takes."""
    ended = (f"{line}\n" for line in lines)
    reader = csv.reader(ended, delimiter=separator, skipinitialspace=True)
    try:
        return next(reader), reader.line_num
    except csv.Error:
        raise _explain(path, lines, separator, width, before) from None


def _note_units(frame: pl.DataFrame, decimal: str) -> list[str]:
    """Return a note on columns whose numbers are read without their unit."""
    units = [
        f"{column.name} ({unit})"
        for column in frame
        if (unit := common_unit(column)) and mostly_numbers(column, decimal)
    ]
    return [f"read numbers without their unit in {shorten_list(units)}"] if units else []


def decode(path: Path, content: bytes, encoding: str | None) -> tuple[str, str]:
    """Return the text of a file and its encoding."""
    foreign = next((v for k, v in FOREIGN.items() if content[: len(k)].lower() == k.lower()), None)
    if foreign:
        raise InputError(f"{path} must be a table of text, got {foreign}")
    if encoding is not None:
        try:
            return content.decode(encoding).removeprefix("\ufeff"), encoding
        except LookupError:
            known = "one that Python knows, such as utf-8, latin-1 or utf-16"
            raise InputError(f"encoding must be {known}, got {encoding!r}") from None
        except UnicodeError as error:
            at = getattr(error, "start", 0)
            raise InputError(
                f"encoding must be that of {path}, got {encoding!r}, in which line "
                f"{content.count(10, 0, at) + 1} is not valid"
            ) from None
    guesses = [name for mark, name in BOMS.items() if content.startswith(mark)][:1]
    if not guesses and content.count(0) > len(content) // 4:
        guesses = ["utf-16-le" if content[1::2].count(0) > content[::2].count(0) else "utf-16-be"]
    for guess in [*guesses, "utf-8", "cp1252"]:
        try:
            text = content.decode(guess)
        except UnicodeError:
            continue
        if "\0" not in text:
            return text, guess
    raise InputError(f"{path} must be a table of text, got binary data")


def guess_separator(lines: list[str]) -> str:
    """Return the separator that splits lines most evenly, and into the most numbers.

    Example:
        >>> guess_separator(["a;b", "1,5;2", "0,25;3"]), guess_separator(["1,2", "3,4"])
        (';', ',')
    """

    def score(separator: str) -> tuple[float, int]:
        rows = _split(Path(), *_separate_by_tabs(lines, separator))
        below = rows[1:] or rows
        width = _most_common_width(below)
        even = [row for row in below if len(row) == width]
        cells = [cell.strip() for row in even for cell in row]
        numbers = sum(map(may_be_number, cells)) / max(1, len(cells))
        fits = width > 1 and abs(len(rows[0]) - width) <= 1
        return round((0.1 + numbers) * len(even) / len(below) * (1 if fits else 0.5), 6), width

    return max(NAMES, key=score)


def _is_header(first: Sequence[str], below: pl.DataFrame, decimal: str, *, quoted: bool) -> bool:
    """Return whether the first row is a header; if it alone is in quotation marks, it may be."""
    below = below.head(1000)
    names = [cell.strip() for cell in first]
    is_text = [not (are_numbers([cell], decimal) or cell.lower() in MISSING) for cell in names]
    numeric = [mostly_numbers(below[:, k], decimal) for k in range(below.width)]
    if any(text and number for text, number in zip(is_text, numeric, strict=False)):
        return True
    columns = zip(is_text, names, below.iter_columns(), strict=False)
    if any(text and (column == cell).any() for text, cell, column in columns):
        return False
    places = [k for k, cell in enumerate(names) if cell and not is_text[k]]
    if any(not cell for cell in names[1:]) or len(places) == 0:
        return any(is_text)
    shift = below.width - len(names)  # a header of R has no name for the row names
    numbered = [below[:, k + shift] for k in places if 0 <= k + shift < below.width]
    return quoted or _are_column_numbers([names[k] for k in places], numbered, decimal)


def unique_names(names: Sequence[str] | None, width: int) -> list[str]:
    """Return names that differ: ``column_k`` for a blank one, with a number for a repeated one.

    The first may stay blank, as the name of an index.

    Example:
        >>> unique_names(["", "a", "a", ""], 4), unique_names(None, 2)
        (['', 'a', 'a_2', 'column_4'], ['column_1', 'column_2'])
    """
    unique: list[str] = []
    for k in range(width):
        name = " ".join(names[k].split()) if names else f"column_{k + 1}"
        name = name if name or k == 0 else f"column_{k + 1}"
        others = (f"{name}_{number}" for number in itertools.count(2))
        unique.append(name if name not in unique else next(n for n in others if n not in unique))
    return unique


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"{path} must be a whole gzip file, got a damaged one") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None


def _skip_preamble(text: str) -> tuple[list[str], int, list[str], str]:
    """Return the lines of the table, how many precede it, comments, and a separator of sep=."""
    lines = re.split(r"\r*\n|\r", text)
    comments, separator, count = [], "", 0
    for line in lines[:10_000]:
        if match := re.fullmatch(r'"?sep=(.)"?', line.strip(" "), re.IGNORECASE):
            separator = match[1]
        elif line.startswith(("#", "%")):
            comments.append(line)
        elif line.strip(' ,;\t|"'):
            break
        count += 1
    return lines[count:], count, comments, separator


def _separate_by_tabs(lines: list[str], separator: str) -> tuple[list[str], str]:
    """Return lines, and their separator, with tabs in place of white space."""
    if separator != " ":
        return lines, separator
    cells = ([cell.strip('"') for cell in re.findall(r'"[^"]*"|[^\s"]+', one)] for one in lines)
    quoted = ([f'"{c}"' if "\t" in c or not c else c for c in row] for row in cells)
    return ["\t".join(row) for row in quoted], "\t"


def _split(path: Path, lines: Sequence[str], separator: str) -> list[list[str]]:
    rows = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    try:
        return [row for row in rows if row]
    except csv.Error:
        raise InputError(
            f"{path} must be a table, got a value of more than {csv.field_size_limit()} "
            f"characters in line {rows.line_num}"
        ) from None


def _count_titles(lines: list[str], separator: str) -> int:
    """Return the number of lines above the first row of several cells."""
    reader, count = csv.reader(lines, delimiter=separator, skipinitialspace=True), 0
    with suppress(csv.Error):  # a quotation mark that is never closed
        for row in reader:
            if len(row) > 1:
                return count
            count = reader.line_num
    return 0


def _most_common_width(rows: Sequence[Sequence[str]]) -> int:
    return Counter(map(len, rows)).most_common(1)[0][0]


def _read_rows(
    path: Path, lines: list[str], separator: str, width: int, before: int
) -> pl.DataFrame:
    """Return rows as text: stripped, null where missing, and null to the end of a short row."""
    empty = _as_frame([[""] * width]).clear()
    if not lines:
        return empty
    is_comment = [one.startswith("#") and one.count(separator) < width - 1 for one in lines]
    lines = ["" if comment else one for one, comment in zip(lines, is_comment, strict=True)]
    content = "\n".join(lines).encode(errors="replace")
    try:
        frame = pl.read_csv(content, separator=separator, has_header=False, schema=empty.schema)
    except pl.exceptions.PolarsError:
        raise _explain(path, lines, separator, width, before) from None
    return frame.with_columns(pl.all().str.strip_chars())


def _explain(
    path: Path, lines: Sequence[str], separator: str, width: int, before: int
) -> InputError:
    """Return the error for rows that are too long, or have a quotation mark too few."""
    rows = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    try:
        for row in rows:
            if len(row) > width:
                return _too_long(path, row, width, before + rows.line_num)
    except csv.Error:
        pass
    line = next((k for k, line in enumerate(lines, before + 1) if line.count('"') % 2), before + 1)
    return InputError(
        f"{path} must close every quotation mark, got one in or after line {line} that is not"
    )


def _too_long(path: Path, row: Sequence[str], width: int, line: int) -> InputError:
    return InputError(
        f"line {line} of {path} must have {width} values, as most lines have, got {len(row)}"
    )


def _as_frame(rows: Sequence[Sequence[str]]) -> pl.DataFrame:
    schema = {f"f{k}": pl.String for k in range(len(rows[0]))}
    return pl.DataFrame([[cell.strip() for cell in row] for row in rows], schema, orient="row")


def _fit_names(path: Path, names: list[str], below: pl.DataFrame, line: int) -> list[str]:
    """Return as many names as columns; in R's tables the row names have none."""
    width = below.width
    if len(names) == width + 1 and not names[-1]:
        return names[:-1]
    if len(names) == width - 1:
        ends_blank = (below[:, -1].fill_null("") == "").all()
        return [*names, ""] if ends_blank and below.height else ["", *names]
    if len(names) != width:
        raise InputError(
            f"line {line} of {path} must have a name for each of {width} columns, got {len(names)}"
        )
    return names


def _are_column_numbers(names: Sequence[str], columns: Sequence[pl.Series], decimal: str) -> bool:
    """Return whether numbers in the first row number the columns, and are no row of the table.

    They do if they are different integers where the columns hold decimals, or increase by equal
    steps, as 0, 1, 2, 3 or wavelengths do, where the rows do not.
    """
    values = to_numbers(pl.Series(names, dtype=pl.String), decimal).to_numpy()
    if len(columns) != len(names) or len({*values}) < len(values) or not len(columns[0]):
        return False
    counts_up = bool((values == values[0] + np.arange(len(values))).all() and values[0] in (0, 1))
    if all(name.isdecimal() for name in names):
        rarity = math.prod(
            (int(c.str.contains(r"^[+-]?\d+$").sum()) + 1) / (len(c) + 2) for c in columns
        )
        if rarity < (0.1 if counts_up else 1e-3):
            return True
    table = np.column_stack([to_numbers(c, decimal).to_numpy() for c in columns])
    if counts_up and values[0] == 0 and len(values) == 2:
        return bool((values < np.nanmin(table, axis=0)).any())
    if len(values) < (3 if counts_up else 4):
        return False
    return bool(_has_equal_steps(values[None]).all() and _has_equal_steps(table).mean() < 0.1)


def _has_equal_steps(rows: Array) -> Array:
    steps = np.diff(rows, axis=1)
    return (steps[:, 0] > 0) & np.isclose(steps, steps[:, :1], rtol=1e-6).all(axis=1)
