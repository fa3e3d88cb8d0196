"""Evaluation of a model on samples: reconstruction error, spectra and ranks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.data.columns import Schema
from lorae.linalg import spectral
from lorae.linalg.moments import Moments
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import batches, complete, evaluation_mode
from lorae.sampling.registry import density_for
from lorae.training.run_folder import Run
from lorae.utils import distributed
from lorae.utils.samples import Rows, has_gaps
from lorae.utils.text import format_table

RANK_THRESHOLD = 1e-2
"""The relative threshold of a rank that is printed alone."""
COLLAPSED = 0.1
"""Share of the variance of the data below which samples from the prior are warned about."""
CONSTANT = 1e-3
"""Share of the variance of the data below which reconstructions are warned about."""
_SAMPLES = 1000  # of the data and from the prior, to compare their variances


@dataclass(frozen=True)
class Evaluation:
    """The figures of a model on a set of samples.

    Attributes:
        samples: the number of samples.
        reconstruction: mean squared error over all elements, in scaled units; None for a model
            that does not reconstruct.
        covariance: singular values of the covariance of the codes, descending.
        matrix: singular values of the bridge's matrix M, descending.
        spread: total variance of samples drawn from the prior, as a share of that of the data;
            None for a model without a prior.
        variation: total variance of the reconstructions of the first samples, as a share of that
            of these samples; None for a model that does not reconstruct.
        accuracy: for each column of categories the share that is reconstructed right. The other
            figures are then of the numbers, if there are any. Only observed values count.
    """

    samples: int
    reconstruction: float | None
    covariance: Float[Tensor, " l"]
    matrix: Float[Tensor, " l"]
    spread: float | None = None
    variation: float | None = None
    accuracy: tuple[float, ...] = ()

    @property
    def rank(self) -> int:
        """The number of singular values of the covariance above 1e-2 of the largest."""
        return int(spectral.rank(self.covariance, RANK_THRESHOLD))

    @property
    def warnings(self) -> list[str]:
        """Warnings about a model with these figures."""
        if self.spread is None or self.spread >= COLLAPSED:
            return []
        found = f"samples drawn from the prior have {self.spread:.1%} of the variance of the data: "
        return [found + "the decoder maps all codes to nearly the same sample"]

    @property
    def final_warnings(self) -> list[str]:
        """Warnings about a trained model that has learnt hardly anything."""
        if self.variation is not None and self.variation < CONSTANT:
            what = f"the reconstructions have {self.variation:.1e} of the variance of the samples"
            why = "the model maps all samples to nearly one: lower the weight, or train longer"
            return [f"{what}: {why}"]
        if self.rank <= 1 < len(self.covariance) and self.reconstruction is not None:
            what = f"rank {self.rank} at {RANK_THRESHOLD:.0e} of the largest singular value"
            why = "unless the data have one dimension, lower the weight or train longer"
            return [f"the codes have {what}: {why}"]
        return []

    def figures(self) -> dict[str, Any]:
        """Return the fields of a line of metrics, as values that JSON can hold."""
        figures = {
            "samples": self.samples,
            "reconstruction": self.reconstruction,
            "rank": self.rank,
            "covariance": self.covariance.tolist(),
            "matrix": self.matrix.tolist(),
        }
        if self.accuracy:
            figures["accuracy"] = list(self.accuracy)
        return figures if self.spread is None else figures | {"spread": self.spread}


def evaluate(model: Autoencoder, samples: Tensor | Rows) -> Evaluation:
    """Return the reconstruction error and the spectra over samples, in evaluation mode.

    Processes that train together share the batches, and each returns the figures over all samples.

    Args:
        model: its mode is restored afterwards.
        samples: n of them, at least 2, in the units of the data; bytes are divided by 255.

    Example:
        >>> from lorae.nn.autoencoder import Architecture, build
        >>> model = build(Architecture("mlp", (6,), 3, "low-rank"))
        >>> found = evaluate(model, torch.rand(100, 6))
        >>> found.samples, len(found.covariance), 1 <= found.rank <= 3
        (100, 3, True)
    """
    moments, squares, elements = Moments(model.bridge.latent), 0.0, 0
    variation, head = None, model.categories
    hits = torch.zeros(2, 0 if head is None else len(head.sizes), dtype=torch.float64)
    numbers = None if head is None else (len(model.shift) - head.count or None)
    first, every = distributed.rank(), distributed.world_size()
    with evaluation_mode(model):
        for x in batches(model, samples, first=first, every=every):
            target = model.scaled(x)
            codes = model.bridge(model.encoder(model.scaled(complete(model, x))))
            moments.update(codes.float())
            if model.inverts:
                decoded = model.decoder(codes).float()
                if variation is None:
                    variation = _share(decoded, target)
                if head is not None:
                    hits += torch.tensor(head.hits(decoded, target), dtype=torch.float64)
                error = (decoded - target)[:, :numbers]
                if model.gaps is not None or has_gaps(error):
                    error = error[~error.isnan()]
                squares += float(error.square().sum(dtype=torch.float32))
                elements += error.numel()
        moments, squares, elements = _reduce(moments, squares, elements, model.shift.device)
        hits = distributed.stack(hits).sum(0) if every > 1 else hits
        return Evaluation(
            samples=len(samples),
            reconstruction=squares / elements if model.inverts else None,
            covariance=moments.spectrum().cpu(),
            matrix=spectral.singular_values(model.bridge.matrix()).cpu(),
            spread=_spread(model, samples) if model.prior else None,
            variation=variation,
            accuracy=tuple((hits[0] / hits[1].clamp(min=1)).tolist()),
        )


def _share(decoded: Tensor, target: Tensor) -> float | None:
    """Return the total variance of decoded samples as a share of that of the targets."""
    if len(target) < 2:
        return None
    target = torch.where(target.isnan(), decoded, target)
    total = float(target.float().var(0).sum())
    return float(decoded.var(0).sum()) / total if total > 0 else None


def _reduce(
    moments: Moments, squares: float, elements: int, device: torch.device
) -> tuple[Moments, float, int]:
    """Return moments and sums over all processes."""
    if distributed.world_size() == 1:
        return moments, squares, elements
    sums = torch.tensor([squares, elements], dtype=torch.float64)
    state = {name: part.to(device) for name, part in (moments.tensors() | {"sums": sums}).items()}
    parts = {name: distributed.stack(part) for name, part in state.items()}
    whole = Moments(moments.dimension)
    for k in range(distributed.world_size()):
        whole.merge(Moments.from_tensors({name: part[k] for name, part in parts.items()}))
    total = parts["sums"].sum(0)
    return whole, float(total[0]), int(total[1])


def _spread(model: Autoencoder, samples: Tensor | Rows) -> float:
    """Return the variance of decoded draws from the prior, as a share of that of the samples."""
    index = torch.linspace(0, len(samples) - 1, min(_SAMPLES, len(samples))).long()
    real = torch.cat([model.scaled(x).cpu() for x in batches(model, samples[index])])
    codes = density_for(model).sample(len(real), torch.Generator().manual_seed(0))
    decoded = [model.decoder(z).cpu() for z in batches(model, codes)]
    return float(torch.cat(decoded).float().var(0).sum() / real.float().nan_to_num(0).var(0).sum())


def ranks(found: Evaluation, *, matrix: bool = True) -> dict[str, Any]:
    """Return the ranks of an evaluation at all thresholds, as values that JSON can hold.

    The ranks are defined in :mod:`lorae.linalg.spectral`; those of M are left out without `matrix`,
    for a model that learns no M.
    """
    return {
        "samples": found.samples,
        "reconstruction": found.reconstruction,
        "spread": found.spread,
        "covariance": _profile(found.covariance)
        | {"participation_ratio": float(spectral.participation_ratio(found.covariance))},
        "matrix": _profile(found.matrix)
        | {"stable_rank": float(spectral.stable_rank(found.matrix))}
        if matrix
        else None,
    }


def _profile(sigma: Tensor) -> dict[str, Any]:
    return {
        "rank": {f"{t:.0e}": rank for t, rank in spectral.rank_profile(sigma).items()},
        "effective_rank": float(spectral.effective_rank(sigma)),
        "singular_values": sigma.tolist(),
    }


def note_rank_bound(samples: int, latent: int) -> list[str]:
    """Return a note if there are too few samples to show every rank of their codes."""
    if samples > latent:
        return []
    bound = f"{samples} test samples show a rank of at most {samples - 1} of {latent}"
    return [f"note: {bound}; a larger test_fraction shows more"]


def summary(runs: Sequence[Run]) -> str:
    """Return a text table of runs: test error, and ranks of the covariance of the test codes."""
    thresholds = (1e-1, 1e-2, 1e-4, 1e-6)
    header = ("run", "test error", "rank at 1e-01", "1e-02", "1e-04", "1e-06")
    rows = []
    for run in runs:
        test = run.last["test"]
        profile = spectral.rank_profile(torch.tensor(test["covariance"]), thresholds)
        error = "-" if test["reconstruction"] is None else f"{test['reconstruction']:.5f}"
        rows.append((run.name, error, *profile.values()))
    latent = len(runs[0].last["test"]["covariance"])
    lines = [
        format_table(rows, header),
        "error: mean square over all elements, in scaled units; rank: singular values of the",
        f"covariance of the test codes above a share of the largest, of {latent} latent dimensions",
    ]
    samples = min(run.last["test"]["samples"] for run in runs)
    lines += note_rank_bound(samples, latent)
    for run in runs:
        if values := run.last["test"].get("accuracy"):
            columns = Schema.from_dict(run.about["data"]["schema"]).categorical
            shares = [f"{c.name} {value:.1%}" for c, value in zip(columns, values, strict=True)]
            lines.append(f"{run.name}: categories reconstructed right: {', '.join(shares)}")
    lines += [f"warning: {run.name}: {warning}" for run in runs for warning in run.warnings]
    return "\n".join(lines)
