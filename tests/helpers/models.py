"""Small real data, a small model of every method on it, and a plain training loop."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_wine

from lorae.nn.autoencoder import Architecture, build
from lorae.objectives.base import Objective
from lorae.objectives.registry import METHODS

LATENT = 6


def images() -> torch.Tensor:
    """Return handwritten digits, 64 x 1 x 8 x 8 from 0 to 1."""
    return torch.tensor(load_digits().images[:64] / 16, dtype=torch.float32)[:, None]


def vectors() -> torch.Tensor:
    """Return chemical analyses of wines, 64 x 13, standardised."""
    wines = np.random.default_rng(0).permutation(load_wine().data)[:64]
    return torch.tensor((wines - wines.mean(0)) / wines.std(0), dtype=torch.float32)


def signals() -> torch.Tensor:
    """Return the upper and the lower half of handwritten digits as two channels, 64 x 2 x 32."""
    return images().reshape(64, 2, 32) - 0.3


def volumes() -> torch.Tensor:
    """Return the pixels of handwritten digits as volumes, 64 x 1 x 4 x 4 x 4."""
    return images().reshape(64, 1, 4, 4, 4)


KINDS = {
    "image": (images, "conv", (0.0, 1.0)),
    "vector": (vectors, "mlp", None),
    "signal": (signals, "conv", None),
    "volume": (volumes, "conv", (0.0, 1.0)),
}
PAIRS = [
    pytest.param(name, kind, marks=[pytest.mark.slow] if kind == "volume" else [])
    for name in METHODS
    for kind, (_, _, value_range) in KINDS.items()
    if name != "vae-bernoulli" or value_range is not None
]
"""Every method with the kinds of data it supports; a Bernoulli likelihood needs [0, 1]."""


def make_objective(
    name: str, kind: str = "vector", latent: int = LATENT, **arguments: float
) -> tuple[Objective, torch.Tensor]:
    """Return the objective of a method with a new small model, and a batch."""
    samples, network, value_range = KINDS[kind]
    x, row = samples(), METHODS[name]
    settings = row.bridge_settings({"depth": 3, "rank": 4} | arguments)
    architecture = Architecture(
        network, tuple(x.shape[1:]), latent, row.bridge, settings, 0.25, value_range, **row.traits
    )
    return row.build_objective(build(architecture), **arguments), x


def loss(objective: Objective, x: torch.Tensor) -> torch.Tensor:
    """Return the loss of a batch, the sum of its terms."""
    return torch.stack(list(objective(x).values())).sum()


def train_on(objective: Objective, x: torch.Tensor, steps: int = 30) -> list[float]:
    """Train on one batch in a plain loop, and return the losses."""
    optimizer = torch.optim.Adam(objective.parameter_groups(3e-3))
    losses = []
    for _ in range(steps):
        value = loss(objective, x)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        objective.after_step(3e-3)
        losses.append(value.item())
    return losses
