"""Files that are whole or absent.

A file is written under a temporary name beside its target, flushed to the disk and renamed, so a
reader sees the old content or the new and never a part. A folder is filled beside its target and
renamed. Tensors go to safetensors, never pickle; the header holds a JSON text, the number of the
format and a checksum over all of it, so that a file that is cut, altered or of a later format is
refused in one sentence.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lorae.errors import InputError

FORMAT = 1
"""The number of the format in which tensors are written; later ones are refused."""


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that the file is at every moment the old one or the new one.

    Raises:
        OSError: if the folder cannot be written or the disk is full; the old file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk names no file
        raise


def check_new_folder(out: Path) -> None:
    """Check that there is nothing at a path, or an empty folder.

    Raises:
        InputError: if there is something.
    """
    there = out.resolve()  # a/new/.. is a, though a/new is still to be made
    if there.exists() and (not there.is_dir() or any(there.iterdir())):
        raise InputError(f"out must be a new or empty folder, {str(out)!r} is neither")


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to be filled, which becomes `out` at the end, or is gone if that fails.

    Raises:
        InputError: if there is a file or a folder with content at `out`.

    Example:
        >>> out = Path(tempfile.mkdtemp()) / "new"
        >>> with whole_folder(out) as folder:
        ...     (folder / "a").touch()
        ...     out.exists()
        False
        >>> [path.name for path in out.iterdir()]
        ['a']
    """
    check_new_folder(out)
    with beside(out) as folder:
        whole = folder / "whole"
        whole.mkdir()
        yield whole
        if out.exists():
            out.rmdir()
        whole.replace(out)


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside a path, on the same disk."""
    parent = out.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{out.name}.") as folder:
        yield Path(folder)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomic(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: if the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no file {str(path)!r}") from None
    except ValueError as error:
        raise InputError(f"{str(path)!r} is not valid JSON ({error})") from None


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: object) -> None:
    """Write named tensors and a JSON-able description to a safetensors file, atomically.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> save_tensors(folder / "a.safetensors", {"x": torch.ones(2)}, {"step": 3})
        >>> load_tensors(folder / "a.safetensors")
        ({'x': tensor([1., 1.])}, {'step': 3})
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(about, sort_keys=True)
    # One entry, because safetensors writes several in no certain order.
    checksum = _checksum(plain, f"{FORMAT}{text}")
    header = json.dumps({"about": text, "checksum": checksum, "format": FORMAT})
    write_atomic(path, save(plain, {"lorae": header}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read a file of :func:`save_tensors`: the tensors on the CPU, and the description.

    Raises:
        InputError: if the file is missing, cut short, altered, or of another origin or a later
            format.
    """
    if not path.is_file():
        raise InputError(f"there is no file {str(path)!r}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{str(path)!r} is cut short or not a safetensors file ({error})"
        ) from None
    if "lorae" not in metadata:
        raise InputError(
            f"{str(path)!r} was not written by lorae: its header lacks the description"
        )
    try:
        header = json.loads(metadata["lorae"])
        number = header.get("format", "")  # files of before 0.1 have none
        later = number != "" and number > FORMAT
        intact = later or header["checksum"] == _checksum(tensors, f"{number}{header['about']}")
    except (ValueError, KeyError, TypeError, AttributeError):
        intact = later = False
    if later:
        raise InputError(
            f"{str(path)!r} was written by a newer version of lorae (format {number}; this one "
            f"reads up to {FORMAT}): upgrade lorae to read it"
        )
    if not intact:
        raise InputError(f"{str(path)!r} was altered after it was written: its checksum is wrong")
    return tensors, json.loads(header["about"])


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
