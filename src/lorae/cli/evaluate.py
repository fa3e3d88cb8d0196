"""The commands that score models and sets of images: evaluate, classify, fid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from lorae.cli.output import print_answer, print_warning
from lorae.cli.parsing import Json, RunFolder
from lorae.errors import InputError, unknown_name
from lorae.metrics.protocol import PROBES, Protocol, check_parts
from lorae.sampling.registry import check_density
from lorae.utils.text import format_table
from lorae.utils.validation import check_choice, check_range

if TYPE_CHECKING:
    from lorae.data.datasets import Data
    from lorae.metrics.probes import LabelledCodes
    from lorae.training.run_folder import Run
    from lorae.utils.progress import ProgressBar
    from lorae.utils.samples import Rows

TrustWeights = Annotated[
    bool,
    tyro.conf.arg(
        help="Load a TorchScript file even if it is not the original. TorchScript is a program: it "
        "can read, write and delete files, so use only files from people you trust."
    ),
]
"""The option that allows a file of weights to run."""
PAIRS = 20_000
"""Images of each set that KID, precision and recall use, at most; FID uses all."""


@dataclass(frozen=True)
class Evaluate:
    """Compute the scores of a run with 95% intervals, and write them to its folder."""

    run: RunFolder
    only: tuple[str, ...] = ()
    """Parts to evaluate: reconstruction, generation, interpolation, dimension, classification; by
    default all that apply."""
    features: str = "auto"
    """Features of images: inception (FID, KID), classifier (one trained on the data set's labels),
    a TorchScript file of Inception weights, or auto: inception on a GPU or without labels, else
    classifier."""
    trust_weights: TrustWeights = False
    resize: str = "bicubic"
    """Resizing to Inception's 299 pixels: bicubic (antialiased) or bilinear (as in the original
    code)."""
    samples: int = 2000
    """Most generated images, and most test images, to compare."""
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

    def __call__(self) -> None:
        """Evaluate, write evaluation.json and print the scores."""
        check_parts(self.only)
        protocol = Protocol(
            samples=self.samples,
            repeats=self.repeats,
            seed=self.seed,
            densities=self.densities,
            labels=self.labels,
            probes=self.probes,
        )
        from lorae.training.run_folder import Run

        run = Run.open(self.run)

        from lorae.metrics.records import (
            FILE,
            evaluate_run,
            format_protocols,
            format_scores,
            read_scores,
        )

        found = evaluate_run(
            run,
            protocol,
            self.only,
            features=self.features,
            resize=self.resize,
            trust=self.trust_weights,
        )
        if self.as_json:
            print_answer(found)
            return
        scores = [s for s in read_scores(run) if not self.only or s.part in self.only]
        print_answer(format_scores(scores))
        print_answer(format_protocols(run, self.only))
        print_answer(f"written to {run.path / FILE}")


@dataclass(frozen=True)
class Classify:
    """Measure the accuracy of a probe on frozen codes, as in the paper's Table 6."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of finished trainings on the same labelled data set."""
    labels: tuple[int, ...] = (10, 100, 1000)
    """Numbers of labelled training samples."""
    probes: tuple[str, ...] = ("head",)
    """Probes on the codes: head (the paper's), logistic, neighbours."""
    repeats: int = 5
    """Number of random draws behind each 95% interval."""
    inputs: str = "codes"
    """Inputs of the probe: codes (M E(x)) or encoder (E(x), as in the authors' code)."""
    supervised: bool = False
    """Add a row for the same encoder and head trained only on the labelled images."""
    seed: int = 0
    """Seed of the first draw."""
    as_json: Json = False

    def __call__(self) -> None:
        """Print a table of test accuracies, with 95% intervals over the draws."""
        if not self.runs:
            raise InputError("runs must be at least one run folder, got none")
        check_choice("inputs", self.inputs, ("codes", "encoder"))
        check_range("repeats", self.repeats, 1)
        check_range("seed", self.seed, 0, 2**31 - 1)
        for name in self.probes:
            if name not in PROBES:
                raise unknown_name("probe", name, PROBES)
        from lorae.training.run_folder import Run

        runs = [Run.open(path) for path in self.runs]

        from lorae.utils.intervals import Interval

        rows = self._measure(runs)
        if self.as_json:
            print_answer(rows)
            return
        header = ("test accuracy, %", *(f"{n} labels" for n in self.labels))
        cells = (
            (name, *(Interval(tuple(100 * value for value in values)) for values in row.values()))
            for name, row in rows.items()
        )
        print_answer(format_table(cells, header))

    def _measure(self, runs: "Sequence[Run]") -> dict[str, dict[str, list[float]]]:
        """Return the accuracies of each row of the table, by the number of labels."""
        from lorae.metrics import probes
        from lorae.training.options import data_of
        from lorae.utils.progress import ProgressBar

        sets = {run.about["data"]["checksum"]: data_of(run) for run in runs}
        if len(sets) > 1:
            raise InputError(f"runs must be of one data set, got {len(sets)}")
        (data,) = sets.values()
        rows = {}
        rounds = len(self.labels) * self.repeats * (len(runs) * len(self.probes) + self.supervised)
        with ProgressBar(total=rounds, desc="probes", unit="probes", leave=False) as bar:
            for run in runs:
                codes = probes.encode_labelled(run.model(), data, self.inputs)
                for name in self.probes:
                    row = f"{run.name}, {name}" if len(self.probes) > 1 else run.name
                    rows[row] = self._accuracies(codes, probes.PROBES[name], bar)
            if self.supervised:
                architecture = runs[0].model().architecture
                assert architecture is not None
                encoder = partial(probes.fresh_encoder, architecture)
                probe = partial(probes.head, encoder=encoder, epochs=20)
                rows["supervised"] = self._accuracies(probes.labelled_images(data), probe, bar)
        return rows

    def _accuracies(
        self, codes: "LabelledCodes", probe: Callable[..., float], bar: "ProgressBar"
    ) -> dict[str, list[float]]:
        """Return the accuracy of each draw, by the number of labels."""
        seeds = range(self.seed, self.seed + self.repeats)
        found: dict[str, list[float]] = {}
        for n in self.labels:
            for seed in seeds:
                found.setdefault(str(n), []).append(probe(codes.draw(n, seed), seed=seed))
                bar.update()
        return found


@dataclass(frozen=True)
class Fid:
    """Compare two sets of images by Inception features: FID, KID, precision, recall.

    A set is a folder or zip of images, an .npy or .npz array, a run folder (samples are drawn from
    the model) or a named data set (its test images, or its training images, as in mnist:train).
    """

    a: tyro.conf.Positional[str]
    """First set; precision and coverage take it as the real one."""
    b: tyro.conf.Positional[str]
    """Second set."""
    samples: int | None = None
    """Most images from each set; by default all, or 10,000 from a run."""
    resize: str = "bicubic"
    """Resizing to 299 pixels: bicubic (antialiased) or bilinear (as the original code)."""
    features: str = "inception"
    """Features: inception, whose weights are downloaded once, or a TorchScript file of them."""
    trust_weights: TrustWeights = False
    size: int | None = None
    """Resize images of folders to this many pixels on each side, after cutting a centred square."""
    crop: int | None = None
    """Cut a centred square of this many pixels first."""
    value_range: tuple[float, float] | None = None
    """Values of black and white of both sets, such as 0 255; by default those of their types."""
    layout: str | None = None
    """Axes of arrays of images: NHW, NCHW or NHWC, if their shape is ambiguous."""
    density: str | None = None
    """Density of the codes of a run; by default its prior if it has one, else gaussian."""
    seed: int = 0
    """Seed of all random draws."""
    as_json: Json = False

    def __call__(self) -> None:
        """Print the distances."""
        check_density(self.density)
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

        file = None if self.features == "inception" else Path(self.features)
        sets = {name: self._images(name) for name in (self.a, self.b)}
        device = "cuda" if torch.cuda.is_available() else "cpu"
        extractor = Inception(self.resize, file, device, trust=self.trust_weights)
        x, y = (cached_features(extractor, sets[name], name) for name in (self.a, self.b))
        fid = frechet_distance(Moments(x.shape[1]).update(x), Moments(y.shape[1]).update(y))
        pairs = [subsample(features, PAIRS) for features in (x, y)]
        kid, figures = kernel_distance(*pairs), vars(precision_recall(*pairs))
        fewest = min(len(x), len(y))
        if fewest <= x.shape[1]:
            print_warning(
                f"FID is biased upwards: it needs more images than the {x.shape[1]} features, "
                f"got {fewest}"
            )
        if self.as_json:
            about = {"extractor": extractor.identity, "seed": self.seed}
            counts = {"images": [len(x), len(y)], "paired": [len(part) for part in pairs]}
            distances = {"FID": fid, "KID": kid.value, "KID_error": kid.error}
            print_answer(distances | figures | counts | about)
            return
        rows = {
            "FID": f"{fid:.4f}   ({len(x)} and {len(y)} images, resized {self.resize})",
            "KID x 1e3": f"{1e3 * kid.value:.4f} ± {1e3 * kid.error:.2g} (standard error)",
        } | {name: f"{value:.4f}" for name, value in figures.items()}
        print_answer(format_table(rows.items(), align="l"))
        if max(len(x), len(y)) > PAIRS:
            print_answer(f"all but FID: from {len(pairs[0])} and {len(pairs[1])} of the images")

    def _images(self, name: str) -> "Rows":
        """Return the images of a run, a named set, a folder or a file, as bytes."""
        import torch

        from lorae.cli.samples import sample_run
        from lorae.data.datasets import read
        from lorae.data.registry import DATASETS
        from lorae.metrics.features import as_bytes
        from lorae.training.options import data_of
        from lorae.training.run_folder import Run
        from lorae.utils.samples import Rows, subsample

        path = Path(name)
        if (path / "config.json").exists():
            run = Run.open(path)
            data = data_of(run)
            _check_images(name, data)
            batches = sample_run(run, data, self.samples or 10_000, self.density, self.seed)
            return Rows(torch.cat(list(batches)))
        named, _, split = name.partition(":")
        if named in DATASETS:
            data = read(named)
            check_choice("the part of a set", split or "test", ("train", "test"))
            parts = [data.train if split == "train" else data.test]
        else:
            data = self._read(name)
            parts = [data.train, data.test]
        _check_images(name, data)
        rows = Rows(
            *parts, transform=lambda x: x if x.dtype == torch.uint8 else as_bytes(data.unit(x))
        )
        return subsample(rows, self.samples or len(rows), self.seed)

    def _read(self, name: str) -> "Data":
        """Return the images of a folder or file; options of the other kind are left out."""
        from lorae.data.datasets import READERS, read, source_suffix
        from lorae.data.tables import load_table
        from lorae.training.progress import print_notes
        from lorae.utils.samples import has_gaps

        path = Path(name).expanduser()
        if path.is_file() and READERS.get(source_suffix(path)) is load_table:
            raise InputError(f"a and b must be sets of images, got the table {name!r}")
        is_array = path.suffix.lower() in (".npy", ".npz") and not path.is_dir()
        options: dict[str, Any] = (
            {"layout": self.layout} if is_array else {"size": self.size, "crop": self.crop}
        )
        if path.is_file() and source_suffix(path) in READERS:
            options["missing"] = "keep"  # refused below, in the words of this command
        data = read(name, test_fraction=0.5, value_range=self.value_range, **options)
        if has_gaps(data.train) or has_gaps(data.test):
            raise InputError(f"{name} must hold images without missing values, got NaN; fill them")
        if len(data.shape) == 3 and data.value_range is None:
            raise InputError(
                f"value_range must be given to compare {name}, whose values follow no convention "
                f"(--value-range LOW HIGH)"
            )
        _check_images(name, data)
        print_notes(name, data.notes)
        return data


def _check_images(name: str, data: "Data") -> None:
    if not data.is_image:
        raise InputError(f"a and b must be sets of images, got {name!r}")
