"""Repositories of the Hugging Face hub: a file of one, or a folder sent to one.

The package huggingface-hub (`pip install lorae[hub]`) does the talking; it finds the user's token
by itself, where `hf auth login` or HF_TOKEN has put it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lorae.errors import InputError

_WORD = r"[A-Za-z0-9_](?:[\w.-]{0,94}\w)?"
_REPOSITORY = re.compile(f"{_WORD}/{_WORD}", re.ASCII)


def is_repository(name: str) -> bool:
    """Return whether a text may be the name of a repository, OWNER/NAME.

    Example:
        >>> is_repository("someone/lorae-mnist"), is_repository("runs/a/b"), is_repository("../b")
        (True, False, False)
    """
    strange = "--" in name or ".." in name or name.endswith(".git")
    return _REPOSITORY.fullmatch(name) is not None and not strange


def check_repository(name: str) -> None:
    """Check that a folder could be sent to a repository of this name, before there is one.

    Raises:
        InputError: if it is no OWNER/NAME, or the package huggingface-hub is missing.
    """
    if not is_repository(name):
        raise InputError(
            f"a repository is OWNER/NAME, of letters, digits, '-', '_' and '.', got {name!r}"
        )
    _package(f"to reach {name!r} on the Hugging Face hub")


def download(repository: str, file: str, revision: str | None = None) -> Path:
    """Return the file of a repository, from the package's cache where it is there already.

    Raises:
        InputError: if the package is missing, or there is no such file or no answer.
    """
    package = _package(f"there is no file or folder {repository!r}, and to look for it on the hub")
    with _told(f"neither a path nor to be had from the Hugging Face hub: {repository!r}"):
        return Path(
            package.hf_hub_download(repository, file, revision=revision, library_name="lorae")
        )


def push(folder: Path, repository: str, *, private: bool = False) -> str:
    """Send the files of a folder to a repository, made if there is none, and return its address.

    Raises:
        InputError: if the package is missing, or the hub refuses or does not answer.
    """
    api = _package(f"to send a model to {repository!r}").HfApi(library_name="lorae")
    with _told(f"{str(folder)!r} could not be sent to {repository!r}"):
        address = str(api.create_repo(repository, private=private, exist_ok=True))
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Add a model of lorae"
        )
    return address


def _package(purpose: str) -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise InputError(
            f"{purpose} takes the package huggingface-hub: pip install lorae[hub]"
        ) from None
    return huggingface_hub


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Tell what went wrong between us and the hub in one sentence."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    # Among its bases is that of the errors of the network client, which is another one in
    # every major version of the package.
    network: tuple[Any, ...] = HfHubHTTPError.__bases__
    try:
        yield
    except (OSError, ValueError, EntryNotFoundError, *network) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{what} ({reason[:300]})") from None
