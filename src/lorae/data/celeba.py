"""CelebA in its official layout, cropped to the face and resized, with the official split.

A folder holds, as they are handed out::

    img_align_celeba/ or img_align_celeba.zip    202,599 aligned faces, 178 x 218, JPEG
    list_eval_partition.txt                      a name and 0 (train), 1 (validation) or 2 (test)

Each may lie in the subfolders ``Img`` and ``Eval``. The centred square of 148 pixels is resized to
64, bilinearly with antialiasing, and kept in the cache as bytes. Images of the validation part are
left out, and so are names without an image, so that a part of the set will do. The identities are
not read: nobody in the test set is in the training set, so they are no classes.

The images are for non-commercial research, to which each user agrees with the authors; so nothing
is downloaded.

Liu, Luo, Wang and Tang (2015), "Deep learning face attributes in the wild", ICCV.
"""

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from lorae.data.cache import Split, cache_folder, log
from lorae.data.images import Sides, decoded
from lorae.data.sources import opened
from lorae.errors import InputError

CROP, SIZE = 148, 64
IMAGES, PARTITION = "img_align_celeba", "list_eval_partition.txt"
PARTS = {"0": "train", "1": "validation", "2": "test"}
HOME = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


def load(folder: Path | None = None, *, skip_bad: bool = False) -> Split:
    """Return CelebA as N x 3 x 64 x 64 bytes, memory-mapped from the cache.

    Args:
        folder: Holds the set in the official layout; by default that of :func:`fetch`.
        skip_bad: Skip files that are not readable images, with a warning.

    Raises:
        InputError: The set is not there, not whole or not readable.
    """
    folder = fetch() if folder is None else folder
    partition = _partition(_within(folder, PARTITION) or folder / PARTITION)
    with opened(_images(folder)) as files:
        found = {PurePosixPath(name).name: name for name in files.names}
        parts = {
            part: [found[name] for name in partition if name in found and partition[name] == part]
            for part in ("train", "test")
        }
        for part, names in parts.items():
            if not names:
                raise InputError(f"{files.path} holds no image of CelebA's {part} part")
        _tell(files.path, partition.keys(), found.keys())
        _, kept = decoded(files, parts, Sides(CROP, SIZE), skip_bad=skip_bad)
    return Split.of(kept)


def holds(folder: Path) -> bool:
    """Tell whether a folder has the official layout."""
    return _within(folder, PARTITION) is not None


def fetch() -> Path:
    """Return the folder in which CelebA lies: ``celeba`` in the cache, else ``LORAE_CELEBA``.

    Raises:
        InputError: It is in neither; the message says what is to be put where.
    """
    kept = cache_folder() / "celeba"
    named = os.environ.get("LORAE_CELEBA")
    tried = [kept, *([Path(named).expanduser()] if named else [])]
    for folder in tried:
        if holds(folder):
            return folder
    raise InputError(
        f"CelebA is not in {' or '.join(map(str, tried))}, and cannot be downloaded without "
        f"agreeing to its terms: get {IMAGES}.zip and {PARTITION} from {HOME} and put both in "
        f"{kept}, or in a folder that you give as data or in LORAE_CELEBA"
    )


def is_here() -> bool:
    """Tell whether the set is found where :func:`fetch` looks."""
    try:
        fetch()
    except InputError:
        return False
    return True


def _within(folder: Path, name: str) -> Path | None:
    places = (folder / name, folder / "Img" / name, folder / "Eval" / name)
    return next((place for place in places if place.exists()), None)


def _images(folder: Path) -> Path:
    path = _within(folder, IMAGES) or _within(folder, f"{IMAGES}.zip")
    if path is None:
        raise InputError(f"{folder} holds {PARTITION}, but neither {IMAGES}/ nor {IMAGES}.zip")
    return path


def _partition(path: Path) -> dict[str, str]:
    """Return the part, by its name, to which each image belongs."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    partition = {}
    for number, line in enumerate(lines, 1):
        name, _, part = line.strip().rpartition(" ")
        if part not in PARTS or not name:
            raise InputError(
                f"line {number} of {path} must be the name of an image and 0, 1 or 2, got {line!r}"
            )
        partition[name.strip()] = PARTS[part]
    return partition


def _tell(path: Path, listed: Iterable[str], found: Iterable[str]) -> None:
    """Say how many images are missing, or in no part."""
    listed, found = set(listed), set(found)
    if listed - found:
        log.warning(
            "%s lacks %d of the %d images in %s", path, len(listed - found), len(listed), PARTITION
        )
    if found - listed:
        log.warning(
            "ignored %d files of %s that are not in %s", len(found - listed), path, PARTITION
        )
