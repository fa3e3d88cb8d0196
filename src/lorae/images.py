"""Folders and zips of images, decoded once into the cache and memory-mapped from there.

Every file is tried, in all subfolders, sorted by name; hidden ones and those that operating
systems leave are passed over. An image becomes C x H x W bytes: turned as its EXIF data say,
16-bit values divided by 257, transparency laid on white, gray if all images are, else RGB.

Folders ``train`` and ``test`` are the split. If every image lies in one of two or more
subfolders of these, or of the whole, the subfolders are the classes, numbered by name.
"""

import hashlib
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from lorae.arrays import hold_out, listed
from lorae.cache import Array, Split, cache_folder, log, recall, remember, write_npy
from lorae.errors import InputError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
LEAST = 8  # pixels, the smallest side of an image
LONG = 2000  # images from which decoding them shows a progress bar
BATCH = 256  # images decoded at a time
VERSION = 1  # of the decoding; raised when it changes, so that no older result is used
CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Files:
    """The files of a folder or a zip, by name relative to it, with "/" between folders."""

    path: Path
    stamps: Mapping[str, tuple[int, int]]  # size, and time of change or checksum
    open: Callable[[str], IO[bytes]]


class Sides(NamedTuple):
    """What becomes of an image's height and width."""

    crop: int | None  # first a centred square of this side
    size: int | None  # then the largest centred square, resized to this side

    def after(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that come out."""
        side = self.size or self.crop
        return (side, side) if side else (height, width)

    def apply(self, image: Image.Image) -> Image.Image:
        """Crop and resize, bilinearly with antialiasing."""
        if self.crop:
            image = _centre(image, self.crop)
        if self.size:
            square = _centre(image, min(image.size))
            image = square.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return image


class Header(NamedTuple):
    """What is known of an image before it is decoded."""

    height: int
    width: int
    gray: bool


def load(
    path: Path,
    *,
    size: int | None = None,
    crop: int | None = None,
    skip_bad: bool = False,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> Split:
    """Read a folder or zip of images; see :func:`lorae.data.load` for the arguments.

    Raises:
        InputError: There are no images, files that are not images (unless ``skip_bad``), images
            of differing sizes (unless ``size``), or images that are too small.
    """
    for name, side in (("size", size), ("crop", crop)):
        if side is not None and side < LEAST:
            raise InputError(f"{name} is {side}, but must be {LEAST} pixels or more")
    sides = Sides(crop, size)
    with _files(path) as files:
        parts = _parts(files)
        key = repr((VERSION, sides, skip_bad, sorted(files.stamps.items())))
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        entry = cache_folder() / "images" / f"{path.resolve().stem}-{digest}"
        kept = recall(entry) or remember(
            entry, lambda folder: _decode_all(files, parts, sides, skip_bad, folder)
        )
    if len(parts) == 2:
        return Split(**kept)
    return hold_out(kept["train"], kept.get("train_labels"), test_fraction, seed, entry.name)


@contextmanager
def _files(path: Path) -> Iterator[Files]:
    if path.is_dir():
        found = (
            Path(folder, name).relative_to(path)
            for folder, _, names in os.walk(path)
            for name in names
        )
        names = sorted(name.as_posix() for name in found if _is_wanted(name.parts))
        yield Files(path, {name: _stamp(path / name) for name in names}, _opener(path))
        return
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as a zip ({error})") from error
    with archive:
        members = {item.filename: (item.file_size, item.CRC) for item in archive.infolist()}
        wanted = [
            name
            for name in sorted(members)
            if not name.endswith("/") and _is_wanted(PurePosixPath(name).parts)
        ]
        yield Files(path, {name: members[name] for name in wanted}, archive.open)


def _is_wanted(parts: Sequence[str]) -> bool:
    return not any(part.startswith(".") or part in CLUTTER for part in parts)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:  # a broken link: named among the unreadable files when it is opened
        return (0, 0)
    return stat.st_size, stat.st_mtime_ns


def _opener(path: Path) -> Callable[[str], IO[bytes]]:
    return lambda name: (path / name).open("rb")


def _parts(files: Files) -> dict[str, list[str]]:
    """Return the names in train/ and in test/, or all names as "train"; common folders aside."""
    if not files.stamps:
        raise InputError(f"{files.path} holds no images: it is empty")
    inner = _inner(list(files.stamps))
    parts = {
        part: [name for name, rest in inner.items() if rest[0] == part and len(rest) > 1]
        for part in ("train", "test")
    }
    if not (parts["train"] and parts["test"]):
        return {"train": list(files.stamps)}
    others = [name for name in files.stamps if inner[name][0] not in parts]
    if others:
        log.warning(
            "ignored %d files of %s outside train/ and test/: %s",
            len(others), files.path, listed(others),
        )  # fmt: skip
    return parts


def _inner(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the parts of each name below the folders that all have in common."""
    folders = [PurePosixPath(name).parent.parts for name in names]
    common = len(os.path.commonprefix(folders))
    return {name: PurePosixPath(name).parts[common:] for name in names}


def _classes(parts: Mapping[str, Sequence[str]]) -> dict[str, int] | None:
    """Return the number of each name's class, or None if the names do not lie in classes."""
    skip = len(parts) - 1  # the folders train and test
    inner = _inner([name for names in parts.values() for name in names])
    classes = sorted({rest[skip] for rest in inner.values()})
    if len(classes) < 2 or any(len(rest) < skip + 2 for rest in inner.values()):
        return None
    return {name: classes.index(rest[skip]) for name, rest in inner.items()}


def _decode_all(
    files: Files, parts: Mapping[str, list[str]], sides: Sides, skip_bad: bool, folder: Path
) -> None:
    """Write the images of each part to an .npy file, and their labels if there are classes."""
    names = [name for part in parts.values() for name in part]
    headers: dict[str, Header] = {}
    bad: dict[str, str] = {}
    for name, header in _each(partial(_header, files), names, bad, "reading headers"):
        headers[name] = header
    while True:  # once, or again without the images that turned out to be damaged
        _refuse(files.path, bad, len(names), skip_bad)
        good = {part: [n for n in parts[part] if n not in bad] for part in parts}
        shape = _shape(files.path, {n: h for n, h in headers.items() if n not in bad}, sides)
        known = len(bad)
        for part, chosen in good.items():
            decode = partial(_decode, files, shape, sides)
            rows = (row[None] for _, row in _each(decode, chosen, bad, f"decoding {part}"))
            write_npy(folder / f"{part}.npy", (len(chosen), *shape), "|u1", rows)
        if len(bad) == known:
            break
    labels = _classes(good)
    if labels is not None:
        for part, chosen in good.items():
            np.save(folder / f"{part}_labels.npy", np.array([labels[n] for n in chosen], "<i8"))
    if bad:
        log.warning("skipped %d files of %s: %s", len(bad), files.path, _reasons(bad))


def _each[T](
    work: Callable[[str], T], names: Sequence[str], bad: dict[str, str], doing: str
) -> Iterator[tuple[str, T]]:
    raise NotImplementedError
