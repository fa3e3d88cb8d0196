"""CelebA in its official layout, cropped to the face and resized, with the official split.

A folder holds, as the authors distribute them::

    img_align_celeba/ or img_align_celeba.zip    202,599 aligned faces, 178 x 218, JPEG
    list_eval_partition.txt                      a name and 0 (train), 1 (validation) or 2 (test)

Each may lie in the subfolders ``Img`` and ``Eval``. The centred square of 148 pixels is resized to
64, bilinearly with antialiasing, and kept in the cache as bytes. Images of the validation part and
names without an image are left out, so a part of the set is enough. Identities are not read:
nobody in the test set is in the training set, so they are not classes.

The images are for non-commercial research, to which each user agrees with the authors; therefore
nothing is downloaded.

Liu, Luo, Wang and Tang (2015), "Deep learning face attributes in the wild", ICCV.
"""

from pathlib import Path, PurePosixPath

from lorae.data.archives import open_files
from lorae.data.cache import log
from lorae.data.images import CropResize, decode
from lorae.data.locations import (
    CELEBA_IMAGES,
    CELEBA_PARTITION,
    celeba_folder,
    find_celeba_file,
)
from lorae.data.splits import Split
from lorae.errors import InputError

TRANSFORM = CropResize(crop=148, size=64)
PARTS = {"0": "train", "1": "validation", "2": "test"}


def load(folder: Path | None = None, *, skip_bad: bool = False) -> Split:
    """Return CelebA as N x 3 x 64 x 64 bytes, memory-mapped from the cache.

    Args:
        folder: Holds the set in the official layout; by default that of
            :func:`lorae.data.locations.celeba_folder`.
        skip_bad: Skip files that are not readable images, with a warning.

    Raises:
        InputError: The set is absent, incomplete or unreadable.
    """
    folder = celeba_folder() if folder is None else folder
    partition = _read_partition(
        find_celeba_file(folder, CELEBA_PARTITION) or folder / CELEBA_PARTITION
    )
    with open_files(_image_path(folder)) as files:
        by_name = {PurePosixPath(name).name: name for name in files.names}
        present = [name for name in partition if name in by_name]
        parts = {
            part: [by_name[name] for name in present if partition[name] == part]
            for part in ("train", "test")
        }
        for part, names in parts.items():
            if not names:
                raise InputError(f"{files.path} must hold images of CelebA's {part} part, got none")
        if missing := len(partition) - len(present):
            log.warning(
                "%s lacks %d of the %d images in %s",
                files.path, missing, len(partition), CELEBA_PARTITION,
            )  # fmt: skip
        if more := len(by_name) - len(present):
            where = files.path
            log.warning("ignored %d files of %s that are not in %s", more, where, CELEBA_PARTITION)
        _, arrays = decode(files, parts, TRANSFORM, skip_bad=skip_bad)
    return Split(**arrays)  # type: ignore[arg-type]


def _image_path(folder: Path) -> Path:
    for name in (CELEBA_IMAGES, f"{CELEBA_IMAGES}.zip"):
        if path := find_celeba_file(folder, name):
            return path
    raise InputError(
        f"{folder} must hold {CELEBA_IMAGES}/ or {CELEBA_IMAGES}.zip, got {CELEBA_PARTITION} alone"
    )


def _read_partition(path: Path) -> dict[str, str]:
    """Return the part of each image by its name."""
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
