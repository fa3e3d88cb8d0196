"""The commands that make a trained model ready to be used elsewhere: fold, export."""

import statistics
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from lorae.cli.output import Json, tell, warn
from lorae.data.datasets import Data
from lorae.errors import InputError, unknown
from lorae.export import exporters as export
from lorae.export import timing
from lorae.export.model_card import Card
from lorae.nn.autoencoder import Autoencoder
from lorae.training.evaluation import evaluate
from lorae.training.options import data_of
from lorae.training.run_folder import Run, no_part_of_a_run
from lorae.utils import hub
from lorae.utils.files import check_new_folder, whole_folder
from lorae.utils.samples import as_float

BATCHES = (1, 1000)
"""The numbers of samples for which speed is measured."""


@dataclass(frozen=True)
class Fold:
    """Turn a run into the small model that is left of it: as many latent dimensions as its rank."""

    run: tyro.conf.Positional[Path]
    """Run folder of a finished training of a model with a matrix M."""
    out: Path | None = None
    """File of the small model; folded.safetensors in the run folder by default."""
    threshold: float = 1e-3
    """Keep the directions whose singular value of M exceeds this share of the largest (1e-3 of M
    is 1e-6 of the covariance)."""
    seconds: float = 1.0
    """Over how long each speed is measured; 0 leaves speed out."""
    as_json: Json = False
    """Print the answer as JSON."""

    def __call__(self) -> None:
        """Fold, cut, write, and compare with the whole model on the test samples."""
        run = Run.open(self.run)
        out = no_part_of_a_run(self.out or run.path / "folded.safetensors")
        origin, whole = data_of(run), run.model()
        small = whole.cut(self.threshold)
        small.save(out)
        files = {"whole": run.path / "model.safetensors", "folded": out}
        models = {"whole": whole, "folded": small}
        rows = {
            name: {
                "latent": model.bridge.latent,
                "parameters": sum(p.numel() for p in model.parameters()),
                "bytes": files[name].stat().st_size,
                "error": evaluate(model, origin.test).reconstruction,
            }
            for name, model in models.items()
        }
        comparison = Comparison(
            rows,
            Cut.of(whole, self.threshold, small.bridge.latent),
            apart(small, whole, as_float(origin.test[:1000])),
            speeds(models, origin.test, self.seconds) if self.seconds > 0 else {},
        )
        if self.as_json:
            tell(comparison.to_dict() | {"file": str(out)})
            return
        tell(comparison.table())
        tell(f"written to {out}")


TARGETS = ("onnx", "torch", "hub")


@dataclass(frozen=True)
class Export:
    """Write a run's model for use elsewhere: as ONNX, as a PyTorch program, or for the hub."""

    run: tyro.conf.Positional[Path]
    """Run folder of a finished training."""
    to: str
    """onnx (encoder.onnx, decoder.onnx), torch (encoder.pt2, decoder.pt2 of torch.export), or hub
    (a model repository of the Hugging Face hub, with a model card)."""
    out: Path | None = None
    """A new or empty folder; named after the target in the run folder by default."""
    folded: bool = False
    """The small model that folding leaves, instead of the whole one."""
    threshold: float = 1e-3
    """With folded: as for lorae fold."""
    push: str | None = None
    """With hub: send the folder to this repository, OWNER/NAME (needs pip install lorae[hub])."""
    private: bool = False
    """With push: make the repository private, if it is new."""
    license: str | None = None
    """With hub: licence of the model, a name that the hub knows, such as apache-2.0."""
    as_json: Json = False
    """Print the answer as JSON."""

    def __call__(self) -> None:
        """Export, check against the model, and print what was written."""
        self._check()
        run = Run.open(self.run)
        out = self.out or run.path / self.to
        check_new_folder(out)
        model = run.model()
        kept = model.cut(self.threshold) if self.folded else model
        cut = str(Cut.of(model, self.threshold, kept.bridge.latent)) if self.folded else ""
        with whole_folder(out) as folder:
            found = self._write(run, kept, cut, folder)
        answer: dict[str, Any] = {
            "folder": str(out),
            "latent": kept.bridge.latent,
            "bytes": {path.name: path.stat().st_size for path in sorted(out.iterdir())},
            "largest_difference": found,
        }
        if self.push is not None:
            answer["address"] = hub.push(out, self.push, private=self.private)
        tell(answer if self.as_json else _told(answer))

    def _check(self) -> None:
        if self.to not in TARGETS:
            raise unknown("target of an export", self.to, TARGETS)
        given = {"push": self.push, "license": self.license, "private": self.private or None}
        for name, value in given.items():
            if value is not None and self.to != "hub":
                raise InputError(f"{name} is for --to hub, got it with --to {self.to}")
        if self.private and self.push is None:
            raise InputError("private is for --push OWNER/NAME, got it without")
        if self.push is not None:
            hub.check_repository(self.push)

    def _write(self, run: Run, model: Autoencoder, cut: str, folder: Path) -> dict[str, float]:
        if self.to == "onnx":
            return export.onnx(model, folder)
        if self.to == "torch":
            return export.torch_program(model, folder)
        try:
            data: Data | None = data_of(run)
        except InputError as error:
            warn(f"the card has no picture and no error of its own: {error}")
            data = None
        Card(run, model, data, cut, self.push or "OWNER/NAME", self.license).write(folder)
        return {}


def _told(answer: dict[str, Any]) -> str:
    lines = [f"{answer['folder']}: codes of {answer['latent']} dimensions"]
    for name, size in answer["bytes"].items():
        apart = answer["largest_difference"].get(Path(name).stem)
        checked = "" if apart is None else f"   differs from the model by at most {apart:.2g}"
        lines.append(f"  {name:20}{size:12,} bytes{checked}")
    if "address" in answer:
        lines.append(f"sent to {answer['address']}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Cut:
    """What cutting a model at a threshold keeps of its matrix M.

    Args:
        threshold: relative to the largest singular value.
        rank: how many singular values exceed it.
        latent: of how many.
        largest: the largest singular value that is cut, as a share of the largest of all.
    """

    threshold: float
    rank: int
    latent: int
    largest: float

    @classmethod
    def of(cls, model: Autoencoder, threshold: float, rank: int) -> "Cut":
        """Return what is cut from a model of which so many dimensions stay."""
        sigma = torch.linalg.svdvals(model.bridge.matrix().detach().double().cpu())
        share = float(sigma[rank] / sigma[0]) if rank < len(sigma) and sigma[0] > 0 else 0.0
        return cls(threshold, rank, len(sigma), share)

    @property
    def exact(self) -> bool:
        """Whether what is cut is no more than float32 rounding leaves of zeros."""
        return self.largest <= self.latent * torch.finfo(torch.float32).eps

    def __str__(self) -> str:
        """Return a sentence."""
        told = "the rank is exact" if self.exact else "the rank is not exact"
        return (
            f"rank of M at {self.threshold:.0e} of its largest singular value: {self.rank} of "
            f"{self.latent}; {told}: the largest one cut is {self.largest:.1e} of the largest"
        )


@dataclass(frozen=True)
class Comparison:
    """A folded model beside the whole one.

    Args:
        rows: their figures, by "whole" and "folded".
        cut: what was cut.
        apart: the largest difference of their reconstructions, in the units of the data.
        speed: seconds a call, and the median ratio, by what is called; empty if not measured.
    """

    rows: dict[str, dict[str, Any]]
    cut: Cut
    apart: float
    speed: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def loss(self) -> float | None:
        """The rise of the test error by cutting, as a share; None where there is no error."""
        before, after = (self.rows[name]["error"] for name in ("whole", "folded"))
        return None if before is None else after / before - 1

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as values that JSON can hold."""
        return self.rows | {
            "largest_difference": self.apart,
            "rise_of_error": self.loss,
            "rank": vars(self.cut) | {"exact": self.cut.exact},
            "seconds": self.speed,
        }

    def table(self) -> str:
        """Return all figures as lines of text."""
        names = {"latent": "dimensions of codes", "parameters": "parameters", "bytes": "bytes"}
        told = [f"{'':20}{'whole':>12}{'folded':>12}{'ratio':>9}"]
        for key, name in names.items():
            a, b = (self.rows[which][key] for which in ("whole", "folded"))
            told.append(f"{name:20}{a:12,}{b:12,}{b / a:9.3f}")
        if self.loss is not None:
            a, b = (self.rows[which]["error"] for which in ("whole", "folded"))
            told.append(f"{'test error':20}{a:12.6f}{b:12.6f}{b / a:9.3f}")
        for name, one in self.speed.items():
            a, b = (f"{1e3 * one[which]:.3g} ms" for which in ("whole", "folded"))
            told.append(f"{name:20}{a:>12}{b:>12}{one['ratio']:9.3f}")
        if self.speed:
            told.append(
                f"times: medians of interleaved calls, their ratio that of each round, "
                f"{torch.get_num_threads()} threads"
            )
        told.append(str(self.cut))
        lost = "" if self.loss is None else f"; the test error changes by {100 * self.loss:+.2g} %"
        told.append(
            f"reconstructions differ by at most {self.apart:.2g}" + ("" if self.cut.exact else lost)
        )
        return "\n".join(told)


@torch.no_grad()
def apart(a: Autoencoder, b: Autoencoder, x: Tensor) -> float:
    """Return the largest difference of the reconstructions of samples by two models."""
    return float((a(x) - b(x)).abs().max())


def speeds(
    models: dict[str, Autoencoder], samples: Tensor, seconds: float
) -> dict[str, dict[str, float]]:
    """Return the median seconds that models take to encode and decode, and the median ratio.

    Args:
        models: the first is what the last is compared with.
        samples: of which batches of 1 and 1,000 are made.
        seconds: about how long to time each.
    """
    first, *_, last = models
    found: dict[str, dict[str, float]] = {}
    for size in BATCHES:
        x = as_float(samples[torch.arange(size) % len(samples)])
        with torch.no_grad():
            codes = {name: model.encode(x) for name, model in models.items()}
        for what in ("encode", "decode"):
            calls = {
                name: partial(getattr(model, what), x if what == "encode" else codes[name])
                for name, model in models.items()
            }
            times = timing.interleaved(calls, seconds)
            row = {name: statistics.median(one) for name, one in times.items()}
            found[f"{what} {size:,}"] = row | {"ratio": timing.ratio(times[last], times[first])}
    return found
