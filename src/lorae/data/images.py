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
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from lorae.data.archives import Files, digest, open_files
from lorae.data.arrays import Array, write_npy
from lorae.data.cache import load_or_create, log
from lorae.data.deep_colour import DeepColour, is_deep_colour, select_lower_bits
from lorae.data.locations import cache_folder
from lorae.data.options import SIDE, ReadOptions
from lorae.data.splits import Split, split_at_random
from lorae.errors import InputError
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
TRAIN, TEST = ("train", "training"), ("test", "testing")
VALIDATION = ("val", "valid", "validation", "dev", "eval")
logging.getLogger("PIL").addHandler(logging.NullHandler())  # its remarks are not for users
LONG = 2000  # images; decoding this many or more shows a progress bar
BATCH = 256  # images decoded at a time
VERSION = 3  # of the decoding; increase it when results change, so that old ones are not used
T = TypeVar("T")


class CropResize(NamedTuple):
    """A centre crop to a square, then a centre crop to the largest square and its resizing."""

    crop: int | None  # side of the first crop
    size: int | None  # side after resizing

    def output_shape(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the result."""
        side = self.size or self.crop
        return (side, side) if side else (height, width)

    def apply(self, image: Image.Image) -> Image.Image:
        """Crop and resize, bilinearly with antialiasing."""
        if self.crop:
            image = _centre_crop(image, self.crop)
        if self.size:
            square = _centre_crop(image, min(image.size))
            image = square.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return image


class Header(NamedTuple):
    """Properties of the images of a file that are known before they are decoded."""

    height: int
    width: int
    gray: bool
    kind: str  # bytes, 16 bits or floats
    frames: int


def load(
    path: Path, options: ReadOptions | None = None, *, test_fraction: float = 0.1, seed: int = 0
) -> Split:
    """Read a folder or zip of images; see :func:`lorae.data.datasets.load` for the arguments.

    Raises:
        InputError: There are no images, files that are not images (unless ``skip_bad``), images
            of different sizes (unless ``size``), or images that are too small.
    """
    options = options or ReadOptions()
    with open_files(path) as files:
        parts = _split_names(files)
        transform = CropResize(options.crop, options.size)
        origin, arrays = decode(
            files, parts, transform, skip_bad=options.skip_bad, with_classes=True
        )
    limits = arrays.pop("value_range", None)
    value_range = None if limits is None else (float(limits[0]), float(limits[1]))
    count, n_files = sum(len(arrays[part]) for part in parts), sum(map(len, parts.values()))
    notes = [f"{count} images in {n_files} files: every frame or page is one"]
    if len(parts) == 2:
        split = Split(**arrays)  # type: ignore[arg-type]
    else:
        labels = arrays.get("train_labels")
        split = split_at_random(arrays["train"], labels, test_fraction, seed, origin)
    return replace(split, value_range=value_range, notes=tuple(notes[: count > n_files]))


def decode(
    files: Files,
    parts: Mapping[str, list[str]],
    transform: CropResize,
    *,
    skip_bad: bool,
    with_classes: bool = False,
) -> tuple[str, dict[str, Array]]:
    """Decode images into the cache, unless they are there already.

    Args:
        files: The files of a folder or zip.
        parts: The names in each part, in order.
        transform: Crop and size of the images.
        skip_bad: Skip files that are not readable images, with a warning.
        with_classes: Add ``PART_labels`` if the names lie in folders that are classes.

    Returns:
        The name of the entry in the cache, and the images of each part, N x C x H x W uint8 or
        float32, memory-mapped, with their ``value_range`` if they have 16 bits.
    """
    named = {part: digest(names) for part, names in parts.items()}
    key = repr((VERSION, transform, skip_bad, with_classes, files.digest, named))
    entry = cache_folder() / "images" / f"{files.path.resolve().stem}-{digest([key])[:16]}"
    write = partial(
        _decode_all, files, parts, transform, skip_bad=skip_bad, with_classes=with_classes
    )
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
        for part, names in (("train", TRAIN), ("test", TEST + VALIDATION))
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
    transform: CropResize,
    folder: Path,
    *,
    skip_bad: bool,
    with_classes: bool,
) -> None:
    """Write the images of each part to an .npy file, and their labels if there are classes."""
    bad: dict[str, str] = {}
    names = [name for part in parts.values() for name in part]
    known: dict[Header, Header] = {}  # most headers are equal, and only one copy is kept
    pairs = _apply(partial(_read_header, files), names, bad, "reading headers")
    headers = {name: known.setdefault(header, header) for name, header in pairs}
    if bad and not skip_bad:  # the error also counts files that are damaged after the header
        whole = [name for name in names if name not in bad]
        deque(_apply(partial(_check_pixels, files), whole, bad, "checking"), maxlen=0)
    while True:  # once, or again without the images that turned out to be damaged
        good = _exclude(files.path, parts, bad, skip_bad=skip_bad)
        counts = Counter(headers[name] for part in good.values() for name in part)
        shape, kind = _common_shape(files.path, counts, transform), _common_kind(files.path, counts)
        known_bad = len(bad)
        for part, selected in good.items():
            decode_one = partial(_decode, files, shape, kind, transform)
            images = _apply(decode_one, selected, bad, f"decoding {part}")
            total = sum(headers[name].frames for name in selected)
            dtype, frames = "|u1" if kind == "bytes" else "<f4", (image for _, image in images)
            write_npy(folder / f"{part}.npy", (total, *shape), dtype, frames)
        if len(bad) == known_bad:
            break
    for part, labels in _class_labels(good).items() if with_classes else ():
        frames_of = [headers[name].frames for name in good[part]]
        np.save(folder / f"{part}_labels.npy", np.repeat(labels, frames_of))
    if kind == "16 bits":
        np.save(folder / "value_range.npy", np.array([0.0, 65535.0]))
    if bad:
        log.warning("skipped %d files of %s: %s", len(bad), files.path, _reasons(bad))


def count_frames(files: Files, names: Sequence[str]) -> list[int]:
    """Return how many images each of some files holds."""
    return [_read_header(files, name).frames for name in names]


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
        tqdm(total=len(names), desc=title, disable=None if len(names) >= LONG else True) as bar,
    ):
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            for name, result in zip(batch, pool.map(attempt, batch), strict=True):
                if isinstance(result, Exception):
                    bad[name] = _reason(name, result)
                else:
                    yield name, result
            bar.update(len(batch))


def _reason(name: str, error: Exception) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    if isinstance(error, UnidentifiedImageError):
        return f"{suffix} is not supported" if suffix in UNREAD else "not an image"
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "too large" if isinstance(error, Image.DecompressionBombError) else "damaged"


def _reasons(bad: Mapping[str, str]) -> str:
    return shorten_list([f"{name} ({bad[name]})" for name in sorted(bad)])


def _exclude(
    path: Path, parts: Mapping[str, list[str]], bad: Mapping[str, str], *, skip_bad: bool
) -> dict[str, list[str]]:
    """Return the names that are not bad, or raise an InputError if bad files are not skipped."""
    good = {part: [name for name in names if name not in bad] for part, names in parts.items()}
    for part, names in good.items():
        if not names:
            where = path if len(parts) == 1 else path / part
            raise InputError(f"{where} must hold readable images, got none: {_reasons(bad)}")
    if bad and not skip_bad:
        raise InputError(
            f"{path} must hold readable images, got {len(bad)} of "
            f"{sum(map(len, parts.values()))} files that are not: {_reasons(bad)}; remove them, or "
            f"skip them with skip_bad"
        )
    return good


def _common_shape(
    path: Path, headers: Mapping[Header, int], transform: CropResize
) -> tuple[int, int, int]:
    """Return the shape C x H x W that all transformed images share."""
    crop = transform.crop or 0
    small = sum(n for header, n in headers.items() if min(header.height, header.width) < crop)
    if small:
        raise InputError(
            f"crop must be at most the smallest side of an image, got {crop}; {small} images of "
            f"{path} are smaller"
        )
    counts: Counter[tuple[int, int]] = Counter()
    for header, n in headers.items():
        counts[transform.output_shape(header.height, header.width)] += n
    if len(counts) > 1:
        sizes = [f"{width}x{height} ({n})" for (height, width), n in counts.most_common()]
        raise InputError(
            f"images of {path} must have one size, got {len(sizes)} as width x height (how many): "
            f"{shorten_list(sizes)}; set size to crop and resize them to squares"
        )
    (height, width) = next(iter(counts))
    if min(height, width) < SIDE:
        raise InputError(
            f"images of {path} must be at least {SIDE}x{SIDE} pixels, got "
            f"{width}x{height}; set size to resize them"
        )
    return 1 if all(header.gray for header in headers) else 3, height, width


def _common_kind(path: Path, headers: Iterable[Header]) -> str:
    """Return the kind that holds all images without loss."""
    kinds = {header.kind for header in headers}
    if len(kinds) > 1 and "floats" in kinds:
        raise InputError(
            f"images of {path} must all be floating-point numbers or none, got both kinds"
        )
    return "16 bits" if "16 bits" in kinds else kinds.pop()


def _read_header(files: Files, name: str) -> Header:
    with files.open(name) as file, Image.open(file, formats=FORMATS) as image:
        pages = _pages(image)
        headers = {_page_header(image, page, len(pages)) for page in pages}
    if len({header._replace(gray=False) for header in headers}) > 1:
        raise InputError("its pages differ in size or type")
    return min(headers)  # a page in colour counts for all


def _pages(image: Image.Image) -> list[int]:
    """Return the numbers of the frames or pages of a file, without reduced versions of others."""
    count = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
    if image.format != "TIFF" or count == 1:
        return list(range(count))
    reduced = []
    for page in range(count):
        image.seek(page)
        reduced.append(image.tag_v2.get(254, 0) & 1)  # type: ignore[attr-defined]
    return [page for page in range(count) if not reduced[page]] or [0]


def _page_header(image: Image.Image, page: int, frames: int) -> Header:
    if frames > 1:
        image.seek(page)
    width, height = image.size
    if _is_rotated(image):
        width, height = height, width
    deep = image.mode.startswith("I") or is_deep_colour(image)
    kind = "floats" if image.mode == "F" else "16 bits" if deep else "bytes"
    return Header(height, width, _is_gray(image), kind, frames)


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
        colours = np.frombuffer(palette, np.uint8).reshape(-1, len(mode))[:, :3]
        return bool((colours == colours[:, :1]).all())
    if image.format == "GIF" and image.mode in ("RGB", "RGBA"):  # a frame after the first
        pixels = np.asarray(image)[..., :3]
        return bool((pixels == pixels[..., :1]).all())
    return image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")


def _read_frames(files: Files, name: str) -> Iterator[Image.Image | DeepColour]:
    with files.open(name) as file, Image.open(file, formats=FORMATS) as image:
        for page in _pages(image):
            image.seek(page)
            deep = is_deep_colour(image)
            image.load()
            whole = ImageOps.exif_transpose(image)
            yield DeepColour(whole, _lower_bits(files, name, page)) if deep else whole


def _lower_bits(files: Files, name: str, page: int) -> Image.Image:
    with files.open(name) as file, Image.open(file, formats=FORMATS) as image:
        image.seek(page)
        select_lower_bits(image)
        image.load()
        return ImageOps.exif_transpose(image)


def _check_pixels(files: Files, name: str) -> None:
    deque(_read_frames(files, name), maxlen=0)


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
    image = transform.apply(_on_white(image).convert("L" if channels == 1 else "RGB"))
    pixels = np.asarray(image)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    scaled = pixels if kind == "bytes" else pixels * np.float32(257)
    return np.ascontiguousarray(scaled)


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA"))


def _centre_crop(image: Image.Image, side: int) -> Image.Image:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
