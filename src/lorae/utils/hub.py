"""Files from and folders to repositories of the Hugging Face hub.

The package huggingface-hub (`pip install 'lorae[hub]'`) transfers them; it reads the user's token
from where `hf auth login` or HF_TOKEN put it.
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
    """Return whether a text is a valid name of a repository, OWNER/NAME.

    Example:
        >>> is_repository("someone/lorae-mnist"), is_repository("runs/a/b"), is_repository("../b")
        (True, False, False)
    """
    reserved = "--" in name or ".." in name or name.endswith(".git")
    return _REPOSITORY.fullmatch(name) is not None and not reserved


def check_repository(name: str) -> None:
    """Check, before an upload, that a repository has a valid name and the package is installed."""
    if not is_repository(name):
        raise InputError(
            f"a repository must be OWNER/NAME, of letters, digits, '-', '_' and '.', got {name!r}"
        )
    _import_package(f"uploading to {name!r}")


def download(repository: str, file: str, revision: str | None = None) -> Path:
    """Return the path of a repository's file in the package's cache, downloaded if needed.

    Raises:
        InputError: if the package is missing, the file does not exist or the hub does not answer.
    """
    package = _import_package(f"{repository!r} is not a file or folder; downloading it")
    with _explain_errors(f"{repository!r} is not a path, and its download failed"):
        return Path(
            package.hf_hub_download(repository, file, revision=revision, library_name="lorae")
        )


def push(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload the files of a folder to a repository, created if needed, and return its address."""
    api = _import_package(f"uploading to {repository!r}").HfApi(library_name="lorae")
    with _explain_errors(f"uploading {str(folder)!r} to {repository!r} failed"):
        address = str(api.create_repo(repository, private=private, exist_ok=True))
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Add a model of lorae"
        )
    return address


def _import_package(purpose: str) -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise InputError(
            f"{purpose} needs the package huggingface-hub: pip install 'lorae[hub]'"
        ) from None
    return huggingface_hub


@contextmanager
def _explain_errors(message: str) -> Iterator[None]:
    """Turn errors of the transfer into one sentence."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    # Its bases include the error of the network client, which differs between major versions of
    # the package.
    network: tuple[Any, ...] = HfHubHTTPError.__bases__
    try:
        yield
    except (OSError, ValueError, EntryNotFoundError, *network) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{message} ({reason[:300]})") from None
