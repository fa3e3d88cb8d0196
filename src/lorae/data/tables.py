"""Arrays and tables: .npy, .npz, .csv, .tsv and .parquet files as samples.

By rank, an array of N samples is::

    N x D           vectors, kept as float32
    N x H x W       gray images
    N x H x W x C   images, if the last axis, and not the second, is 1, 3 or 4
    N x C x H x W   images otherwise

Images of bytes stay bytes, those of booleans become 0 and 255, all others float32. Nothing that
is pickled is read. A table is vectors with named columns.
"""

import csv
import hashlib
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lorae.data.cache import Array, Split, cache_folder, kept, mapped, write_npy
from lorae.errors import InputError

if TYPE_CHECKING:
    import polars as pl

BIG = 256 * 2**20  # bytes from which the parts of a mapped file are kept on disk, too
MISSING = ("", "na", "n/a", "nan", "null", "none", "?", "-")
SEPARATORS = ",;\t|"
SUFFIXES = (".npy", ".npz", ".csv", ".tsv", ".parquet")


def load(path: Path, test_fraction: float = 0.1, seed: int = 0) -> Split:
    """Read a file of arrays or a table; see :func:`lorae.data.datasets.load` for the arguments.

    An .npz file holds ``train`` and perhaps ``test``, or ``x_train`` and perhaps ``x_test``, with
    labels ``y_train`` and ``y_test``, or else a single array, with labels ``y``.

    Raises:
        InputError: The file cannot be read, or holds what cannot be samples.
    """
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise InputError(
            f"{path} is no kind of data: give a folder or .zip of images, "
            f"or a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file"
        )
    if kind in (".npy", ".npz"):
        read = _npy if kind == ".npy" else _npz
        return _with_columns(read(path, test_fraction, seed))
    frame = _numeric(_frame(path), path)
    split = hold_out(frame.to_numpy(), None, test_fraction, seed)
    return Split(split.train, split.test, columns=tuple(frame.columns))


def samples(array: Array, name: str) -> Array:
    """Return vectors N x D or images N x C x H x W; a view, so a mapped file stays on disk.

    Raises:
        InputError: The array has another rank, does not hold numbers, or holds images with a
            side under 8 pixels.
    """
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} has dtype {array.dtype}, but must hold real numbers")
    if array.ndim not in (2, 3, 4) or 0 in array.shape[1:]:
        raise InputError(
            f"{name} has shape {array.shape}, but must be N x D vectors, N x H x W gray images, "
            f"or N x H x W x C or N x C x H x W images"
        )
    if array.ndim == 2:
        return array
    if array.ndim == 3:
        array = array[:, None]
    elif array.shape[3] in (1, 3, 4) and array.shape[1] not in (1, 3, 4):
        array = np.moveaxis(array, 3, 1)
    if min(array.shape[2:]) < 8:
        height, width = array.shape[2:]
        raise InputError(f"{name} holds images of {width}x{height}, but 8x8 is the least")
    return array


def hold_out(
    array: Array, labels: Array | None, fraction: float, seed: int, origin: str = ""
) -> Split:
    """Split samples at random, in equal shares of every label where there are labels.

    The parts of a big memory-mapped array are written to the cache, so that they, too, stay on
    disk; ``origin`` tells its content from that of others.
    """
    rows = dict(zip(("train", "test"), held_out(len(array), fraction, seed, labels), strict=True))
    if isinstance(array, np.memmap) and array.nbytes >= BIG:
        digest = hashlib.sha256(repr((origin, fraction, seed)).encode()).hexdigest()[:16]
        entry = cache_folder() / "parts" / digest
        parts = kept(entry, partial(_write_parts, array, rows))
    else:
        parts = {part: stored(array, chosen) for part, chosen in rows.items()}
    classes = {} if labels is None else {f"{part}_labels": labels[rows[part]] for part in rows}
    return Split.of({**parts, **classes})


def _write_parts(array: Array, rows: Mapping[str, Array], folder: Path) -> None:
    for part, chosen in rows.items():
        shape, dtype = (len(chosen), *array.shape[1:]), _stored_dtype(array)
        write_npy(folder / f"{part}.npy", shape, dtype, _blocks(array, chosen))


def held_out(
    n: int, fraction: float, seed: int, labels: Array | None = None
) -> tuple[Array, Array]:
    """Return the sorted rows of training and held-out samples, at least one of each.

    Rows are shuffled, then sorted by label, and held out at even distances, so that each label
    gives its share to within one sample.

    Raises:
        InputError: There are fewer than 2 samples.

    Example:
        >>> train, test = held_out(10, 0.2, seed=0)
        >>> len(train), len(test)
        (8, 2)
    """
    if n < 2:
        raise InputError(f"the data has {n} sample{'s' * (n != 1)}, but 2 is the least")
    order = np.random.default_rng(seed).permutation(n)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    count = min(max(round(n * fraction), 1), n - 1)
    chosen = np.zeros(n, bool)
    chosen[order[((np.arange(count) + 0.5) * (n / count)).astype(int)]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def stored(array: Array, rows: Array | None = None) -> Array:
    """Return a contiguous copy of rows as samples are stored: bytes for images, else float32."""
    rows = np.arange(len(array)) if rows is None else rows
    out = np.empty((len(rows), *array.shape[1:]), _stored_dtype(array))
    start = 0
    for block in _blocks(array, rows):
        out[start : start + len(block)] = block
        start += len(block)
    return out


def _stored_dtype(array: Array) -> str:
    return "|u1" if array.ndim == 4 and array.dtype in (np.uint8, np.bool_) else "<f4"


def _blocks(array: Array, rows: Array) -> Iterator[Array]:
    dtype = _stored_dtype(array)
    gain = 255 if dtype == "|u1" and array.dtype == np.bool_ else 1
    step = max(1, 2**24 // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(rows), step):
        with np.errstate(over="ignore"):  # what float32 cannot hold is reported as infinite
            block = array[rows[start : start + step]].astype(dtype)
        yield block if gain == 1 else block * np.uint8(gain)


def numbered(width: int) -> tuple[str, ...]:
    """Return names for columns that have none.

    Example:
        >>> numbered(2)
        ('column_1', 'column_2')
    """
    return tuple(f"column_{k + 1}" for k in range(width))


def _with_columns(split: Split) -> Split:
    if split.train.ndim != 2:
        return split
    return replace(split, columns=numbered(split.train.shape[1]))


def _npz(path: Path, fraction: float, seed: int) -> Split:
    with (
        _reading(path),
        path.open("rb") as file,
        np.load(file, allow_pickle=False) as opened,
    ):
        named = {key: opened[key] for key in opened.files}
    return _named(path, named, fraction, seed)


def _npy(path: Path, fraction: float, seed: int) -> Split:
    with _reading(path):
        array = mapped(path)
    stat = path.stat()
    origin = repr((str(path.resolve()), stat.st_size, stat.st_mtime_ns))
    return hold_out(samples(array, str(path)), None, fraction, seed, origin)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, EOFError, TypeError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error})") from error


def _named(path: Path, named: Mapping[str, Array], fraction: float, seed: int) -> Split:
    x, x_test = (
        next((key for key in (role, f"x_{role}") if key in named), None)
        for role in ("train", "test")
    )
    y = "y_train"
    if x is None:
        single = [key for key in named if key != "y"]
        if len(single) != 1:
            raise InputError(
                f"{path} holds the arrays {', '.join(named) or '(none)'}, but must hold train and "
                f"test, x_train and x_test, or a single array (with labels y_train, y_test, y)"
            )
        x, x_test, y = single[0], None, "y"
    train = samples(named[x], f"{x} in {path}")
    labels = _labels(named, y, len(train))
    if x_test is None:
        return hold_out(train, labels, fraction, seed)
    test = samples(named[x_test], f"{x_test} in {path}")
    if (train.shape[1:], _stored_dtype(train)) != (test.shape[1:], _stored_dtype(test)):
        raise InputError(
            f"{x_test} in {path} holds samples of shape {test.shape[1:]} and type {test.dtype}, "
            f"but {x} of shape {train.shape[1:]} and type {train.dtype}"
        )
    return Split(stored(train), stored(test), labels, _labels(named, "y_test", len(test)))


def _labels(named: Mapping[str, Array], key: str, n: int) -> Array | None:
    if key not in named:
        return None
    labels = named[key]
    if labels.shape not in ((n,), (n, 1)) or labels.dtype.kind not in "biuf":
        raise InputError(
            f"labels {key} have shape {labels.shape} and type {labels.dtype}, "
            f"but must be {n} whole numbers"
        )
    whole = labels.reshape(n).astype(np.int64)
    if np.any(whole != labels.reshape(n)):
        raise InputError(f"labels {key} must be whole numbers; leave them out to do without")
    return whole


def _frame(path: Path) -> "pl.DataFrame":
    import polars as pl  # a fifth of a second, which only tables are worth

    try:
        if path.suffix.lower() == ".parquet":
            return pl.read_parquet(path, glob=False)
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            line = file.readline()
        separator = max(SEPARATORS, key=line.count)
        first = next(csv.reader([line], delimiter=separator), [])
        headless = all(_is_number(cell) for cell in first)
        frame = pl.read_csv(
            path,
            separator=separator,
            has_header=not headless,
            infer_schema_length=None,
            glob=False,
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path} cannot be read as a table ({reason})") from error
    if headless:  # polars' own names differ between its versions
        return frame.rename(dict(zip(frame.columns, numbered(frame.width), strict=True)))
    return frame


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.strip().lower() in MISSING
    return True


def _numeric(frame: "pl.DataFrame", path: Path) -> "pl.DataFrame":
    """Return all columns as float32; what is missing becomes NaN, true and false 1 and 0."""
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
            f"{path} has columns that are not numbers: {listed(text)}; "
            f"drop them, or encode them as numbers (one 0/1 column per category)"
        )
    return pl.DataFrame(columns).fill_null(math.nan)


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first few names, and how many more there are.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
