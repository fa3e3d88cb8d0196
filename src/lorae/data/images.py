"""Folders and zips of images, decoded once into the cache and memory-mapped from there.

Every file in every subfolder is read, sorted by name, except hidden files and those that operating
systems create; links are followed. An image becomes C x H x W bytes, rotated according to its EXIF
data, transparency replaced by white, gray if all images are, else RGB. If any has 16 bits, all
become float32 with values from 0 to 65535; floating-point images keep their values. Frames of
animations and pages are images of their own.

Folders ``train`` and ``test`` (or ``val``), in capitals or not, are the split. If every image lies
in one of two or more subfolders of these, or of the top folder, the subfolders are the classes,
numbered by name.

Memory holds the names of the files and one batch of images, however many there are.
"""

import logging
import os
import posixpath
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from lorae.data.archives import Files, digest, open_files
from lorae.data.arrays import Array, write_npy
from lorae.data.cache import load_or_create, log
from lorae.data.deep_colour import DeepColour, is_deep_colour, select_lower_bits
from lorae.data.locations import cache_folder
from lorae.data.options import SIDE, ReadOptions
from lorae.data.splits import Split, split_at_random
from lorae.errors import InputError
from lorae.utils.progress import ProgressBar
from lorae.utils.text import shorten_list

Image.init()
FORMATS = tuple(
    name
    for name in ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF", "QOI")
    if name in Image.OPEN
)
ANIMATED = ("PNG", "WEBP", "TIFF", "GIF", "AVIF")  # not photographs with a preview
UNREAD = {".heic", ".heif", ".jxl", ".psd", ".svg", ".dcm", ".exr", ".eps", ".pdf", ".nef", ".cr2",
          ".dng", ".avif", ".jp2", ".tga", ".ico", ".mp4"}  # fmt: skip
TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation", "dev", "eval")
logging.getLogger("PIL").addHandler(logging.NullHandler())  # its remarks are not for users
BATCH = 256  # images decoded at a time
VERSION = 4  # of the decoding; increase it when results change, so that old ones are not used
T = TypeVar("T")


class CropResize(NamedTuple):
    """A centre crop to a square, then the largest square resized bilinearly, antialiased."""

    crop: int | None  # side of the first crop
    size: int | None  # side after resizing

    def apply(self, image: Image.Image) -> Image.Image:
        """Crop and resize an image."""
        if self.crop:
            image = _centre_crop(image, self.crop)
        if self.size:
            square = _centre_crop(image, min(image.size))
            image = square.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return image


class Header(NamedTuple):
    """What is known of the images of a file before they are decoded."""

    height: int
    width: int
    gray: bool
    kind: str  # bytes, 16 bits or floats
    frames: int


def load(path: Path, options: ReadOptions, test_fraction: float = 0.1, seed: int = 0) -> Split:
    """Read a folder or zip of images; see :func:`lorae.data.datasets.load` for the arguments."""
    with open_files(path) as files:
        parts = _split_names(files)
        transform = CropResize(options.crop, options.size)
        origin, arrays = decode(files, parts, transform, skip_bad=options.skip_bad, classes=True)
    value_range = (0.0, 65535.0) if arrays.pop("sixteen_bits", None) is not None else None
    count, n_files = sum(len(arrays[part]) for part in parts), sum(map(len, parts.values()))
    note = f"{count} images in {n_files} files: every frame or page is one"
    if len(parts) == 2:
        split = Split(**arrays)  # type: ignore[arg-type]
    else:
        labels = arrays.get("train_labels")
        split = split_at_random(arrays["train"], labels, test_fraction, seed, origin)
    return replace(split, value_range=value_range, notes=(note,) if count > n_files else ())


def decode(
    files: Files,
    parts: Mapping[str, list[str]],
    transform: CropResize,
    *,
    skip_bad: bool,
    classes: bool = False,
) -> tuple[str, dict[str, Array]]:
    """Decode the named images of each part into the cache, unless they are there already.

    Files that are not readable images are skipped with a warning if `skip_bad` says so. If the
    names lie in folders that are classes, `classes` adds PART_labels.

    Returns:
        The name of the entry in the cache, and N x C x H x W arrays, memory-mapped: bytes, or
        float32, beside ``sixteen_bits`` if those are the values of 16 bits.
    """
    named = {part: digest(names) for part, names in parts.items()}
    key = repr((VERSION, transform, skip_bad, classes, files.digest, named))
    entry = cache_folder() / "images" / f"{files.path.resolve().stem}-{digest([key])[:16]}"
    write = partial(_decode_all, files, parts, transform, skip_bad=skip_bad, classes=classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's about damaged files
        return entry.name, load_or_create(entry, write)


def _split_names(files: Files) -> dict[str, list[str]]:
    """Return the names in train/ and test/ or val/ below the common folders, or all as "train"."""
    if not files.names:
        raise InputError(f"{files.path} must hold images, got no files")
    depth = _common_depth(files.names)
    found: dict[str, list[str]] = {}
    for name in files.names:
        part, *below = name.split("/")[depth:]
        found.setdefault(part.lower() if below else "", []).append(name)
    parts = {
        part: next((found.pop(name) for name in names if name in found), [])
        for part, names in (("train", TRAIN), ("test", TEST))
    }
    if not (parts["train"] and parts["test"]):
        return {"train": list(files.names)}
    if others := [name for names in found.values() for name in names]:
        log.warning(
            "ignored %d files of %s outside the training and test folders: %s",
            len(others), files.path, shorten_list(others),
        )  # fmt: skip
    return parts


def _common_depth(names: Sequence[str]) -> int:
    """Return the number of leading folders that all names share."""
    folders = [posixpath.dirname(name) for name in (min(names), max(names))]
    return len(PurePosixPath(posixpath.commonpath(folders)).parts)


def _class_labels(parts: Mapping[str, Sequence[str]]) -> dict[str, Array]:
    """Return the class numbers of the names of each part, empty if there are no classes."""
    names = [name for part in parts.values() for name in part]
    level = _common_depth(names) + len(parts) - 1  # below the folders train and test
    if any(name.count("/") <= level for name in names):
        return {}
    number = {one: k for k, one in enumerate(sorted({name.split("/")[level] for name in names}))}
    if len(number) < 2:
        return {}
    return {
        part: np.fromiter((number[name.split("/")[level]] for name in some), "<i8", len(some))
        for part, some in parts.items()
    }


def _decode_all(
    files: Files,
    parts: Mapping[str, list[str]],
    transform: CropResize,
    folder: Path,
    *,
    skip_bad: bool,
    classes: bool,
) -> None:
    """Write the images of each part to an .npy file, and their labels if there are classes."""
    bad: dict[str, str] = {}
    names = [name for part in parts.values() for name in part]
    known: dict[Header, Header] = {}  # most headers are equal, and only one copy is kept
    pairs = _apply(partial(read_header, files), names, bad, "reading headers")
    headers = {name: known.setdefault(header, header) for name, header in pairs}
    while True:  # once, or again without the images that turned out to be damaged
        good = {part: [name for name in some if name not in bad] for part, some in parts.items()}
        for part, selected in good.items():
            if not selected:
                where = files.path if len(parts) == 1 else files.path / part
                raise InputError(f"{where} must hold readable images, got none: {_reasons(bad)}")
        counts = Counter(headers[name] for part in good.values() for name in part)
        shape, kind = _common_format(files.path, counts, transform)
        known_bad = len(bad)
        for part, selected in good.items():
            decode_one = partial(_decode, files, shape, kind, transform)
            images = _apply(decode_one, selected, bad, f"decoding {part}")
            total = sum(headers[name].frames for name in selected)
            dtype, frames = "|u1" if kind == "bytes" else "<f4", (image for _, image in images)
            write_npy(folder / f"{part}.npy", (total, *shape), dtype, frames)
        if bad and not skip_bad:
            raise InputError(
                f"{files.path} must hold readable images, got {len(bad)} of {len(names)} files "
                f"that are not: {_reasons(bad)}; remove them, or skip them with skip_bad"
            )
        if len(bad) == known_bad:
            break
    for part, labels in _class_labels(good).items() if classes else ():
        frames_of = [headers[name].frames for name in good[part]]
        np.save(folder / f"{part}_labels.npy", np.repeat(labels, frames_of))
    if kind == "16 bits":
        np.save(folder / "sixteen_bits.npy", np.ones(1))
    if bad:
        log.warning("skipped %d files of %s: %s", len(bad), files.path, _reasons(bad))


def _apply(
    function: Callable[[str], T], names: Sequence[str], bad: dict[str, str], title: str
) -> Iterator[tuple[str, T]]:
    """Yield each name with the function's result, in order; the reasons of failures go to `bad`."""

    def attempt(name: str) -> T | Exception:
        try:
            return function(name)
        except Exception as error:  # noqa: BLE001 - decoders fail in many ways on damaged files
            return error

    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        ProgressBar(total=len(names), desc=title, unit="files", leave=False) as bar,
    ):
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            for name, result in zip(batch, pool.map(attempt, batch), strict=True):
                bar.update()
                if isinstance(result, Exception):
                    bad[name] = _reason(name, result)
                else:
                    yield name, result


def _reason(name: str, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        suffix = PurePosixPath(name).suffix.lower()
        return f"{suffix} is not supported" if suffix in UNREAD else "not an image"
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, Image.DecompressionBombError):
        return "too large"
    return getattr(error, "strerror", None) or "damaged"


def _reasons(bad: Mapping[str, str]) -> str:
    return shorten_list([f"{name} ({bad[name]})" for name in sorted(bad)])


def _common_format(
    path: Path, headers: Mapping[Header, int], transform: CropResize
) -> tuple[tuple[int, int, int], str]:
    """Return the shape C x H x W of all transformed images, and the kind that loses nothing."""
    crop = transform.crop or 0
    small = sum(n for header, n in headers.items() if min(header.height, header.width) < crop)
    if small:
        raise InputError(
            f"crop must be at most the smallest side of an image, got {crop}; {small} images of "
            f"{path} are smaller"
        )
    side = transform.size or transform.crop
    counts: Counter[tuple[int, int]] = Counter()
    for header, n in headers.items():
        counts[(side, side) if side else (header.height, header.width)] += n
    if len(counts) > 1:
        sizes = [f"{width}x{height} ({n})" for (height, width), n in counts.most_common()]
        raise InputError(
            f"images of {path} must have one size, got {len(sizes)} as width x height (how many): "
            f"{shorten_list(sizes)}; set size to crop and resize them to squares"
        )
    ((height, width),) = counts
    if min(height, width) < SIDE:
        raise InputError(
            f"images of {path} must be at least {SIDE}x{SIDE} pixels, got "
            f"{width}x{height}; set size to resize them"
        )
    kinds = {header.kind for header in headers}
    if len(kinds) > 1 and "floats" in kinds:
        raise InputError(
            f"images of {path} must all be floating-point numbers or none, got both kinds"
        )
    channels = 1 if all(header.gray for header in headers) else 3
    return (channels, height, width), "16 bits" if "16 bits" in kinds else kinds.pop()


def read_header(files: Files, name: str) -> Header:
    """Return what is known of the images of a file without decoding them."""
    headers = set()
    with files.open(name) as file, Image.open(file, formats=FORMATS) as image:
        for page in (pages := _pages(image)):
            if len(pages) > 1:
                image.seek(page)
            width, height = reversed(image.size) if _is_rotated(image) else image.size
            deep = image.mode.startswith("I") or is_deep_colour(image)
            kind = "floats" if image.mode == "F" else "16 bits" if deep else "bytes"
            headers.add(Header(height, width, _is_gray(image), kind, len(pages)))
    if len({header._replace(gray=False) for header in headers}) > 1:
        raise InputError("its pages differ in size or type")
    return min(headers)  # a page in colour counts for all


def _pages(image: Image.Image) -> list[int]:
    """Return the numbers of the frames or pages of a file, without reduced versions of others."""
    count = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
    if image.format != "TIFF" or count == 1:
        return list(range(count))
    pages = []
    for page in range(count):
        image.seek(page)
        if not image.tag_v2.get(254, 0) & 1:  # type: ignore[attr-defined]
            pages.append(page)
    return pages or [0]


def _is_rotated(image: Image.Image) -> bool:
    """Return whether EXIF data rotate an image by a quarter turn that is still to be made.

    Those of a PNG count only if they precede the pixels: looking further would decode it. Pillow
    turns TIFF files itself.
    """
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return False
    orientation: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation in (5, 6, 7, 8)


def _is_gray(image: Image.Image) -> bool:
    if image.palette is not None:
        mode, palette = image.palette.mode, bytes(image.palette.palette)
        colours = np.frombuffer(palette, np.uint8).reshape(-1, len(mode))
    elif image.format == "GIF" and image.mode in ("RGB", "RGBA"):  # a frame after the first
        colours = np.asarray(image)
    else:
        return image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")
    return bool((colours[..., :3] == colours[..., :1]).all())


def _read_frames(files: Files, name: str) -> Iterator[Image.Image | DeepColour]:
    with files.open(name) as file, Image.open(file, formats=FORMATS) as image:
        for page in _pages(image):
            image.seek(page)
            deep = is_deep_colour(image)  # unknown once the pixels are loaded
            whole = ImageOps.exif_transpose(image)
            yield DeepColour(whole, _lower_bits(files, name, page)) if deep else whole


def _lower_bits(files: Files, name: str, page: int) -> Image.Image:
    with files.open(name) as file, Image.open(file, formats=FORMATS) as image:
        image.seek(page)
        select_lower_bits(image)
        return ImageOps.exif_transpose(image)


def _decode(
    files: Files, shape: tuple[int, int, int], kind: str, transform: CropResize, name: str
) -> Array:
    """Return the frames of a file, F x C x H x W."""
    frames = [_pixels(image, shape[0], kind, transform) for image in _read_frames(files, name)]
    if different := next((f.shape for f in frames if f.shape != shape), None):
        raise InputError(f"decodes to {different[2]}x{different[1]}, unlike its header")
    return np.stack(frames)


def _pixels(
    image: Image.Image | DeepColour, channels: int, kind: str, transform: CropResize
) -> Array:
    """Return an image as C x H x W bytes, values of 16 bits, or its own values."""
    if isinstance(image, DeepColour):
        bands = np.moveaxis(image.values(), -1, 0)
        return np.stack([np.asarray(transform.apply(Image.fromarray(band))) for band in bands])
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float32)
        if not np.isfinite(values).all():
            raise InputError("values that are not finite")
        if kind == "16 bits" and not (values.min() >= 0 and values.max() <= 65535):
            raise InputError("values outside 0 to 65535")
        one = np.asarray(transform.apply(Image.fromarray(values)))
        return np.repeat(one[None], channels, axis=0)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    pixels = np.asarray(transform.apply(image.convert("L" if channels == 1 else "RGB")))
    pixels = np.moveaxis(np.atleast_3d(pixels), 2, 0)
    return np.ascontiguousarray(pixels if kind == "bytes" else pixels * np.float32(257))


def _centre_crop(image: Image.Image, side: int) -> Image.Image:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
