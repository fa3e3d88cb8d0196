"""Samples of a run: drawn from a density of its codes, and written to images, arrays or tables."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lorae.data.arrays import write_npy
from lorae.data.datasets import Data
from lorae.errors import InputError
from lorae.metrics.features import as_bytes
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import decode_all, encode_all
from lorae.report.image_grids import encode_png
from lorae.sampling.registry import FITTED, fit_density
from lorae.training.run_folder import Run
from lorae.utils.files import temporary_folder, whole_folder, write_atomic
from lorae.utils.progress import ProgressBar
from lorae.utils.samples import subsample

if TYPE_CHECKING:
    import numpy as np


def sample_run(run: Run, data: Data, n: int, name: str | None, seed: int) -> Iterator[Tensor]:
    """Return samples of a run, 500 at a time: images as bytes, others in their own units."""
    model = run.model()
    density = fit_density(model, lambda: encode_all(model, subsample(data.train, FITTED)), name)
    codes = density.sample(n, torch.Generator().manual_seed(seed))
    return (_decoded(model, part, data) for part in torch.split(codes, 500))


def _decoded(model: Autoencoder, codes: Tensor, data: Data) -> Tensor:
    made = decode_all(model, codes)
    return as_bytes(data.unit(made)) if data.is_image else made


def show_progress(batches: Iterator[Tensor], bar: ProgressBar) -> Iterator[Tensor]:
    """Yield batches, and advance a bar by the samples in each."""
    for batch in batches:
        yield batch
        bar.update(len(batch))


def write_samples(out: Path, batches: Iterator[Tensor], n: int, data: Data) -> None:
    """Write n samples: images to a folder, rows to a .csv file, and any to an .npy file.

    Raises:
        InputError: if `out` does not suit them.
    """
    if data.is_image:
        _write_images(out, batches, n, data)
    elif out.suffix == ".npy":
        _write_array(out, (n, *data.shape), "float32", (part.numpy() for part in batches))
    elif data.is_table and out.suffix == ".csv":
        _write_csv(out, batches, data)
    else:
        allowed = "a .csv or .npy file for a table" if data.is_table else "an .npy file"
        raise InputError(f"out must be {allowed}, got {str(out)!r}")


def _write_images(out: Path, batches: Iterator[Tensor], n: int, data: Data) -> None:
    if out.suffix == ".npy":
        channels, height, width = data.shape
        blocks = (part.permute(0, 2, 3, 1).numpy() for part in batches)
        _write_array(out, (n, height, width, channels), "uint8", blocks)
        return
    if out.suffix:
        raise InputError(f"out must be a folder or an .npy file for images, got {str(out)!r}")
    with whole_folder(out) as folder:
        for k, image in enumerate(one for part in batches for one in part):
            (folder / f"{k:06}.png").write_bytes(encode_png(image.permute(1, 2, 0).numpy()))


def _write_csv(out: Path, batches: Iterator[Tensor], data: Data) -> None:
    import polars as pl

    rows = torch.cat(list(batches)).numpy()
    if data.schema is not None:
        cells = data.schema.decode(rows)
        names = [column.name for column in data.schema.columns]
        table = pl.DataFrame(dict(zip(names, cells, strict=True)))
    else:
        numbered = tuple(f"column_{k + 1}" for k in range(data.shape[0]))
        table = pl.DataFrame(rows, schema=list(data.columns or numbered))
    write_atomic(out, table.write_csv().encode())


def _write_array(
    out: Path, shape: tuple[int, ...], dtype: str, blocks: Iterator["np.ndarray[Any, Any]"]
) -> None:
    """Write an .npy file a block at a time, under another name until it is whole."""
    with temporary_folder(out.absolute().parent) as folder:
        write_npy(folder / "array.npy", shape, dtype, blocks)
        (folder / "array.npy").replace(out)
