"""The commands that make a trained model ready to be used elsewhere: fold."""

import statistics
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from lorae import timing
from lorae.autoencoder import Autoencoder, as_float
from lorae.evaluation import evaluate
from lorae.options import data_of
from lorae.output import Json, tell
from lorae.runs import Run

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
        origin, whole = data_of(run), run.model()
        small = whole.cut(self.threshold)
        out = self.out or run.path / "folded.safetensors"
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
        lost = "" if self.loss is None else f"; the test error rises by {100 * self.loss:.2g} %"
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
