"""The commands that score models and sets of images: evaluate, classify, fid."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from lorae.cli.output import Json, print_answer, print_warning
from lorae.errors import InputError, unknown
from lorae.utils.validation import check_range

if TYPE_CHECKING:
    from lorae.data.datasets import Data
    from lorae.metrics.probes import LabelledCodes
    from lorae.utils.intervals import Interval
    from lorae.utils.samples import Rows

PAIRS = 20_000
"""Images at most of which each is compared with each, for KID and coverage; FID takes all."""


@dataclass(frozen=True)
class Evaluate:
    """Compute the scores of a run with 95% intervals, and write them to its folder."""

    run: tyro.conf.Positional[Path]
    """Run folder of a finished training."""
    only: tuple[str, ...] = ()
    """Parts to evaluate: reconstruction, generation, interpolation, dimension, classification; by
    default all that apply."""
    features: str = "auto"
    """Features of images: inception (FID, KID), classifier (one trained on the data set's labels),
    a TorchScript file of Inception weights, or auto: inception on a GPU or without labels, else
    classifier."""
    resize: str = "bicubic"
    """Resizing to Inception's 299 pixels: bicubic (antialiased) or bilinear (as in the original
    code)."""
    samples: int = 2000
    """Largest number of generated and of test images."""
    repeats: int = 3
    """Number of random draws behind each 95% interval."""
    seed: int = 0
    """Seed of the first draw."""
    densities: tuple[str, ...] = ()
    """Densities of the codes: gaussian, mixture-4, mixture-10, mixture-auto, flow, prior; by
    default the prior if the model has one, else gaussian and mixture-10."""
    labels: tuple[int, ...] = (100, 1000)
    """Numbers of labelled samples for the probes."""
    probes: tuple[str, ...] = ("logistic", "neighbours")
    """Probes on the codes: head (the paper's), logistic, neighbours."""
    as_json: Json = False
    """Print the answer as JSON."""

    def __call__(self) -> None:
        """Evaluate, write evaluation.json and print the scores."""
        from lorae.metrics.protocol import Protocol
        from lorae.metrics.records import (
            FILE,
            evaluate_run,
            format_protocols,
            format_scores,
            read_scores,
        )
        from lorae.training.run_folder import Run

        protocol = Protocol(
            samples=self.samples,
            repeats=self.repeats,
            seed=self.seed,
            densities=self.densities,
            labels=self.labels,
            probes=self.probes,
        )
        run = Run.open(self.run)
        found = evaluate_run(run, protocol, self.only, features=self.features, resize=self.resize)
        if self.as_json:
            print_answer(found)
            return
        shown = [s for s in read_scores(run) if not self.only or s.part in self.only]
        print_answer(format_scores(shown))
        print_answer(format_protocols(run, self.only))
        print_answer(f"written to {run.path / FILE}")


@dataclass(frozen=True)
class Classify:
    """Measure the accuracy of a probe on frozen codes, as in the paper's Table 6."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of finished trainings on the same labelled data set."""
    labels: tuple[int, ...] = (10, 100, 1000)
    """Numbers of labelled training samples."""
    probe: str = "head"
    """Probe: head (the paper's), logistic or neighbours."""
    draws: int = 5
    """Number of random draws of the labelled samples."""
    inputs: str = "codes"
    """Inputs of the probe: codes (M E(x)) or encoder (E(x), as in the authors' code)."""
    supervised: bool = False
    """Add a row for the same encoder and head trained only on the labelled images."""
    seed: int = 0
    """Seed of the first draw."""
    as_json: Json = False
    """Print the answer as JSON."""

    def __call__(self) -> None:
        """Print a table of test accuracies, with 95 % intervals over the draws."""
        if not self.runs:
            raise InputError("runs must be at least one run folder, got none")
        if self.inputs not in ("codes", "encoder"):
            raise InputError(f"inputs must be 'codes' or 'encoder', got {self.inputs!r}")
        check_range("draws", self.draws, 1)
        check_range("seed", self.seed, 0, 2**31 - 1)
        from lorae.metrics.probes import PROBES, encode_labelled, labelled_images, supervised
        from lorae.nn import networks
        from lorae.training.options import data_of
        from lorae.training.run_folder import Run

        if self.probe not in PROBES:
            raise unknown("probe", self.probe, PROBES)
        runs = [Run.open(path) for path in self.runs]
        sets = {run.about["data"]["checksum"]: data_of(run) for run in runs}
        if len(sets) > 1:
            raise InputError(f"the runs must be of one data set, got {len(sets)}")
        origin = next(iter(sets.values()))
        rows: dict[str, dict[str, "Interval"]] = {}
        for run in runs:
            codes = encode_labelled(run.model(), origin, self.inputs)
            rows[run.name] = self._row(codes, PROBES[self.probe])
        if self.supervised:
            built = runs[0].model().architecture
            assert built is not None
            shape = built.network, built.shape, built.latent, built.width
            probe = partial(supervised, encoder=lambda: networks.build(*shape).encoder)
            rows["supervised"] = self._row(labelled_images(origin), probe)
        if self.as_json:
            print_answer(
                {name: {n: one.values for n, one in row.items()} for name, row in rows.items()}
            )
            return
        wide = max(map(len, rows))
        print_answer(
            f"{'test accuracy, %':{wide}}  " + "  ".join(f"{n:>12} labels" for n in self.labels)
        )
        for name, row in rows.items():
            print_answer(
                f"{name:{max(wide, 16)}}  " + "  ".join(f"{_percent(v):>19}" for v in row.values())
            )

    def _row(self, codes: "LabelledCodes", probe: Any) -> dict[str, "Interval"]:
        from lorae.utils.intervals import Interval

        seeds = range(self.seed, self.seed + self.draws)
        return {
            str(n): Interval(tuple(probe(codes.draw(n, seed), seed=seed) for seed in seeds))
            for n in self.labels
        }


@dataclass(frozen=True)
class Fid:
    """Compare two sets of images by Inception features: FID, KID, precision, recall.

    A set is a folder or zip of images, an .npy or .npz array, a run folder (samples are drawn from
    the model) or a named data set (its test images; its training images as in mnist:train).
    """

    a: tyro.conf.Positional[str]
    """First set; precision and coverage take it as the real one."""
    b: tyro.conf.Positional[str]
    """Second set."""
    samples: int | None = None
    """Largest number of images of each set; by default all, or 10,000 of a run."""
    resize: str = "bicubic"
    """Resizing to 299 pixels: bicubic (antialiased) or bilinear (as the original code)."""
    weights: Path | None = None
    """A TorchScript file of Inception weights; by default they are downloaded once."""
    size: int | None = None
    """Resize images of folders to this many pixels on each side, after cutting a centred square."""
    crop: int | None = None
    """Cut a centred square of this many pixels first."""
    density: str | None = None
    """Density of the codes of a run; by default its prior if it has one, else gaussian."""
    seed: int = 0
    """Seed of all random draws."""
    as_json: Json = False
    """Print the answer as JSON."""

    def __call__(self) -> None:
        """Print the distances."""
        check_range("samples", self.samples, 6)  # coverage looks at the fifth neighbour
        check_range("seed", self.seed, 0, 2**31 - 1)
        import torch

        from lorae.linalg.moments import Moments
        from lorae.metrics.features import cached_features
        from lorae.metrics.frechet import frechet_distance
        from lorae.metrics.inception import Inception
        from lorae.metrics.kernel_distance import kernel_distance
        from lorae.metrics.precision_recall import precision_recall
        from lorae.utils.samples import subsample

        sets = [self._images(name) for name in (self.a, self.b)]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        extractor = Inception(self.resize, self.weights, device)
        x, y = (
            cached_features(extractor, images, name)
            for images, name in zip(sets, (self.a, self.b), strict=True)
        )
        fid = frechet_distance(Moments(x.shape[1]).update(x), Moments(y.shape[1]).update(y))
        few_x, few_y = (subsample(found, PAIRS) for found in (x, y))
        kid, cover = kernel_distance(few_x, few_y), precision_recall(few_x, few_y)
        answer = {"FID": fid, "KID": kid.value, "KID_error": kid.error} | vars(cover)
        answer |= {
            "images": [len(x), len(y)],
            "paired": [len(few_x), len(few_y)],
            "extractor": extractor.identity,
            "seed": self.seed,
        }
        few = min(len(x), len(y))
        if few <= x.shape[1]:
            print_warning(
                f"FID is biased upwards: it needs more images than the {x.shape[1]} features, "
                f"got {few}"
            )
        if self.as_json:
            print_answer(answer)
            return
        print_answer(
            f"FID        {fid:.4f}   ({len(x)} and {len(y)} images, resized {self.resize})"
        )
        print_answer(f"KID x 1e3  {1e3 * kid.value:.4f} ± {1e3 * kid.error:.2g} (standard error)")
        for name, value in vars(cover).items():
            print_answer(f"{name:10} {value:.4f}")
        if max(len(x), len(y)) > PAIRS:
            print_answer(f"all but FID: of {len(few_x)} and {len(few_y)} of the images")

    def _images(self, name: str) -> "Rows":
        import torch

        from lorae.cli.samples import sample_run
        from lorae.data.datasets import load
        from lorae.data.registry import DATASETS
        from lorae.metrics.features import as_bytes
        from lorae.training.options import data_of
        from lorae.training.run_folder import Run
        from lorae.utils.samples import Rows, subsample

        path = Path(name)
        if (path / "config.json").exists():
            run = Run.open(path)
            found = data_of(run)
            self._check_images(name, found)
            parts = sample_run(run, found, self.samples or 10_000, self.density, self.seed)
            return Rows(torch.cat(list(parts)))
        named, _, split = name.partition(":")
        if named in DATASETS:
            found = load(named)
            if split not in ("", "train", "test"):
                raise InputError(f"a set has the parts train and test, got {split!r}")
            sets = [found.train if split == "train" else found.test]
        else:
            found = load(name, size=self.size, crop=self.crop, test_fraction=0.5)
            sets = [found.train, found.test]
        self._check_images(name, found)
        rows = Rows(
            *sets, transform=lambda x: x if x.dtype == torch.uint8 else as_bytes(found.unit(x))
        )
        return subsample(rows, self.samples or len(rows), self.seed)

    @staticmethod
    def _check_images(name: str, found: "Data") -> None:
        if len(found.shape) != 3:
            raise InputError(f"fid compares images, and {name!r} holds none")


def _percent(accuracy: "Interval") -> str:
    from lorae.utils.intervals import Interval

    return str(Interval(tuple(100 * value for value in accuracy.values)))
