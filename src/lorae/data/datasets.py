"""The data set object, and `load`, which reads a named set or a path.

Samples stay as they were stored, uint8 images or float32; a model sees them scaled::

    scaled = (as_float(x) - shift) / scale,    as_float(x) = x / 255 if uint8 else x

Images are scaled to [0, 1], or left in [-1, 1] if they lie in it; columns of vectors to mean 0 and
standard deviation 1. Shift and scale come from the training samples alone, as sums in float64.
"""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lorae.data import celeba, images, mnist
from lorae.data.array_files import load_npy, load_npz
from lorae.data.arrays import Array, checksum
from lorae.data.locations import holds_celeba, holds_mnist
from lorae.data.registry import DATASETS, check_source
from lorae.data.splits import Split
from lorae.data.tables import load_table, number_columns
from lorae.errors import InputError
from lorae.utils.samples import as_float
from lorae.utils.text import shorten_list
from lorae.utils.validation import check_range

READERS = {
    ".npy": load_npy,
    ".npz": load_npz,
    ".csv": load_table,
    ".tsv": load_table,
    ".parquet": load_table,
}


@dataclass(frozen=True, eq=False)
class Data:
    """Training and held-out samples, and how a model sees them."""

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
        """Return images, given in their own units, scaled from the value range to [0, 1].

        Values that a model outputs may lie outside.
        """
        assert self.value_range is not None
        low, high = self.value_range
        scaled = (as_float(samples) - self.shift) / self.scale
        return (scaled - low) / (high - low)


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
    """Load a named set or a path; a name comes first, so write ``./mnist`` for a folder.

    Args:
        source: A name in `DATASETS`; a folder or .zip of images; a folder of MNIST's IDX files;
            a folder with CelebA's official layout; an .npy, .npz, .csv, .tsv or .parquet file.
        size: Side in pixels, 8 or more, to which the images of a folder or zip are resized, after
            a centre crop to a square.
        crop: Side in pixels, 8 or more, of a centre crop before that.
        skip_bad: Skip files of a folder or zip that are not readable images, with a warning.
        drop_constant: Drop columns of a table or of vectors that are constant in training.
        count: Keep at most this many training samples, 2 or more, drawn with ``seed``, and at
            most a fifth as many held-out ones.
        test_fraction: Fraction held out, in (0, 1), if the source has no test set.
        seed: Seed of all random choices: the held-out samples, ``count``, the shapes.

    Raises:
        InputError: The input is unknown, missing, damaged, or unfit to train on.
        Unreachable: A download is needed, and none of its sources answered.

    Example:
        >>> load("digits").shape
        (1, 8, 8)
    """
    check_range("test_fraction", test_fraction, 0, 1, open_low=True, open_high=True)
    check_range("count", count, 2)
    check_range("seed", seed, 0)
    check_source(source)
    name, path = str(source), Path(source).expanduser()
    network, of_images = "conv", name not in DATASETS and _holds_images(path)
    if not of_images and (size is not None or crop is not None):
        raise InputError(f"size and crop need a folder or zip of images, got {name}")
    if name in DATASETS:
        split, network = DATASETS[name].load(count, test_fraction, seed), DATASETS[name].network
    elif of_images:
        split = images.load(
            path, size=size, crop=crop, skip_bad=skip_bad, test_fraction=test_fraction, seed=seed
        )
        name = path.resolve().stem
    elif path.is_dir():
        name = network = "celeba" if holds_celeba(path) else "mnist"
        split = celeba.load(path, skip_bad=skip_bad) if name == "celeba" else mnist.load(path)
    else:
        split, name = _load_file(path, test_fraction, seed), path.stem
    if count is not None:
        split = split.subsample(count, seed)
    return _as_data(name, split, network, drop_constant=drop_constant)


def _holds_images(path: Path) -> bool:
    if path.is_dir():
        return not (holds_mnist(path) or holds_celeba(path))
    return path.is_file() and path.suffix.lower() == ".zip"


def _load_file(path: Path, test_fraction: float, seed: int) -> Split:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        *suffixes, last = READERS
        raise InputError(
            f"data must be a folder or .zip of images, or a {', '.join(suffixes)} or {last} file, "
            f"got {path}"
        )
    return reader(path, test_fraction, seed)


def _as_data(name: str, split: Split, network: str, *, drop_constant: bool) -> Data:
    """Check the samples, scale them, and convert them to tensors."""
    for part, samples in (("training", split.train), ("test", split.test)):
        if not len(samples):
            raise InputError(f"{name} must have at least one {part} sample, got none")
    if split.train.ndim == 2 and split.columns is None:
        split = replace(split, columns=number_columns(split.train.shape[1]))
    _check_finite(name, split)
    value_range = None
    if split.train.ndim == 2:
        split, network = _check_variation(name, split, drop_constant=drop_constant), "mlp"
        shift, scale = standardisation(split.train)
    else:
        shift, scale, value_range = image_range(name, split.train)
    return Data(
        name=name,
        train=as_tensor(split.train),
        test=as_tensor(split.test),
        train_labels=None if split.train_labels is None else as_tensor(split.train_labels),
        test_labels=None if split.test_labels is None else as_tensor(split.test_labels),
        value_range=value_range,
        shift=torch.from_numpy(shift),
        scale=torch.from_numpy(scale),
        network=network,
        checksum=checksum(split.arrays()),
        columns=split.columns,
    )


def as_tensor(array: Array) -> Tensor:
    """Return an array as a tensor that shares its memory, even if it is mapped read-only."""
    with warnings.catch_warnings():  # samples are never written to
        warnings.simplefilter("ignore")
        return torch.from_numpy(array)


def _check_finite(name: str, split: Split) -> None:
    parts = [part for part in (split.train, split.test) if part.dtype != np.uint8]
    if all(np.isfinite(part.min()) and np.isfinite(part.max()) for part in parts):
        return
    counts = sum((~np.isfinite(part)).sum(axis=0) for part in parts)
    if split.columns is None:
        raise InputError(f"{name} must hold finite numbers, got {np.sum(counts)} NaN or infinite")
    columns = [f"{c} ({k})" for c, k in zip(split.columns, counts, strict=True) if k]
    raise InputError(
        f"{name} must hold finite numbers, got missing, NaN or infinite values (how many) in the "
        f"columns {shorten_list(columns)}; fill them, or drop the columns or rows"
    )


def _check_variation(name: str, split: Split, *, drop_constant: bool) -> Split:
    """Check that each column varies in training, or drop those that do not."""
    varies = standardisation(split.train)[1] > 0
    if varies.all():
        return split
    columns = list(zip(split.columns or (), varies, strict=True))
    if not drop_constant or not varies.any():
        constant = shorten_list([column for column, v in columns if not v])
        raise InputError(
            f"columns of {name} must vary in the training samples, got constant {constant}"
            + ("; drop them with drop_constant" if varies.any() else ", and no others")
        )
    return replace(
        split,
        train=np.ascontiguousarray(split.train[:, varies]),
        test=np.ascontiguousarray(split.test[:, varies]),
        columns=tuple(column for column, v in columns if v),
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
        raise InputError(f"images of {name} must vary, got {low:g} at every pixel")
    if train.dtype == np.uint8 or (low >= -1 and high <= 1):
        bottom = 0.0 if train.dtype == np.uint8 or low >= 0 else -1.0
        return np.zeros((), np.float32), np.ones((), np.float32), (bottom, 1.0)
    return np.array(low, np.float32), np.array(high - low, np.float32), (0.0, 1.0)
