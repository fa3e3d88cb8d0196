"""Arrays as samples: their layout, their stored type, and .npy files larger than memory.

By rank, an array of N samples is::

    N x D           vectors, stored as float32
    N x H x W       gray images
    N x H x W x C   images, if the last axis, and not the second, is 1, 3 or 4
    N x C x H x W   images otherwise

Images of bytes are stored as bytes, boolean images as 0 and 255, all others as float32.
"""

import errno
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lorae.errors import InputError

Array = np.ndarray[Any, np.dtype[Any]]

MIN_SIDE = 8  # pixels, the smallest side of an image


def as_samples(array: Array, name: str) -> Array:
    """Return vectors N x D or images N x C x H x W; a view, so a mapped file stays on disk.

    Args:
        array: Numbers in one of the layouts above.
        name: What errors call the array.

    Raises:
        InputError: The array has another rank, does not hold numbers, or holds images with a
            side under 8 pixels.
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
    elif array.shape[3] in (1, 3, 4) and array.shape[1] not in (1, 3, 4):
        array = np.moveaxis(array, 3, 1)
    height, width = array.shape[2:]
    if min(height, width) < MIN_SIDE:
        raise InputError(
            f"images of {name} must be at least {MIN_SIDE}x{MIN_SIDE}, got {width}x{height}"
        )
    return array


def stored_dtype(array: Array) -> str:
    """Return the type in which samples of :func:`as_samples` are stored."""
    return "|u1" if array.ndim == 4 and array.dtype in (np.uint8, np.bool_) else "<f4"


def copy_rows(array: Array, rows: Array) -> Array:
    """Return a contiguous copy of rows in their stored type."""
    out = np.empty((len(rows), *array.shape[1:]), stored_dtype(array))
    start = 0
    for block in copy_blocks(array, rows):
        out[start : start + len(block)] = block
        start += len(block)
    return out


def copy_blocks(array: Array, rows: Array) -> Iterator[Array]:
    """Yield rows in their stored type, about 2^24 values at a time."""
    dtype = stored_dtype(array)
    gain = 255 if dtype == "|u1" and array.dtype == np.bool_ else 1
    step = max(1, 2**24 // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(rows), step):
        with np.errstate(over="ignore"):  # overflow becomes infinity, which is reported later
            block = array[rows[start : start + step]].astype(dtype)
        yield block if gain == 1 else block * np.uint8(gain)


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
