"""Arrays as samples: their layout, their stored type, and .npy files larger than memory.

By rank, an array of N samples is::

    N x D           vectors
    N x H x W       gray images
    N x H x W x C   images, channels last
    N x C x H x W   images, channels first

Vectors are stored as float32, or as float64 if float32 would blur a column: if its spacing at the
largest value is more than 1e-5 of the column's range. Images of bytes are stored as bytes, boolean
images as 0 and 255, all others as float32.
"""

import errno
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lorae.data.options import LAYOUTS, SIDE
from lorae.errors import InputError
from lorae.utils.text import shorten_list

Array = np.ndarray[Any, np.dtype[Any]]

BLUR = 1e-5  # of the range of a column, the coarsest rounding that is left to float32


def as_samples(array: Array, name: str, layout: str | None = None) -> Array:
    """Return vectors N x D or images N x C x H x W; a view, so a mapped file stays on disk.

    Args:
        array: Numbers in one of the layouts above.
        name: What errors call the array.
        layout: ``channels-first`` or ``channels-last``; by default the one for which the images
            have sides of 8 pixels or more, or else the one for which they are square.

    Raises:
        InputError: The array has another rank, does not hold numbers, holds images with a side
            under 8 pixels, or leaves in doubt which axis holds the channels.
    """
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if array.ndim not in (2, 3, 4) or 0 in array.shape[1:]:
        raise InputError(
            f"{name} must be N x D vectors, N x H x W gray images, or N x H x W x C or "
            f"N x C x H x W images, got shape {array.shape}"
        )
    if array.ndim == 2:
        return array
    if array.ndim == 3:
        array = array[:, None]
    elif (layout or guess_layout(array.shape, name)) == "channels-last":
        array = np.moveaxis(array, 3, 1)
    height, width = array.shape[2:]
    if min(height, width) < SIDE:
        raise InputError(f"images of {name} must be at least {SIDE}x{SIDE}, got {width}x{height}")
    return array


def guess_layout(shape: tuple[int, ...], name: str) -> str:
    """Return the layout of images of four axes.

    Raises:
        InputError: The shape leaves it in doubt.

    Example:
        >>> guess_layout((5, 3, 9, 11), "X"), guess_layout((5, 32, 32, 12), "X")
        ('channels-first', 'channels-last')
    """
    sides = {"channels-first": shape[2:], "channels-last": shape[1:3]}
    large = [layout for layout in LAYOUTS if min(sides[layout]) >= SIDE]
    square = [layout for layout in large if sides[layout][0] == sides[layout][1]]
    if len(large) == 2 and len(square) != 1:
        raise InputError(
            f"{name} must leave no doubt which axis holds the channels, got shape {shape}; give "
            f"the layout, channels-first or channels-last"
        )
    few = "channels-last" if shape[3] in (1, 3, 4) and shape[1] >= SIDE else "channels-first"
    return square[0] if len(large) == 2 else [*large, few][0]


def stored_dtype(array: Array) -> str:
    """Return the type in which samples of :func:`as_samples` are stored."""
    if array.ndim == 4:
        return "|u1" if array.dtype in (np.uint8, np.bool_) else "<f4"
    if array.dtype.itemsize < 4 or array.dtype == np.float32 or not len(array):
        return "<f4"
    low, high = (
        op.reduce([op.reduce(block, axis=0) for block in _blocks(array)])
        for op in (np.minimum, np.maximum)
    )
    low, high = low.astype(float), high.astype(float)
    spacing = np.finfo(np.float32).eps * np.maximum(np.abs(low), np.abs(high))
    return "<f8" if (spacing > BLUR * (high - low))[high > low].any() else "<f4"


def is_finite(values: Array) -> Array:
    """Return where values are finite in float32."""
    if values.dtype.itemsize <= 4:
        return np.isfinite(values)
    with np.errstate(invalid="ignore"):
        finite: Array = np.abs(values) <= float(np.finfo(np.float32).max)
    return finite


def check_finite(array: Array, name: str, columns: tuple[str, ...] | None = None) -> None:
    """Check that all values are finite in float32.

    Raises:
        InputError: Some are not; the message counts them, and names columns and first row.
    """
    if array.dtype.kind != "f":
        return
    bad: dict[int, list[int]] = {}  # of each column, or of all images, the number and the first row
    start = count = 0
    for block in _blocks(array):
        wrong = ~is_finite(block)
        if wrong.any():
            for k in np.flatnonzero(wrong.any(axis=0)) if array.ndim == 2 else [0]:
                rows = np.flatnonzero(wrong[:, k] if array.ndim == 2 else wrong.any((1, 2, 3)))
                bad.setdefault(int(k), [0, start + int(rows[0]) + 1])[0] += len(rows)
        count += int(wrong.sum())
        start += len(block)
    if not bad:
        return
    if array.ndim > 2:
        raise InputError(
            f"{name} must hold finite numbers, got {count} NaN or infinite, first in image "
            f"{bad[0][1]}"
        )
    names = columns or [f"column_{k + 1}" for k in range(array.shape[1])]
    where = [f"{names[k]} ({many}, first in row {row})" for k, (many, row) in bad.items()]
    raise InputError(
        f"{name} must hold finite numbers, got missing, NaN or infinite values (how many) in the "
        f"columns {shorten_list(where)}; fill them, or leave these rows or columns out"
    )


def copy_rows(array: Array, rows: Array, dtype: str) -> Array:
    """Return a contiguous copy of rows in their stored type."""
    out = np.empty((len(rows), *array.shape[1:]), dtype)
    start = 0
    for block in copy_blocks(array, rows, dtype):
        out[start : start + len(block)] = block
        start += len(block)
    return out


def copy_blocks(array: Array, rows: Array, dtype: str) -> Iterator[Array]:
    """Yield rows in their stored type, about 2^24 values at a time."""
    gain = 255 if dtype == "|u1" and array.dtype == np.bool_ else 1
    for index in _blocks(rows, math.prod(array.shape[1:])):
        block = array[index].astype(dtype)
        yield block if gain == 1 else block * np.uint8(gain)


def _blocks(array: Array, values: int = 0) -> Iterator[Array]:
    """Yield consecutive rows, about 2^24 values at a time."""
    step = max(1, 2**24 // max(1, values or math.prod(array.shape[1:])))
    yield from (array[start : start + step] for start in range(0, len(array), step))


def checksum(arrays: Mapping[str, Array]) -> str:
    """Return the SHA-256 over name, dtype, shape and bytes of every array, in hexadecimal."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def write_npy(path: Path, shape: tuple[int, ...], dtype: str, blocks: Iterable[Array]) -> None:
    """Write an .npy file from blocks of its rows; memory holds one block at a time.

    Ordinary writes, not a memory map: on a full disk a write raises an error, while writing to a
    mapped page kills the process.
    """
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=dtype).data)


def open_npy(path: Path) -> Array:
    """Open an .npy file as a memory map: copy-on-write, or read-only if it exceeds memory.

    The system reserves memory for every page that could be written to, and refuses to map a file
    larger than memory and swap that way.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not an .npy file, or it is a pickle.
    """
    try:
        copied: Array = np.lib.format.open_memmap(path, mode="c")
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
    else:
        return copied
    read_only: Array = np.lib.format.open_memmap(path, mode="r")
    return read_only
