"""The modules, data and settings that the loops of the benchmark `training` share."""

import sys
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

import lorae
from lorae.data.datasets import Data
from lorae.nn.autoencoder import Autoencoder, build
from lorae.objectives.base import Objective
from lorae.training.devices import create_fabric
from lorae.training.loop import Stepper
from lorae.training.sampler import Sampler
from lorae.training.train import build_objective
from lorae.utils.samples import as_float

SHAPES = {"mnist": (1, 32, 32), "celeba": (3, 64, 64)}
"""The shapes of samples of the paper's networks."""


@dataclass(frozen=True)
class Task:
    """The paper's LoRAE on noise of the shape of a data set: what the pixels are costs nothing.

    Args:
        latent: l.
        network: mnist or celeba.
        width: factor on the widths of the networks.
        batch: samples in a step.
        learning_rate: of Adam.
        weight: lambda.
        count: training samples.
    """

    latent: int
    network: str = "mnist"
    width: float = 1.0
    batch: int = 100
    learning_rate: float = 1e-4
    weight: float = 1e-3
    count: int = 2000

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of a sample."""
        return SHAPES[self.network]

    def data(self) -> Data:
        """Return the data set, the same at each call."""
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(0, 256, (self.count, *self.shape), generator=generator)
        samples, zero, one = drawn.to(torch.uint8), torch.zeros(()), torch.ones(())
        network, ends = self.network, (0.0, 1.0)
        return Data("noise", samples, samples, None, None, ends, zero, one, network, "", None)

    def options(self, precision: str = "32-true", *, capture: bool = True) -> lorae.Options:
        """Return the options of a training, with every choice made."""
        given = lorae.Options(
            network=self.network,
            latent=self.latent,
            width=self.width,
            batch_size=self.batch,
            learning_rate=self.learning_rate,
            weight=self.weight,
            steps=9,
            precision=precision,
            capture=capture,
        )
        return given.resolve(self.data())

    def stepper(self, options: lorae.Options) -> tuple[Stepper, Sampler]:
        """Return what makes our steps, and its batches."""
        fabric, data = create_fabric(options), self.data()
        note = partial(print, file=sys.stderr)
        stepper = Stepper(self.objective(), options, fabric, capture=options.capture, note=note)
        return stepper, Sampler(data.train, fabric, batch_size=self.batch)

    def model(self) -> Autoencoder:
        """Return the modules with fresh weights, the same at each call."""
        torch.manual_seed(0)
        return build(self.options().architecture(self.data()))

    def objective(self) -> Objective:
        """Return our objective over such modules."""
        return build_objective(self.options(), self.data())

    def samples(self) -> Tensor:
        """Return the training samples as floats from 0 to 1."""
        return as_float(self.data().train)


def norm_of(model: Autoencoder) -> Tensor:
    """Return the nuclear norm of a model's matrix, as one writes it without this package."""
    norm: Tensor = torch.linalg.matrix_norm(model.bridge.matrix(), "nuc")
    return norm
