"""Samples of models: read for them, or drawn from a density and written to a file or a folder."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from lorae.data.arrays import write_npy
from lorae.data.datasets import Data
from lorae.data.frames import schema_of
from lorae.data.options import ReadOptions
from lorae.data.whole import read_whole
from lorae.errors import InputError
from lorae.estimator.estimator import LowRankAutoencoder
from lorae.metrics.features import as_bytes
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import decode_all, encode_all
from lorae.report.image_grids import encode_png
from lorae.sampling.registry import FITTED, fit_density
from lorae.training.run_folder import Run
from lorae.utils.files import temporary_folder, whole_folder, write_atomic
from lorae.utils.progress import ProgressBar
from lorae.utils.samples import subsample


def read_for(
    model: Autoencoder | LowRankAutoencoder, source: str, options: ReadOptions
) -> tuple[Any, pl.DataFrame, tuple[str, ...]]:
    """Return the samples of a source as a model takes them, what is known of each, and notes."""
    if not isinstance(model, LowRankAutoencoder):
        samples = read_whole(source, options, model.schema)
        return samples.values, samples.about, samples.notes
    layout, shape = model.input_format_, model.input_format_.sample_shape
    schema = layout.schema or (None if layout.columns is None else schema_of(layout.columns))
    if layout.schema is None:  # whose missing numbers are gaps
        options = dataclasses.replace(options, missing="keep")
    samples = read_whole(source, options, schema)
    values = samples.values
    if schema is not None:
        names = [column.name for column in schema.columns]
        values = pl.DataFrame(dict(zip(names, schema.decode(values), strict=True)))
    elif values.shape[1:] != shape and values.ndim > 2:  # as the fitted samples were laid out
        last = shape == (*values.shape[2:], values.shape[1])
        values = np.moveaxis(values, 1, -1) if last else values.reshape(len(values), *shape)
    return values, samples.about, samples.notes


def sample_run(
    run: Run, data: Data, n: int, name: str | None, seed: int, *, as_pictures: bool = True
) -> Iterator[Tensor]:
    """Return samples of a run, 500 at a time, in the units of its data.

    Images are bytes if those of the data are, or with `as_pictures`; otherwise their values are
    within the range of the data.
    """
    model = run.model()
    density = fit_density(model, lambda: encode_all(model, subsample(data.train, FITTED)), name)
    codes = density.sample(n, torch.Generator().manual_seed(seed))

    def decode(part: Tensor) -> Tensor:
        samples = decode_all(model, part)
        if data.is_image and (as_pictures or data.train.dtype == torch.uint8):
            return as_bytes(data.unit(samples))
        if data.value_range is None:
            return samples
        low, high = (limit * data.scale + data.shift for limit in data.value_range)
        return torch.maximum(torch.minimum(samples, high), low)

    return map(decode, torch.split(codes, 500))


def show_progress(batches: Iterator[Tensor], bar: ProgressBar) -> Iterator[Tensor]:
    """Yield batches, and advance a bar by the samples in each."""
    for batch in batches:
        yield batch
        bar.update(len(batch))


def write_samples(out: Path, batches: Iterator[Tensor], n: int, data: Data) -> None:
    """Write n samples: images to a folder, rows to a .csv file, and any to an .npy file."""
    if out.suffix == ".npy":
        _write_array(out, batches, n, data)
    elif data.is_image and not out.suffix:
        with whole_folder(out) as folder:
            for k, image in enumerate(one for part in batches for one in part):
                (folder / f"{k:06}.png").write_bytes(encode_png(image.permute(1, 2, 0).numpy()))
    elif data.is_table and out.suffix == ".csv":
        rows = torch.cat(list(batches)).numpy()
        if data.schema is None:
            table = pl.DataFrame(rows, schema=list(data.columns or ()))
        else:
            names = [column.name for column in data.schema.columns]
            table = pl.DataFrame(dict(zip(names, data.schema.decode(rows), strict=True)))
        write_atomic(out, table.write_csv().encode())
    else:
        kinds = "a folder or an .npy file for images" if data.is_image else "an .npy file"
        allowed = "a .csv or .npy file for a table" if data.is_table else kinds
        raise InputError(f"out must be {allowed}, got {str(out)!r}")


def _write_array(out: Path, batches: Iterator[Tensor], n: int, data: Data) -> None:
    """Write an .npy file a batch at a time, under another name until it is whole."""
    shape = data.shape
    if data.is_image:  # channels last, as most programs have them
        shape = (*shape[1:], shape[0])
        batches = (part.permute(0, 2, 3, 1) for part in batches)
    dtype = str(data.train.dtype).removeprefix("torch.")
    with temporary_folder(out.absolute().parent) as folder:
        write_npy(folder / "array.npy", (n, *shape), dtype, (part.numpy() for part in batches))
        (folder / "array.npy").replace(out)
