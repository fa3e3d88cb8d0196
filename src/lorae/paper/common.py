"""Shared by several recipes: the names of models, and ranks."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lorae.linalg import spectral
from lorae.paper.queue import Result
from lorae.paper.recipe import Entry, Key

MODELS = {
    "AE": "ae",
    "VAE": "vae-bernoulli",
    "IRMAE": "irmae",
    "LoRAE": "lorae",
    "WAE": "wae",
    "RAE": "rae-l2",
    "IRMAE, 4 layers": "irmae",
    "LoRAE, proximal": "lorae-proximal",
    "LoRAE, data space": "lorae-data-space",
}
"""Models of the package by their names in the paper; the last three rows are ours."""

CHANGES: dict[str, dict[str, Any]] = {"IRMAE, 4 layers": {"settings": {"depth": 4}}}
"""Options of rows that are not those of the model at the scale."""


def rank_of(sigma: Sequence[float], threshold: float) -> int:
    """Return how many singular values are above a threshold relative to the largest."""
    return int(spectral.rank(torch.tensor(sigma, dtype=torch.float64), threshold))


def rank_entries(
    found: Mapping[Key, Result], place: Key, seeds: Sequence[int], thresholds: Sequence[float]
) -> dict[str, Entry]:
    """Return the ranks of the covariance of the test codes, by column, one for each threshold."""
    spectra = [found.get((*place, seed), {}).get("covariance") for seed in seeds]
    if not any(spectra):
        return {f"rank at {t:.0e}": Entry() for t in thresholds}
    return {
        f"rank at {t:.0e}": Entry(
            tuple(None if sigma is None else float(rank_of(sigma, t)) for sigma in spectra)
        )
        for t in thresholds
    }
