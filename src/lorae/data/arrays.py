"""Arrays as samples: their layout, their stored type, and .npy files larger than memory.

The axes of an array have letters: N samples, C channels, and the grid of a sample, which is L for a
signal, H x W for an image and D x H x W for a volume. Samples are stored as N x C x grid, or as
N x F if they are vectors. By its number of axes, an array may be::

    2   NF vectors, or NL
    3   NHW, NCL or NLC
    4   NCHW, NHWC or NDHW
    5   NCDHW or NDHWC

Numbers are stored as float32, or as float64 if float32 would blur a column or a channel: if its
spacing at the largest value is more than 1e-5 of the range. Grids of bytes are stored as bytes,
those of booleans as 0 and 255.
"""

import errno
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lorae.data.options import SIDE
from lorae.errors import InputError
from lorae.utils.text import shorten_list

Array = np.ndarray[Any, np.dtype[Any]]

BLUR = 1e-5  # of the range of a column, the coarsest rounding that is left to float32


def as_samples(array: Array, name: str, layout: str | None = None) -> Array:
    """Return vectors N x F or grids N x C x grid; a view, so a mapped file stays on disk.

    Args:
        array: Numbers in one of the layouts above.
        name: What errors call the array.
        layout: One of :data:`lorae.data.options.LAYOUTS`; by default :func:`guess_layout`.
    """
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if array.ndim not in (2, *_CHOICES) or 0 in array.shape[1:]:
        raise InputError(
            f"{name} must be an array of samples, with 2 axes for vectors and up to 5 for signals, "
            f"images and volumes, got shape {array.shape}"
        )
    bytes_only = array.dtype in (np.uint8, np.bool_)
    layout = layout or guess_layout(array.shape, name, bytes_only=bytes_only)
    if layout is None:
        return array
    if len(layout) != array.ndim:
        raise InputError(
            f"layout must have as many axes as {name}, got {layout} for the shape {array.shape}"
        )
    sides = _sides(layout, array.shape)
    if min(sides) < SIDE:
        raise InputError(
            f"sides of {name} must be at least {SIDE}, got {'x'.join(map(str, sides))} in the "
            f"layout {layout}"
        )
    return channels_first(array, layout)


def channels_first(array: Array, layout: str) -> Array:
    """Return a view N x C x grid of an array.

    Example:
        >>> channels_first(np.zeros((5, 8, 9, 3)), "NHWC").shape
        (5, 3, 8, 9)
        >>> channels_first(np.zeros((5, 100)), "NL").shape
        (5, 1, 100)
    """
    if "C" not in layout:
        return array[:, None]
    return np.moveaxis(array, layout.index("C"), 1)


_CHOICES = {3: ("NHW", "NCL", "NLC"), 4: ("NCHW", "NHWC", "NDHW"), 5: ("NCDHW", "NDHWC")}
_FEW = 8  # a shorter axis is taken for channels, unless the layout is given


def guess_layout(shape: tuple[int, ...], name: str, *, bytes_only: bool = False) -> str | None:
    """Return the layout of an array, None for vectors.

    It is the only one whose sides are all 8 or more, or else the only one whose sides are all 4 or
    more. Of several on three axes, bytes are gray images, and so are numbers if the longer side is
    at most one and a half times the shorter.

    Raises:
        InputError: The shape leaves it in doubt, or has too small sides.

    Example:
        >>> guess_layout((5, 3, 9, 11), "X"), guess_layout((5, 3, 100), "X")
        ('NCHW', 'NCL')
        >>> guess_layout((5, 16, 16, 16), "X")
        Traceback (most recent call last):
        lorae.errors.InputError: layout must be given for X of shape (5, 16, 16, 16), which may be \
NCHW, NHWC or NDHW
    """
    if len(shape) == 2:
        return None
    fits: list[str] = []
    for smallest in (_FEW, SIDE):
        fits = fits or [one for one in _CHOICES[len(shape)] if min(_sides(one, shape)) >= smallest]
    if len(fits) == 1:
        return fits[0]
    if "NHW" in fits and (bytes_only or max(shape[1:]) <= 1.5 * min(shape[1:])):
        return "NHW"
    if not fits:
        raise InputError(f"sides of {name} must be at least {SIDE}, got shape {shape}")
    raise InputError(
        f"layout must be given for {name} of shape {shape}, which may be "
        f"{', '.join(fits[:-1])} or {fits[-1]}"
    )


def _sides(layout: str, shape: tuple[int, ...]) -> list[int]:
    """Return the sides of the grid."""
    return [side for axis, side in zip(layout, shape, strict=True) if axis not in "NC"]


def stored_dtype(array: Array) -> str:
    """Return the type in which samples of :func:`as_samples` are stored."""
    if array.ndim > 2 and array.dtype in (np.uint8, np.bool_):
        return "|u1"
    if array.dtype.itemsize < 4 or array.dtype == np.float32 or not len(array):
        return "<f4"
    axes = (0, *range(2, array.ndim))
    low, high = (
        op.reduce([op.reduce(block, axis=axes) for block in _blocks(array)])
        for op in (np.fmin, np.fmax)
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


def check_finite(
    array: Array,
    name: str,
    columns: tuple[str, ...] | None = None,
    *,
    missing: str = "refuse",
    advice: str = "fill them",
) -> None:
    """Check that all values are finite in float32, or NaN if missing values are kept."""
    if array.dtype.kind != "f":
        return
    width = array.shape[1] if array.ndim == 2 else 1
    counts, first, start = np.zeros(width, int), np.full(width, -1), 0
    for block in _blocks(array):
        wrong = ~is_finite(block)
        if missing == "keep":
            wrong &= ~np.isnan(block)
        many = wrong if array.ndim == 2 else wrong.reshape(len(block), -1).sum(1, keepdims=True)
        new = (first < 0) & many.any(axis=0)
        first[new] = start + (many > 0).argmax(axis=0)[new]
        counts += many.sum(axis=0)
        start += len(block)
    if not counts.any():
        return
    if array.ndim > 2:
        raise InputError(
            f"{name} must hold finite numbers, got {counts[0]} NaN or infinite, first in sample "
            f"{first[0] + 1}; {advice}, or leave these samples out"
        )
    names = columns or [f"column_{k + 1}" for k in range(width)]
    where = [f"{names[k]} ({counts[k]}, first in row {first[k] + 1})" for k in counts.nonzero()[0]]
    raise InputError(
        f"{name} must hold finite numbers, got missing, NaN or infinite values (how many) in the "
        f"columns {shorten_list(where)}; {advice}, or leave these rows or columns out"
    )


def check_observed(array: Array, name: str, label: Callable[[int], str] | None = None) -> None:
    """Check that every sample has a value that is not NaN.

    Args:
        array: n samples.
        name: what errors call the array.
        label: names a sample by its index; by default "sample 1" and so on.
    """
    if array.dtype.kind != "f" or not len(array):
        return
    blocks = (np.isnan(block).reshape(len(block), -1).all(axis=1) for block in _blocks(array))
    if empty := np.flatnonzero(np.concatenate([*blocks])).tolist():
        label = label or (lambda k: f"sample {k + 1}")
        raise InputError(
            f"{name} must have an observed value in every sample, got only gaps in "
            f"{shorten_list([label(k) for k in empty])}; leave them out"
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
    gain = np.uint8(255 if dtype == "|u1" and array.dtype == np.bool_ else 1)
    for index in _blocks(rows, math.prod(array.shape[1:])):
        block = array[index].astype(dtype)
        yield block if gain == 1 else block * gain


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
    array: Array
    try:
        array = np.lib.format.open_memmap(path, mode="c")
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        array = np.lib.format.open_memmap(path, mode="r")
    return array
