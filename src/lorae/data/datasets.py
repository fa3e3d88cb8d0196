"""The data set object, and `load`, which reads a named set or a path.

Samples stay as they were stored, uint8 images or float32; a model sees them scaled::

    scaled = (as_float(x) - shift) / scale,    as_float(x) = x / 255 if uint8 else x

with the shift and scale of :mod:`lorae.data.scaling`.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

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
from lorae.data.scaling import find_range, scale_by_moments, scale_by_range
from lorae.data.splits import Split
from lorae.data.tables import COLUMNAR, load_table
from lorae.errors import InputError
from lorae.linalg.incomplete import Factors, choose_factors
from lorae.utils.samples import as_float, has_gaps, subsample
from lorae.utils.validation import check_range

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
        shift, scale, value_range, more = scale_by_range(name, split.train, *found)
        notes += () if named else more
    else:
        split, shift, scale = scale_by_moments(name, split, drop=options.drop_constant)
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
