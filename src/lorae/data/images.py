"""Folders and zips of images, decoded once into the cache and memory-mapped from there.

Every file is tried, in all subfolders, sorted by name; hidden ones and those that operating
systems leave are passed over. An image becomes C x H x W bytes: turned as its EXIF data say,
16-bit values divided by 257, transparency laid on white, gray if all images are, else RGB.

Folders ``train`` and ``test`` are the split. If every image lies in one of two or more
subfolders of these, or of the whole, the subfolders are the classes, numbered by name.

Memory holds the names of the files and a batch of images, however many there are.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from lorae.data.cache import Array, Split, cache_folder, kept, log, write_npy
from lorae.data.sources import Files, digest, opened
from lorae.data.tables import hold_out, listed
from lorae.errors import InputError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
LEAST = 8  # pixels, the smallest side of an image
LONG = 2000  # images from which decoding them shows a progress bar
BATCH = 256  # images decoded at a time
VERSION = 1  # of the decoding; raised when it changes, so that no older result is used
T = TypeVar("T")


class Sides(NamedTuple):
    """What becomes of an image's height and width."""

    crop: int | None  # first a centred square of this side
    size: int | None  # then the largest centred square, resized to this side

    def check(self) -> None:
        """Raise an InputError if a side is too small."""
        for name, side in (("size", self.size), ("crop", self.crop)):
            if side is not None and side < LEAST:
                raise InputError(f"{name} is {side}, but must be {LEAST} pixels or more")

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
    """Read a folder or zip of images; see :func:`lorae.data.datasets.load` for the arguments.

    Raises:
        InputError: There are no images, files that are not images (unless ``skip_bad``), images
            of differing sizes (unless ``size``), or images that are too small.
    """
    sides = Sides(crop, size)
    sides.check()
    with opened(path) as files:
        parts = _parts(files)
        origin, found = decoded(files, parts, sides, skip_bad=skip_bad, classed=True)
    if len(parts) == 2:
        return Split.of(found)
    return hold_out(found["train"], found.get("train_labels"), test_fraction, seed, origin)


def decoded(
    files: Files,
    parts: Mapping[str, list[str]],
    sides: Sides,
    *,
    skip_bad: bool,
    classed: bool = False,
) -> tuple[str, dict[str, Array]]:
    """Return the images of each part as N x C x H x W bytes, and a name for what they are.

    They come memory-mapped from the cache, and go into it if they are not there yet.

    Args:
        files: The files of a folder or zip.
        parts: The names in each part, in order.
        sides: What becomes of height and width.
        skip_bad: Skip files that are not readable images, with a warning.
        classed: Add ``PART_labels`` where the names lie in folders that are classes.
    """
    named = {part: digest(names) for part, names in parts.items()}
    key = repr((VERSION, sides, skip_bad, classed, files.digest, named))
    entry = cache_folder() / "images" / f"{files.path.resolve().stem}-{digest([key])[:16]}"
    write = partial(_decode_all, files, parts, sides, skip_bad=skip_bad, classed=classed)
    return entry.name, kept(entry, write)


def _parts(files: Files) -> dict[str, list[str]]:
    """Return the names in train/ and in test/, or all names as "train"; common folders aside."""
    if not files.names:
        raise InputError(f"{files.path} holds no images: it is empty")
    depth = _depth(files.names)
    parts: dict[str, list[str]] = {"train": [], "test": []}
    others: list[str] = []
    for name in files.names:
        part, *below = name.split("/")[depth:]
        (parts[part] if part in parts and below else others).append(name)
    if not (parts["train"] and parts["test"]):
        return {"train": list(files.names)}
    if others:
        log.warning(
            "ignored %d files of %s outside train/ and test/: %s",
            len(others), files.path, listed(others),
        )  # fmt: skip
    return parts


def _depth(names: Sequence[str]) -> int:
    """Return how many folders, from the first on, all names have in common."""
    shared = names[0].split("/")[:-1]
    for name in names:
        folders = name.split("/")[:-1]
        while shared != folders[: len(shared)]:
            shared.pop()
    return len(shared)


def _labels(parts: Mapping[str, Sequence[str]]) -> dict[str, Array]:
    """Return the number of each name's class, or nothing if the names do not lie in classes."""
    names = [name for part in parts.values() for name in part]
    level = _depth(names) + len(parts) - 1  # below the folders train and test
    if any(name.count("/") <= level for name in names):
        return {}
    classes = sorted({name.split("/")[level] for name in names})
    if len(classes) < 2:
        return {}
    number = {folder: k for k, folder in enumerate(classes)}
    return {
        part: np.fromiter((number[name.split("/")[level]] for name in some), "<i8", len(some))
        for part, some in parts.items()
    }


def _decode_all(
    files: Files,
    parts: Mapping[str, list[str]],
    sides: Sides,
    folder: Path,
    *,
    skip_bad: bool,
    classed: bool,
) -> None:
    """Write the images of each part to an .npy file, and their labels if there are classes."""
    bad: dict[str, str] = {}
    names = [name for part in parts.values() for name in part]
    known: dict[Header, Header] = {}  # most are equal, and one of each is kept
    found = _each(partial(_header, files), names, bad, "reading headers")
    headers = {name: known.setdefault(header, header) for name, header in found}
    if bad and not skip_bad:  # count those, too, whose header alone is whole
        whole = [name for name in names if name not in bad]
        deque(_each(partial(_pixels, files), whole, bad, "checking"), maxlen=0)
    while True:  # once, or again without the images that turned out to be damaged
        good = _without(files.path, parts, bad, skip_bad=skip_bad)
        counts = Counter(headers[name] for part in good.values() for name in part)
        shape = _shape(files.path, counts, sides)
        known_bad = len(bad)
        for part, chosen in good.items():
            decoded = _each(partial(_decode, files, shape, sides), chosen, bad, f"decoding {part}")
            rows = (image[None] for _, image in decoded)
            write_npy(folder / f"{part}.npy", (len(chosen), *shape), "|u1", rows)
        if len(bad) == known_bad:
            break
    for part, labels in _labels(good).items() if classed else ():
        np.save(folder / f"{part}_labels.npy", labels)
    if bad:
        log.warning("skipped %d files of %s: %s", len(bad), files.path, _reasons(bad))


def _each(
    work: Callable[[str], T], names: Sequence[str], bad: dict[str, str], doing: str
) -> Iterator[tuple[str, T]]:
    """Yield each name and what ``work`` makes of it, in order; failures go to ``bad`` instead."""

    def attempt(name: str) -> T | Exception:
        try:
            return work(name)
        except Exception as error:  # noqa: BLE001 - damaged files make decoders fail in many ways
            return error

    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        tqdm(total=len(names), desc=doing, disable=None if len(names) >= LONG else True) as bar,
    ):
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            for name, result in zip(batch, pool.map(attempt, batch), strict=True):
                if isinstance(result, Exception):
                    bad[name] = _reason(result)
                else:
                    yield name, result
            bar.update(len(batch))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]


def _reasons(bad: Mapping[str, str]) -> str:
    return listed([f"{name} ({bad[name]})" for name in sorted(bad)])


def _without(
    path: Path, parts: Mapping[str, list[str]], bad: Mapping[str, str], *, skip_bad: bool
) -> dict[str, list[str]]:
    """Return the names that are not bad, if there may be bad ones."""
    good = {part: [name for name in names if name not in bad] for part, names in parts.items()}
    for part, names in good.items():
        if not names:
            where = path if len(parts) == 1 else path / part
            raise InputError(f"{where} holds no readable images: {_reasons(bad)}")
    if bad and not skip_bad:
        raise InputError(
            f"{path} holds {len(bad)} of {sum(map(len, parts.values()))} files that are not "
            f"readable images: {_reasons(bad)}; remove them, or skip them with skip_bad"
        )
    return good


def _shape(path: Path, headers: Mapping[Header, int], sides: Sides) -> tuple[int, int, int]:
    """Return the one shape C x H x W that all images come out with."""
    crop = sides.crop or 0
    small = sum(n for header, n in headers.items() if min(header.height, header.width) < crop)
    if small:
        raise InputError(f"crop is {crop}, but {small} images of {path} have a smaller side")
    counts: Counter[tuple[int, int]] = Counter()
    for header, n in headers.items():
        counts[sides.after(header.height, header.width)] += n
    if len(counts) > 1:
        sizes = [f"{width}x{height} ({n})" for (height, width), n in counts.most_common()]
        raise InputError(
            f"{path} holds images of {len(sizes)} sizes, as width x height (how many): "
            f"{listed(sizes)}; give size to crop them square and resize them"
        )
    (height, width) = next(iter(counts))
    if min(height, width) < LEAST:
        raise InputError(
            f"{path} holds images of {width}x{height} pixels, but {LEAST}x{LEAST} is the least; "
            f"give size to resize them"
        )
    return 1 if all(header.gray for header in headers) else 3, height, width


def _header(files: Files, name: str) -> Header:
    with files.open(name) as file, Image.open(file, formats=FORMATS) as image:
        width, height = image.size
        if _is_turned(image):
            width, height = height, width
        return Header(height, width, _is_gray(image))


def _is_turned(image: Image.Image) -> bool:
    """Tell whether EXIF data turn an image by a quarter; a PNG's only where they come first.

    Looking for late ones would decode the PNG.
    """
    if image.format == "PNG" and "exif" not in image.info:
        return False
    orientation: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation in (5, 6, 7, 8)


def _is_gray(image: Image.Image) -> bool:
    if image.palette is not None:
        mode, palette = image.palette.mode, bytes(image.palette.palette)
        colours = np.frombuffer(palette, np.uint8).reshape(-1, len(mode))[:, :3]
        return bool((colours == colours[:, :1]).all())
    return image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")


def _pixels(files: Files, name: str) -> Image.Image:
    with files.open(name) as file, Image.open(file, formats=FORMATS) as image:
        image.load()
        return ImageOps.exif_transpose(image)


def _decode(files: Files, shape: tuple[int, int, int], sides: Sides, name: str) -> Array:
    image = _opaque(_eight_bit(_pixels(files, name)))
    plain = sides.apply(image.convert("L" if shape[0] == 1 else "RGB"))
    pixels = np.asarray(plain)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    if pixels.shape != shape:
        raise ValueError(f"decodes to {plain.width}x{plain.height}, unlike its header")
    return np.ascontiguousarray(pixels)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit and floating-point gray images to bytes; others are bytes."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.float64)
    top = 1.0 if image.mode == "F" else 65535.0
    if not (values.min() >= 0 and values.max() <= top):
        raise ValueError(f"values outside 0 to {top:g}")
    return Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    coloured = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, coloured)


def _centre(image: Image.Image, side: int) -> Image.Image:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
