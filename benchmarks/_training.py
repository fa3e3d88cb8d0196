"""The modules, data and settings that the loops of the benchmark `training` share."""

from dataclasses import dataclass

import torch
from torch import Tensor

import lorae
from lorae.nn.autoencoder import Autoencoder, build
from lorae.objectives.base import Objective
from lorae.objectives.registry import method
from lorae.utils.samples import as_float


@dataclass(frozen=True)
class Task:
    """The paper's LoRAE on MNIST, at a latent dimension.

    Args:
        latent: l.
        width: factor on the widths of the networks.
        batch: samples in a step.
        learning_rate: of Adam.
        weight: lambda.
        count: training samples in use.
    """

    latent: int
    width: float = 1.0
    batch: int = 100
    learning_rate: float = 1e-4
    weight: float = 1e-3
    count: int = 10_000

    def options(self, precision: str | None = None) -> lorae.Options:
        """Return the options of a training, with every choice made."""
        given = lorae.Options(
            data="mnist",
            latent=self.latent,
            width=self.width,
            batch_size=self.batch,
            learning_rate=self.learning_rate,
            weight=self.weight,
        )
        if precision is not None:
            given = lorae.Options(**vars(given) | {"precision": precision})
        return given.resolve(given.load())

    def model(self) -> Autoencoder:
        """Return the modules with fresh weights, the same at each call."""
        torch.manual_seed(0)
        options = self.options()
        return build(options.architecture(options.load()))

    def objective(self) -> Objective:
        """Return our objective over the modules."""
        options = self.options()
        return method(options.model).build_objective(
            self.model(), options.weight, **options.settings
        )

    def samples(self) -> Tensor:
        """Return the training images as floats from 0 to 1."""
        return as_float(self.options().load().train[: self.count])


def norm_of(model: Autoencoder) -> Tensor:
    """Return the nuclear norm of a model's matrix, as one writes it without this package."""
    norm: Tensor = torch.linalg.matrix_norm(model.bridge.matrix(), "nuc")
    return norm
