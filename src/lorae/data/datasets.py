"""The data set object, and `load`, which reads a named set or a path.

Samples stay as they were stored, uint8 images or float32; a model sees them scaled::

    scaled = (as_float(x) - shift) / scale,    as_float(x) = x / 255 if uint8 else x

Images are scaled to [0, 1], or left in [-1, 1]: their range is a property of their type, a
convention that they follow, or an option, and never the largest value that happens to be there.
Columns of vectors, and channels of signals, of volumes and of fields, which are images without such
a range, are scaled to mean 0 and standard deviation 1. Their shift and scale come from the training
samples alone, as sums in float64.
"""

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorae.data import celeba, images, mnist
from lorae.data.array_files import load_npy, load_npz
from lorae.data.arrays import Array, checksum
from lorae.data.columns import Schema
from lorae.data.labelled import load_labelled
from lorae.data.locations import holds_celeba, holds_mnist
from lorae.data.options import TEXT_OPTIONS, ReadOptions
from lorae.data.registry import DATASETS, check_source, load_named
from lorae.data.splits import Split
from lorae.data.tables import COLUMNAR, load_table, number_columns
from lorae.errors import InputError
from lorae.linalg.incomplete import Factors, choose_factors
from lorae.utils.samples import as_float, has_gaps, subsample
from lorae.utils.text import shorten_list
from lorae.utils.validation import check_range

PICTURES = (1, 3, 4)  # channels of the images of a picture file
_FILLED = 5000  # samples that the model of gaps is fitted to, at most
READERS = {
    ".npy": load_npy,
    ".npz": load_npz,
    **dict.fromkeys((".csv", ".tsv", *COLUMNAR), load_table),
    **dict.fromkeys((".nc", ".nc4", ".h5", ".hdf5"), load_labelled),
}
CONVERTERS = {
    ".dta": "export delimited using data.csv (in Stata)",
    ".xlsx": "Save as CSV",
    ".xls": "Save as CSV",
    ".ods": "Save as CSV",
    ".sav": "SAVE TRANSLATE /TYPE=CSV (in SPSS)",
    ".sas7bdat": "PROC EXPORT DBMS=CSV (in SAS)",
    ".rds": 'write.csv(data, "data.csv") (in R)',
    ".rdata": 'write.csv(data, "data.csv") (in R)',
    ".txt": "its new name, data.csv",
    ".dat": "its new name, data.csv",
}


@dataclass(frozen=True, eq=False)
class Data:
    """Training and held-out samples, and how a model sees them."""

    name: str  # of the set, or the stem of its path
    train: Tensor  # N x C x grid, bytes or floats, or N x D, float32 (float64 where it must be)
    test: Tensor  # held out; the same dtype
    train_labels: Tensor | None  # int64
    test_labels: Tensor | None
    value_range: tuple[float, float] | None  # of scaled values: (0, 1), (-1, 1), None: unbounded
    shift: Tensor  # of the type of train; with scale broadcasts over a sample
    scale: Tensor  # float32
    network: str  # the network that fits: mnist, celeba, shapes, conv or mlp
    checksum: str  # SHA-256 over dtypes, shapes and bytes of the samples and labels
    columns: tuple[str, ...] | None  # the names of a vector's entries
    schema: Schema | None = None  # the columns of a table with categories
    notes: tuple[str, ...] = ()  # what was guessed when they were read, one sentence each

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.train.shape[1:])

    @cached_property
    def factors(self) -> Factors | None:
        """The Gaussian model that fills gaps in scaled samples; None if training has none."""
        if not has_gaps(self.train):
            return None
        samples = as_float(subsample(self.train, _FILLED))
        scaled = (samples.double() - self.shift) / self.scale
        return choose_factors(scaled.flatten(1))

    @property
    def categories(self) -> tuple[int, ...]:
        """The number of categories of each column of a table that has any."""
        return () if self.schema is None else self.schema.sizes

    @property
    def is_image(self) -> bool:
        """Whether samples are pictures: C x H x W, with values for black and white."""
        return len(self.shape) == 3 and self.value_range is not None

    @property
    def is_table(self) -> bool:
        """Whether samples are vectors."""
        return len(self.shape) == 1

    @cached_property
    def channel_ranges(self) -> list[tuple[float, float]]:
        """The least and the largest value of each channel in training samples, never equal."""
        some = as_float(subsample(self.train, 1000))
        axes = (0, *range(2, some.ndim))
        ends = zip(some.amin(axes).tolist(), some.amax(axes).tolist(), strict=True)
        return [(low, high if high > low else low + 1) for low, high in ends]

    def round_categories(self, samples: Tensor) -> Tensor:
        """Return rows of a table whose categories are certain: 1 for one, and 0 for the others."""
        if self.schema is None:
            return samples
        rows = self.schema.encode(self.schema.decode(samples.numpy()))
        return torch.from_numpy(rows).to(samples)

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
    count: int | None = None,
    test_fraction: float = 0.1,
    seed: int = 0,
    **reading: Any,
) -> Data:
    """Load a named set or a path; a name comes first, so write ``./mnist`` for a folder.

    Args:
        source: A name in `DATASETS`; a folder or .zip of images; a folder of MNIST's IDX files;
            a folder with CelebA's official layout; an .npy, .npz, .csv, .tsv, .parquet,
            NetCDF or HDF5 file.
        count: Keep at most this many training samples, 2 or more, drawn with ``seed``, and at
            most a fifth as many held-out ones.
        test_fraction: Fraction held out, in (0, 1), if the source has no test set.
        seed: Seed of all random choices: the held-out samples, ``count``, the shapes.
        reading: How the source is read, as in :class:`lorae.data.options.ReadOptions`: ``size``,
            ``crop``, ``value_range`` and ``skip_bad`` of images; ``layout`` of arrays; ``header``,
            ``separator``, ``decimal``, ``encoding``, ``columns``, ``drop``, ``index`` and
            ``drop_constant`` of tables. What was guessed stands in ``notes`` of the result.

    Raises:
        InputError: The input is unknown, missing, damaged, or unfit to train on.
        Unreachable: A download is needed, and none of its sources answered.

    Example:
        >>> load("digits").shape
        (1, 8, 8)
    """
    data = read(source, count=count, test_fraction=test_fraction, seed=seed, **reading)
    if not data.is_table and (low := float(data.train.min())) == float(data.train.max()):
        raise InputError(f"samples of {data.name} must vary, got {low:g} at every place")
    return data


def read(
    source: str | Path,
    *,
    count: int | None = None,
    test_fraction: float = 0.1,
    seed: int = 0,
    **reading: Any,
) -> Data:
    """Return the same as :func:`load`, but also images that are all alike, to compare with."""
    options = ReadOptions.from_keywords(reading)
    check_range("test_fraction", test_fraction, 0, 1, open_low=True, open_high=True)
    check_range("count", count, 2)
    check_range("seed", seed, 0)
    check_source(source)
    name, path = str(source), Path(source).expanduser()
    named, network = name in DATASETS, "conv"
    _check_kind(name, path, options, named=named)
    if named:
        split, network = load_named(name, count, test_fraction, seed), DATASETS[name].network
    elif is_image_source(path):
        split = images.load(path, options, test_fraction, seed)
        name = path.resolve().stem
    elif path.is_dir():
        is_celeba = holds_celeba(path)
        name = network = "celeba" if is_celeba else "mnist"
        split = celeba.load(path, skip_bad=options.skip_bad) if is_celeba else mnist.load(path)
    else:
        reader = READERS[source_suffix(path)]
        split, name = reader(path, options, test_fraction, seed), path.name.partition(".")[0]
    if count is not None:
        split = split.subsample(count, seed)
    return _as_data(name, split, network, options, named=named)


def _check_kind(name: str, path: Path, options: ReadOptions, *, named: bool) -> None:
    """Check that the source is of a kind that can be read, and that the options suit it."""
    of_images = not named and is_image_source(path)
    is_file = not (named or path.is_dir() or of_images)
    suffix = source_suffix(path) if is_file else ""
    if is_file and suffix not in READERS:
        *suffixes, last = READERS
        how = CONVERTERS.get(path.suffix.lower())
        raise InputError(
            f"data must be a folder or .zip of images, or a {', '.join(suffixes)} or {last} file, "
            f"got {path}" + (f"; make it a .csv file: {how}" if how else "")
        )
    if is_file and not path.is_file():
        raise InputError(f"data must be a file or a folder, got {path}, which is neither")
    is_table = READERS.get(suffix) is load_table
    is_array = suffix in READERS and not is_table
    for names, suits, what in (
        (("size", "crop"), of_images, "a folder or zip of images"),
        (("value_range",), of_images or is_array, "a folder, zip or array of images"),
        (("layout",), is_array, "an array"),
        (("columns", "drop"), is_table or READERS.get(suffix) is load_labelled, "a table"),
        (("index", "categories"), is_table, "a table"),
        (("missing",), is_table or is_array, "a table or an array"),
        (TEXT_OPTIONS, is_table and suffix not in COLUMNAR, "a table of text"),
    ):
        if (given := options.changed(names)) and not suits:
            given = ["size and crop"] if "size" in names else given
            raise InputError(f"data must be {what} for {', '.join(given)}, got {name}")


def source_suffix(path: Path) -> str:
    """Return the suffix of a file in small letters, without that of gzip after a table."""
    path = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return path.suffix.lower()


def is_image_source(path: Path) -> bool:
    """Return whether a path is a folder or zip of images, and none of a data set's own layout."""
    if path.is_dir():
        return not (holds_mnist(path) or holds_celeba(path))
    return path.is_file() and path.suffix.lower() == ".zip"


def _as_data(name: str, split: Split, network: str, options: ReadOptions, *, named: bool) -> Data:
    """Check the samples, scale them, and convert them to tensors."""
    for part, samples in (("training", split.train), ("test", split.test)):
        if not len(samples):
            raise InputError(f"{name} must have at least one {part} sample, got none")
    notes, value_range, is_table = list(split.notes), None, split.train.ndim == 2
    if is_table and options.value_range is not None:
        raise InputError(f"data must be images for value_range, got the vectors of {name}")
    found = None if is_table else find_range(split, options.value_range)
    if found is not None:
        shift, scale, value_range, more = _scale_by_range(name, split.train, *found)
        notes += () if named else more
    else:
        split, shift, scale = _scale_by_moments(name, split, drop=options.drop_constant)
        if is_table:
            network = "mlp"
        else:
            notes.append(
                "each channel is scaled to mean 0 and standard deviation 1; for images with values "
                "of black and white, give --value-range"
            )
    tensors = {part: as_tensor(array) for part, array in split.arrays().items()}
    return Data(
        name=name,
        train=tensors["train"],
        test=tensors["test"],
        train_labels=tensors.get("train_labels"),
        test_labels=tensors.get("test_labels"),
        value_range=value_range,
        shift=torch.from_numpy(shift),
        scale=torch.from_numpy(scale),
        network=network,
        checksum=checksum(split.arrays()),
        columns=split.columns,
        schema=split.schema,
        notes=tuple(notes),
    )


def as_tensor(array: Array) -> Tensor:
    """Return an array as a tensor that shares its memory, even if it is mapped read-only."""
    with warnings.catch_warnings():  # samples are never written to
        warnings.simplefilter("ignore")
        return torch.from_numpy(array)


def _scale_by_moments(name: str, split: Split, *, drop: bool) -> tuple[Split, Array, Array]:
    """Return the samples, without columns that are dropped, and shift and scale of each column."""
    mean, deviation = moments(name, split)
    if split.train.ndim == 2:
        if split.schema is not None:
            deviation = _join_categories(deviation, split.schema.sizes)
        split, kept = _drop_constant(name, split, deviation, drop=drop)
        mean, deviation = mean[kept], deviation[kept]
    shape = (-1, *(1,) * (split.train.ndim - 2))
    scale = np.where(deviation > 0, deviation, 1).astype(np.float32).reshape(shape)
    return split, mean.astype(split.train.dtype).reshape(shape), scale


def _drop_constant(name: str, split: Split, deviation: Array, *, drop: bool) -> tuple[Split, Array]:
    """Return a table without its constant columns, or refuse them, and which columns are kept."""
    names = split.columns or number_columns(split.train.shape[1])
    kept = deviation > 0
    if not kept.all() and not (drop and kept.any()):
        constant = shorten_list(list(compress(names, ~kept)))
        raise InputError(
            f"columns of {name} must vary in the training samples, got constant {constant}"
            + ("; drop them with drop_constant" if kept.any() else ", and no others")
        )
    columns = tuple(compress(names, kept))
    if kept.all():
        return replace(split, columns=columns), kept
    train, test = (np.ascontiguousarray(part[:, kept]) for part in (split.train, split.test))
    schema = None if split.schema is None else split.schema.select(kept)
    return replace(split, train=train, test=test, columns=columns, schema=schema), kept


def moments(name: str, split: Split) -> tuple[Array, Array]:
    """Return the mean and standard deviation of each column or channel, in float64.

    A constant one has standard deviation exactly 0. Missing values, NaN, do not count.
    """
    samples = split.train
    axes = (0, *range(2, samples.ndim))
    if samples.dtype.kind == "f" and (gaps := np.isnan(samples)).any():
        if empty := np.flatnonzero(gaps.all(axis=axes)).tolist():
            what = "column" if samples.ndim == 2 else "channel"
            names = split.columns or [f"{what}_{k + 1}" for k in range(samples.shape[1])]
            raise InputError(
                f"{name} must have an observed training value in every {what}, got only gaps in "
                f"{shorten_list([names[k] for k in empty])}; leave them out (--drop)"
            )
        deviation = np.asarray(np.nanstd(samples, axis=axes, dtype=np.float64))
        return np.asarray(np.nanmean(samples, axis=axes, dtype=np.float64)), deviation
    mean = samples.mean(axis=axes, dtype=np.float64, keepdims=True)
    step = max(1, 2**22 // samples[0].size)  # samples whose float64 copy takes 32 MiB
    blocks = (samples[start : start + step] for start in range(0, len(samples), step))
    squares = sum(((block - mean) ** 2).sum(axis=axes) for block in blocks)
    deviation = np.sqrt(squares / (samples.size // samples.shape[1]))
    constant = samples.min(axis=axes) == samples.max(axis=axes)
    return mean.reshape(-1), np.where(constant, 0, deviation)


def _join_categories(deviation: Array, sizes: tuple[int, ...]) -> Array:
    """Return deviations with those of each category column joined: its total variance is 1."""
    numbers = len(deviation) - sum(sizes)
    groups = np.split(deviation[numbers:], np.cumsum(sizes)[:-1])
    joined = [np.full_like(group, np.sqrt(np.square(group).sum())) for group in groups]
    return np.concatenate([deviation[:numbers], *joined])


def find_range(
    split: Split, stated: tuple[float, float] | None
) -> tuple[tuple[float, float], str] | None:
    """Return the values of black and white, and where they come from, or None if there are none.

    Bytes have 0 to 255, images of 16 bits 0 to 65535. Other images have what is stated, or else the
    convention that they follow: 0 to 1, -1 to 1 or 0 to 255. Fields follow none.
    """
    train = split.train
    by_type = (0.0, 255.0) if train.dtype == np.uint8 else split.value_range
    if limits := stated or by_type:
        return limits, "stated" if stated else "by type"
    if train.ndim != 4 or train.shape[1] not in PICTURES:
        return None
    low, high = float(train.min()), float(train.max())
    if high <= 1 and low >= -1:
        return (0.0 if low >= 0 else -1.0, 1.0), "by convention"
    if low >= 0 and 2 < high <= 255:  # just above 1, it would be an overshoot
        return (0.0, 255.0), "by convention"
    return None


def _scale_by_range(
    name: str, train: Array, limits: tuple[float, float], why: str
) -> tuple[Array, Array, tuple[float, float], list[str]]:
    """Return shift, scale, the range of scaled values, and notes; bytes are divided by 255."""
    low, high = limits
    least, largest = float(train.min()), float(train.max())
    if least < low - 1e-6 * abs(low) or largest > high + 1e-6 * abs(high):
        raise InputError(
            f"value_range must contain the values of {name}, {least:g} to {largest:g}, got "
            f"{low:g} to {high:g}"
        )
    notes = [f"value range {low:g} to {high:g}, {why}; --value-range sets another"]
    if low < largest <= low + (high - low) / 8:
        notes.append(
            f"the largest value is {largest:g}, nearly black in that range; if it is white, give "
            f"--value-range {low:g} {largest:g}"
        )
    if limits == (-1.0, 1.0):
        return np.zeros((), np.float32), np.ones((), np.float32), limits, notes
    unit = 255 if train.dtype == np.uint8 else 1
    shift, scale = np.array(low / unit, np.float32), np.array((high - low) / unit, np.float32)
    return shift, scale, (0.0, 1.0), notes
