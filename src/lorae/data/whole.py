"""All samples of a source in their order, without a split, for a model that is trained already."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lorae.data.archives import open_files
from lorae.data.array_files import load_arrays
from lorae.data.arrays import as_samples
from lorae.data.columns import Schema
from lorae.data.datasets import READERS, is_image_source, read, source_suffix
from lorae.data.frames import schema_of, select_values
from lorae.data.images import CropResize, decode, read_header
from lorae.data.labelled import load_labelled, read_labelled
from lorae.data.options import ReadOptions
from lorae.data.registry import DATASETS, check_source
from lorae.data.tables import drop_empty, load_table, read_table


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples, and what the source says of each besides its values."""

    values: Any  # n x D numbers, or images in the layout and the units of the source
    about: pl.DataFrame  # n rows of other columns, names of files and labels, if there are any
    notes: tuple[str, ...] = ()  # what was guessed, one sentence each


def read_whole(source: str | Path, options: ReadOptions, schema: Schema | None = None) -> Samples:
    """Return all samples of a named set or a path, in their order.

    Args:
        source: as of :func:`lorae.data.datasets.load`.
        options: how it is read.
        schema: the columns of a table that are values; by default all, as numbers.
    """
    check_source(source)
    name, path = str(source), Path(source).expanduser()
    if name not in DATASETS and is_image_source(path):
        return _read_images(path, options)
    reader = None if name in DATASETS or path.is_dir() else READERS.get(source_suffix(path))
    if reader is load_table:
        return _read_table(path, options, schema)
    if reader is load_labelled:
        values, notes = read_labelled(path, options)
        return Samples(values, pl.DataFrame(), tuple(notes))
    if reader is not None:
        values, labels = load_arrays(path)
        values = as_samples(values, name, options.layout) if options.layout else values
        return Samples(values, _labels(labels))
    data = read(source)
    both = (data.train_labels, data.test_labels)
    labels = None if None in both else np.concatenate([np.asarray(part) for part in both])
    parts = ["train"] * len(data.train) + ["test"] * len(data.test)
    values = np.concatenate([data.train.numpy(), data.test.numpy()])
    return Samples(values, pl.DataFrame({"part": parts}).hstack(_labels(labels)))


def _labels(labels: Any) -> pl.DataFrame:
    one = labels is not None and labels.ndim == 1
    return pl.DataFrame({"label": labels} if one else {})


def _read_table(path: Path, options: ReadOptions, schema: Schema | None) -> Samples:
    table = read_table(path, options)
    frame, rows, notes = drop_empty(table.frame)
    schema = schema or schema_of(frame.columns)
    values = select_values(table, frame, schema, rows, options.missing)
    rest = frame.drop(column.name for column in schema.columns)
    return Samples(values, rest, (*table.notes, *notes))


def _read_images(path: Path, options: ReadOptions) -> Samples:
    transform = CropResize(options.crop, options.size)
    with open_files(path) as files:
        names = {"train": list(files.names)}
        arrays = decode(files, names, transform, skip_bad=False)[1]
        counts = [read_header(files, name).frames for name in names["train"]]
    return Samples(arrays["train"], pl.DataFrame({"file": np.repeat(names["train"], counts)}))
