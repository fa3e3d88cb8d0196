"""Where data lies: the cache folder, and the files of MNIST and CelebA on this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from lorae.errors import InputError
from lorae.utils.files import temporary_folder

MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
MNIST_RESIZED = "resized-32"
CELEBA_IMAGES, CELEBA_PARTITION = "img_align_celeba", "list_eval_partition.txt"
CELEBA_HOME = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


def cache_folder() -> Path:
    """Return the cache folder, created if needed: ``LORAE_DATA``, else the platform's."""
    default = platformdirs.user_cache_dir("lorae", appauthor=False)
    path = Path(os.environ.get("LORAE_DATA") or default).expanduser()
    with explain_write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def cache_workspace(parent: Path) -> Iterator[Path]:
    """Yield a temporary folder in a folder of the cache, and remove it at the end."""
    with explain_write_errors(parent), temporary_folder(parent) as folder:
        yield folder


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into an InputError that names the folder and LORAE_DATA."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"cannot write to the cache folder {path} ({reason}); "
            f"set LORAE_DATA to a writable folder with enough space"
        ) from error


def find_mnist_file(folder: Path, name: str) -> Path | None:
    """Return the path of an IDX file in a folder, gzipped or not, or None."""
    return _first_existing(folder / name, folder / f"{name}.gz")


def holds_mnist(folder: Path) -> bool:
    """Return whether a folder holds any of the four IDX files."""
    return any(find_mnist_file(folder, name) for name in MNIST_FILES)


def mnist_is_cached() -> bool:
    """Return whether MNIST can be loaded without a download."""
    folder = cache_folder() / "mnist"
    resized = (folder / MNIST_RESIZED / "checksum").is_file()
    return resized or all(find_mnist_file(folder, name) for name in MNIST_FILES)


def find_celeba_file(folder: Path, name: str) -> Path | None:
    """Return the path of a file or folder of CelebA in its official layout, or None."""
    return _first_existing(folder / name, folder / "Img" / name, folder / "Eval" / name)


def holds_celeba(folder: Path) -> bool:
    """Return whether a folder has CelebA's official layout."""
    return find_celeba_file(folder, CELEBA_PARTITION) is not None


def celeba_folder() -> Path:
    """Return the folder that holds CelebA: ``celeba`` in the cache, else ``LORAE_CELEBA``."""
    default, variable = cache_folder() / "celeba", os.environ.get("LORAE_CELEBA")
    tried = [default, *([Path(variable).expanduser()] if variable else [])]
    for folder in tried:
        if holds_celeba(folder):
            return folder
    raise InputError(
        f"CelebA is not in {' or '.join(map(str, tried))}, and cannot be downloaded without "
        f"agreeing to its terms: get {CELEBA_IMAGES}.zip and {CELEBA_PARTITION} from "
        f"{CELEBA_HOME} and put both in {default}, or in a folder that you pass as data or set "
        f"as LORAE_CELEBA"
    )


def celeba_is_here() -> bool:
    """Return whether CelebA is in one of the places of :func:`celeba_folder`."""
    try:
        return bool(celeba_folder())
    except InputError:
        return False


def _first_existing(*paths: Path) -> Path | None:
    return next((path for path in paths if path.exists()), None)
