"""Files and folders that are whole or absent.

A file is written under a temporary name beside its target, flushed to the disk and renamed, so a
reader sees the old content or the new and never a part. A folder is filled beside its target and
renamed.
"""

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lorae.errors import InputError

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{32}\.part|\.tmp-[0-9a-f]{32}")


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that the file is at every moment the old one or the new one.

    Raises:
        OSError: if the folder cannot be written or the disk is full; the old file stays.
    """
    _write(path, content, Path.replace)


def create_file(path: Path, content: bytes) -> None:
    """Write a new file, atomically; of several processes that try, one succeeds.

    Raises:
        FileExistsError: if the file exists.
        OSError: if the folder cannot be written or the disk is full.
    """
    _write(path, content, _link)


def _write(path: Path, content: bytes, rename: Callable[[Path, Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        rename(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # the error of a full disk has no file name
        raise


def _link(temporary: Path, path: Path) -> None:
    """Rename a file unless the new name is taken."""
    try:
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        if path.exists():  # a file system without hard links
            raise FileExistsError(errno.EEXIST, "file exists", str(path)) from None
        temporary.replace(path)
    else:
        temporary.unlink()


def check_new_folder(out: Path) -> None:
    """Check that a path does not exist, or is an empty folder.

    What a write that was killed has left behind does not count as content.
    """
    target = out.resolve()  # new/.. exists even if new does not
    if target.exists() and not (target.is_dir() and all(map(_is_leftover, target.iterdir()))):
        raise InputError(f"out must be a new or empty folder, got {str(out)!r}, which has content")


def remove_leftovers(folder: Path) -> None:
    """Remove what writes into a folder have left behind that were killed."""
    for path in filter(_is_leftover, folder.iterdir()):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_leftover(path: Path) -> bool:
    return _LEFTOVER.fullmatch(path.name) is not None


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to fill, which becomes `out` at the end, or is removed if an error occurs.

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp()) / "new"
        >>> with whole_folder(out) as folder:
        ...     (folder / "a").touch()
        ...     out.exists()
        False
        >>> [path.name for path in out.iterdir()]
        ['a']
    """
    check_new_folder(out)
    with temporary_folder(out.absolute().parent) as folder:
        yield folder
        if out.exists():
            remove_leftovers(out)
            out.rmdir()
        folder.replace(out)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a temporary folder in `parent`, and remove it with its content at the end.

    Unlike one of `tempfile`, it has the permissions of an ordinary folder, so it may be renamed to
    one that others read.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f".tmp-{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomic(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no file {str(path)!r}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is not valid JSON ({error})") from None
