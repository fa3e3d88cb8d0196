"""Named tensors and a description in a safetensors file with a checksum; never a pickle.

The header holds a JSON text, the number of the format and a checksum over all content, so that a
file that is cut short, altered or of a later format is refused in one sentence.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lorae.errors import InputError
from lorae.utils.files import write_atomic

FORMAT = 1
"""The number of the format that is written; files of later formats are refused."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: object) -> None:
    """Write named tensors and a JSON-able description, atomically.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> save_tensors(folder / "a.safetensors", {"x": torch.ones(2)}, {"step": 3})
        >>> load_tensors(folder / "a.safetensors")
        ({'x': tensor([1., 1.])}, {'step': 3})
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(about, sort_keys=True)
    # A single entry, because safetensors writes several in no fixed order.
    checksum = _checksum(plain, f"{FORMAT}{text}")
    header = json.dumps({"about": text, "checksum": checksum, "format": FORMAT})
    write_atomic(path, save(plain, {"lorae": header}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read a file of :func:`save_tensors`: the tensors on the CPU, and the description.

    Raises:
        InputError: if the file is missing, cut short, altered, of another origin or of a later
            format.
    """
    name = repr(str(path))
    if not path.is_file():
        raise InputError(f"there is no file {name}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{name} is cut short or not a safetensors file ({error})") from None
    if "lorae" not in metadata:
        raise InputError(f"{name} was not written by lorae: its header lacks the description")
    try:
        header = json.loads(metadata["lorae"])
        number, text = header["format"], header["about"]
        later = number > FORMAT
        intact = header["checksum"] == _checksum(tensors, f"{number}{text}")
    except (ValueError, KeyError, TypeError):
        intact = later = False
    if later:
        raise InputError(
            f"{name} was written by a newer version of lorae (format {number}; this one reads up "
            f"to {FORMAT}): upgrade lorae to read it"
        )
    if not intact:
        raise InputError(f"{name} was altered after it was written: its checksum is wrong")
    return tensors, json.loads(text)


def read_checksum(path: Path) -> str:
    """Return the checksum in the header of a file that :func:`load_tensors` has read."""
    return str(_read_header(path)["checksum"])


def read_description(path: Path) -> Any:
    """Return the description in a file of :func:`save_tensors`, and read no tensor."""
    try:
        return json.loads(_read_header(path)["about"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{str(path)!r} was not written by lorae, or is damaged") from None


def _read_header(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        header: dict[str, Any] = json.loads(file.metadata()["lorae"])
        return header


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
