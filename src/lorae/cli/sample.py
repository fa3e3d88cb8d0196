"""The commands that generate samples from a trained model: sample, interpolate."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from lorae.cli.output import print_answer
from lorae.cli.parsing import Json, RunFolder
from lorae.errors import InputError
from lorae.sampling.registry import KINDS, check_density
from lorae.utils.validation import check_choice, check_memory, check_range

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """Draw samples from a run, and write them to a folder or a file."""

    run: RunFolder
    out: Path
    """New folder for PNG images, or a file: .npy in the units of the data (images n x h x w x c,
    bytes if the data are; or rows; or signals, fields and volumes with channels first), or .csv
    for tables."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 100
    """Number of samples."""
    density: str | None = None
    """Density of codes: gaussian, mixture-4, mixture-10, mixture-auto, flow or prior; by default
    the prior if the model has one, else gaussian."""
    seed: int = 0
    """Seed of the samples."""

    def __call__(self) -> None:
        """Fit the density to training codes, draw, decode and write."""
        check_range("n", self.n, 1)
        check_range("seed", self.seed, 0, 2**31 - 1)
        check_density(self.density)
        from lorae.training.run_folder import Run

        run = Run.open(self.run)

        from lorae.cli.samples import sample_run, show_progress, write_samples
        from lorae.training.options import data_of
        from lorae.utils.progress import ProgressBar

        data = data_of(run)
        values = 4 * (math.prod(data.shape) + run.options["latent"])
        check_memory("n", 4 * self.n * values, f"{self.n} samples and their codes")
        pictures = self.out.suffix != ".npy"
        batches = sample_run(run, data, self.n, self.density, self.seed, as_pictures=pictures)
        with ProgressBar(total=self.n, desc="samples", unit="samples", leave=False) as bar:
            write_samples(self.out, show_progress(batches, bar), self.n, data)
        print_answer(f"{self.n} samples in {self.out}")


@dataclass(frozen=True)
class Interpolate:
    """Decode paths between test images, or along the axes of the codes, as a grid of images."""

    run: tyro.conf.Positional[Path]
    """Run folder of a finished training on images."""
    out: Path | None = None
    """PNG file; interpolation-KIND.png in the run folder by default."""
    kind: str = "linear"
    """Path: linear, spherical (around the mean of the codes), or axes (along the principal axes
    of the codes, from -2 to +2 standard deviations)."""
    rows: int = 8
    """Number of paths."""
    images: int = 10
    """Number of images on each path."""
    seed: int = 0
    """Seed of the choice of test images."""
    as_json: Json = False

    def __call__(self) -> None:
        """Write the picture, and print the length of the decoded paths relative to their chords."""
        check_range("seed", self.seed, 0, 2**31 - 1)
        check_range("rows", self.rows, 1)
        check_range("images", self.images, 2)
        check_choice("kind", self.kind, (*KINDS, "axes"))
        from lorae.training.run_folder import Run, check_output_file

        run = Run.open(self.run)

        from lorae.metrics.features import as_bytes
        from lorae.nn.inference import decode_all, encode_all
        from lorae.report.image_grids import image_grid
        from lorae.sampling.interpolation import detour
        from lorae.training.options import data_of
        from lorae.utils.files import write_atomic
        from lorae.utils.intervals import Interval

        data, model = data_of(run), run.model()
        if not data.is_image:
            raise InputError(f"run must be of images to interpolate, got one of {data.name!r}")
        if not model.inverts:
            raise InputError("run must be of a model with an encoder to interpolate, got a GAN")
        paths = self._paths(encode_all(model, data.test[:2000]))
        images = data.unit(decode_all(model, paths.flatten(0, 1)))
        picture = image_grid(images, self.images, side=max(data.shape[1:]))
        out = check_output_file(self.out or run.path / f"interpolation-{self.kind}.png")
        write_atomic(out, picture)
        pixels = as_bytes(images).float().view(*paths.shape[:2], -1)
        ratio = Interval(tuple(detour(pixels).tolist()))
        if self.as_json:
            summary = {"mean": ratio.mean, "values": ratio.values}
            print_answer({"picture": str(out), "detour": summary})
        else:
            what = "detour (length of a decoded path / distance of its ends, in pixels)"
            print_answer(f"{out}\n{what}: {ratio}")

    def _paths(self, codes: "Tensor") -> "Tensor":
        """Return the codes along each path, rows x images x l."""
        import torch

        from lorae.sampling.interpolation import interpolate, traverse_axes

        if self.kind == "axes":
            return traverse_axes(codes, self.rows, self.images)
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(codes), generator=generator)
        count = min(self.rows, len(codes) // 2)
        a, b = codes[order[:count]], codes[order[count : 2 * count]]
        return interpolate(a, b, self.images, self.kind, codes.mean(0))
