"""The commands that make something of a trained model: sample, interpolate."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor

from lorae.cli.output import Json, print_answer
from lorae.data.cache import write_npy
from lorae.data.datasets import Data
from lorae.errors import InputError, unknown
from lorae.metrics import scores
from lorae.metrics.features import as_bytes
from lorae.metrics.scores import DENSITIES
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import decode_all, encode_all
from lorae.report.image_grids import encode_png, image_grid
from lorae.sampling.densities import density_for
from lorae.sampling.interpolation import KINDS, along_axes, between, detour
from lorae.training.options import data_of
from lorae.training.run_folder import Run, check_output_file
from lorae.utils.files import beside, whole_folder, write_atomic
from lorae.utils.intervals import Interval
from lorae.utils.validation import check_range

TABLES = (".csv", ".npy")


@dataclass(frozen=True)
class Sample:
    """Draw new samples from a run, and write them to a folder or a file."""

    run: tyro.conf.Positional[Path]
    """Run folder of a finished training."""
    out: Path
    """A new folder for PNG images, or a file: .npy (images as bytes, n x h x w x c), or .csv for
    tables."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 100
    """How many."""
    density: str | None = None
    """Density of codes: gaussian, mixture-4, mixture-10, mixture-auto, flow or prior; by default
    the prior where there is one, else gaussian."""
    seed: int = 0
    """Seed of the draw."""

    def __call__(self) -> None:
        """Fit the density to training codes, draw, decode and write."""
        if self.n < 1:
            raise InputError(f"n must be at least 1, got {self.n}")
        check_range("seed", self.seed, 0, 2**31 - 1)
        run = Run.open(self.run)
        origin = data_of(run)
        parts = drawn(run, origin, self.n, self.density, self.seed)
        write = _write_images if len(origin.shape) == 3 else _write_table
        write(self.out, parts, self.n, origin)
        print_answer(f"{self.n} samples in {self.out}")


@dataclass(frozen=True)
class Interpolate:
    """Decode paths between test images, or along the axes of the codes, as a grid of images."""

    run: tyro.conf.Positional[Path]
    """Run folder of a finished training on images."""
    out: Path | None = None
    """PNG file; interpolation-KIND.png in the run folder by default."""
    kind: str = "linear"
    """Path: linear, spherical (around the mean of the codes), or axes (through the mean along the
    principal axes of the codes, two deviations to both sides)."""
    rows: int = 8
    """How many paths."""
    steps: int = 10
    """Images on each."""
    seed: int = 0
    """Seed of the pairs."""
    as_json: Json = False
    """Print the answer as JSON."""

    def __call__(self) -> None:
        """Write the picture, and print how long the decoded paths are against their chords."""
        check_range("seed", self.seed, 0, 2**31 - 1)
        run = Run.open(self.run)
        origin, model = data_of(run), run.model()
        if len(origin.shape) != 3:
            raise InputError(f"interpolate draws images, and {origin.name!r} has none")
        if self.kind not in (*KINDS, "axes"):
            raise unknown("kind of a path", self.kind, (*KINDS, "axes"))
        if self.rows < 1:
            raise InputError(f"rows must be at least 1, got {self.rows}")
        if not model.inverts:
            raise InputError("interpolate needs codes of images, and this model has no encoder")
        codes = encode_all(model, origin.test[:2000])
        if self.kind == "axes":
            paths = along_axes(codes, self.rows, self.steps)
        else:
            generator = torch.Generator().manual_seed(self.seed)
            order = torch.randperm(len(codes), generator=generator)
            count = min(self.rows, len(codes) // 2)
            a, b = codes[order[:count]], codes[order[count : 2 * count]]
            paths = between(a, b, self.steps, self.kind, codes.mean(0))
        images = origin.unit(decode_all(model, paths.flatten(0, 1)))
        picture = image_grid(images, self.steps, side=max(origin.shape[1:]))
        out = check_output_file(self.out or run.path / f"interpolation-{self.kind}.png")
        write_atomic(out, picture)
        pixels = as_bytes(images).float().view(*paths.shape[:2], -1)
        ratio = Interval(tuple(float(one) for one in detour(pixels)))
        if self.as_json:
            print_answer(
                {"picture": str(out), "detour": {"mean": ratio.mean, "values": ratio.values}}
            )
            return
        print_answer(f"{out}")
        print_answer(
            f"detour (length of the decoded path / distance of its ends, in pixels): {ratio}"
        )


def drawn(run: Run, origin: Data, n: int, name: str | None, seed: int) -> Iterator[Tensor]:
    """Return samples of a run, 500 at a time: images as bytes, rows of a table as they are."""
    model = run.model()
    if name is not None and name not in DENSITIES:
        raise unknown("density", name, DENSITIES)
    if name == "prior" and not model.prior:
        raise InputError("this model was not trained to a prior: use another density")
    density = density_for(model) if name is None else DENSITIES[name](model)
    if not (model.prior and name in (None, "prior")):
        density.fit(encode_all(model, scores.chosen(origin.train, 20_000)))
    codes = density.sample(n, torch.Generator().manual_seed(seed))
    return (_decoded(model, part, origin) for part in torch.split(codes, 500))


def _decoded(model: Autoencoder, codes: Tensor, origin: Data) -> Tensor:
    made = decode_all(model, codes)
    return as_bytes(origin.unit(made)) if len(origin.shape) == 3 else made


def _write_images(out: Path, parts: Iterator[Tensor], n: int, origin: Data) -> None:
    if out.suffix == ".npy":
        channels, height, width = origin.shape
        blocks = (part.permute(0, 2, 3, 1).numpy() for part in parts)
        _write_array(out, (n, height, width, channels), "uint8", blocks)
        return
    if out.suffix:
        raise InputError(f"out must be a folder or an .npy file for images, got {str(out)!r}")
    with whole_folder(out) as folder:
        for k, image in enumerate(one for part in parts for one in part):
            (folder / f"{k:06}.png").write_bytes(encode_png(image.permute(1, 2, 0).numpy()))


def _write_table(out: Path, parts: Iterator[Tensor], n: int, origin: Data) -> None:
    if out.suffix not in TABLES:
        raise InputError(f"out must be a .csv or .npy file for a table, got {str(out)!r}")
    if out.suffix == ".npy":
        _write_array(out, (n, *origin.shape), "float32", (part.numpy() for part in parts))
        return
    import polars as pl

    names = origin.columns or tuple(f"column_{k + 1}" for k in range(origin.shape[0]))
    rows = torch.cat(list(parts)).numpy()
    write_atomic(out, pl.DataFrame(rows, schema=list(names)).write_csv().encode())


def _write_array(
    out: Path, shape: tuple[int, ...], dtype: str, blocks: Iterator["np.ndarray[Any, Any]"]
) -> None:
    """Write an .npy file a block at a time, under another name until it is whole."""
    with beside(out) as folder:
        write_npy(folder / "array.npy", shape, dtype, blocks)
        (folder / "array.npy").replace(out)
