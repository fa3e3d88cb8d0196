"""Arrays kept in the cache between runs: downloads and decoded samples, whole or absent.

An entry is a folder of .npy files and their checksum. It is written under a temporary name beside
its target, then renamed, so an interrupted run leaves nothing half done. Arrays are memory-mapped
when they are loaded, and compared with the checksum; a damaged entry counts as absent.
"""

import hashlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from lorae.data.arrays import Array, checksum, open_npy
from lorae.data.locations import cache_folder, cache_workspace, explain_write_errors

log = logging.getLogger("lorae")


def load_or_create(entry: Path, write: Callable[[Path], None]) -> dict[str, Array]:
    """Return the arrays of an entry, created if needed by one of the processes that ask for it.

    Args:
        entry: Folder of the entry.
        write: Writes an .npy file for each array into the folder that it is given.
    """
    found = load_entry(entry)
    if found is not None:
        return found
    name = hashlib.sha256(str(entry).encode()).hexdigest()[:16]
    locks = cache_folder() / "locks"
    with explain_write_errors(locks):
        locks.mkdir(exist_ok=True)
        lock = FileLock(locks / f"{name}.lock")
        lock.acquire()
    try:
        return load_entry(entry) or create_entry(entry, write)
    finally:
        lock.release()


def load_entry(entry: Path) -> dict[str, Array] | None:
    """Return the arrays of an entry, or None if it is absent or damaged."""
    try:
        expected = (entry / "checksum").read_text()
        arrays = _open_all(entry)
        if checksum(arrays) == expected:
            return arrays
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        pass
    log.warning("the cached samples in %s are damaged and will be created again", entry)
    return None


def create_entry(entry: Path, write: Callable[[Path], None]) -> dict[str, Array]:
    """Create or replace an entry, whole or not at all, and return its arrays memory-mapped."""
    with cache_workspace(entry.parent) as folder:
        write(folder)
        (folder / "checksum").write_text(checksum(_open_all(folder)))
        shutil.rmtree(entry, ignore_errors=True)
        try:
            folder.rename(entry)
        except OSError:
            if not entry.exists():  # otherwise another process has created the same entry
                raise
    return _open_all(entry)


def _open_all(folder: Path) -> dict[str, Array]:
    return {path.stem: open_npy(path) for path in sorted(folder.glob("*.npy"))}
