r"""Gaps in the input of an encoder: each is filled by its expectation, and marked.

A missing value is NaN. Before the layers of an encoder stands

.. math:: x \mapsto (\tilde x, 1_{x = \mathrm{NaN}}),

where :math:`\tilde x` has the observed values of x, and in the gaps their expectation given the
observed values, under a low-rank Gaussian model (:mod:`lorae.linalg.incomplete`).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.linalg.incomplete import Factors
from lorae.nn.blocks import Shape


class FillGaps(nn.Module):
    """x -> (x with its gaps filled, where they were), along the first axis of a sample."""

    mean: Tensor
    loadings: Tensor
    noise: Tensor

    def __init__(self, shape: Shape, count: int) -> None:
        super().__init__()
        values = math.prod(shape)
        self.register_buffer("mean", torch.zeros(values))
        self.register_buffer("loadings", torch.zeros(values, count))
        self.register_buffer("noise", torch.ones(values))

    @torch.no_grad()
    def set_factors(self, factors: Factors) -> None:
        """Set the Gaussian model, in scaled units."""
        self.mean.copy_(factors.mean)
        self.loadings.copy_(factors.loadings)
        self.noise.copy_(factors.noise)

    @property
    def factors(self) -> Factors:
        """The Gaussian model."""
        return Factors(self.mean, self.loadings, self.noise)

    def fill(self, x: Float[Tensor, "n *shape"]) -> Float[Tensor, "n *shape"]:
        """Return samples in scaled units with their gaps filled."""
        return self.factors.fill(x.flatten(1)).view_as(x)

    def forward(self, x: Float[Tensor, "n c *grid"]) -> Float[Tensor, "n k *grid"]:
        """Return the filled samples and the places of the gaps."""
        return torch.cat([self.fill(x), x.isnan().to(x)], 1)


def doubled(shape: Shape) -> Shape:
    """Return the shape of a sample after :class:`FillGaps`."""
    return (2 * shape[0], *shape[1:])
