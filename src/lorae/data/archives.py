"""The files of a folder or zip by name, in all subfolders, without what systems leave there.

Memory holds only the names, so a folder may have millions of files; a zip's directory takes more.
"""

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO

from lorae.errors import InputError

CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Files:
    """The files of a folder or a zip, by name relative to it, with "/" between folders."""

    path: Path
    names: Sequence[str]  # sorted
    digest: str  # of the names with size, and time of change or checksum
    open: Callable[[str], IO[bytes]]


@contextmanager
def open_files(path: Path) -> Iterator[Files]:
    """Yield the files of a folder or a zip."""
    if path.is_dir():
        names = sorted(_walk(path))
        stamps = (f"{name} {_stamp(path / name)}" for name in names)
        yield Files(path, names, digest(stamps), lambda name: _open_regular(path / name))
        return
    try:
        archive = zipfile.ZipFile(path)
    except NotImplementedError:
        raise InputError(f"{path} must be a zip of a known version, got a later one") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} must be a zip whose names are UTF-8 or ASCII, got others") from (
            None
        )
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or "another kind of file, or damaged"
        raise InputError(f"{path} cannot be read as a zip ({reason})") from None
    with archive:
        names = [
            name
            for name in sorted(set(archive.namelist()))
            if not name.endswith("/") and all(map(_is_wanted, PurePosixPath(name).parts))
        ]
        stamps = (f"{archive.getinfo(n).file_size} {archive.getinfo(n).CRC} {n}" for n in names)
        # Reading a member checks its CRC.
        yield Files(path, names, digest(stamps), lambda name: BytesIO(archive.read(name)))


def digest(lines: Iterable[str]) -> str:
    """Return the SHA-256 of lines of text, such as names, in hexadecimal."""
    result = hashlib.sha256()
    for line in lines:
        result.update(f"{line}\n".encode(errors="surrogateescape"))  # a name may not be text
    return result.hexdigest()


def _open_regular(path: Path) -> IO[bytes]:
    if path.exists() and not path.is_file():
        raise InputError("a pipe or a device, not a file")
    return path.open("rb")


def _walk(path: Path) -> Iterator[str]:
    """Yield the names of all files, following links to folders, but into each folder once."""
    seen = {path.resolve()}
    for folder, subfolders, names in os.walk(path, followlinks=True):
        entered = []
        for name in filter(_is_wanted, subfolders):
            if (place := (Path(folder) / name).resolve()) not in seen:
                seen.add(place)
                entered.append(name)
        subfolders[:] = entered  # os.walk enters only these
        start = "".join(f"{part}/" for part in Path(folder).relative_to(path).parts)
        yield from (start + name for name in names if _is_wanted(name))


def _is_wanted(name: str) -> bool:
    return not name.startswith(".") and name not in CLUTTER


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:  # a broken link, which is reported as unreadable when it is opened
        return (0, 0)
    return stat.st_size, stat.st_mtime_ns
