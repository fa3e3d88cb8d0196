r"""Fully connected networks with a linear path beside the layers, for samples of any shape.

.. math::
    E(x) = W x + s V f(x) + c, \qquad D(z) = A z + g((B z + b) / s) + a,

with f and g of two layers of h units with GELU, and a constant s, the standard deviation of the
codes: samples of variance 1 with d values can have codes of variance d, and f and g are to take and
to return values of about 1. With V and the last layer of g at 0 the pair is linear, so training can
start from principal components (:func:`start_from_components`) and adds to them what lowers the
error.

The encoder ends in one linear layer, over x and f(x) together, and the decoder begins with one, so
both absorb a linear map of the codes exactly.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.errors import InputError
from lorae.nn.blocks import Shape, dense


class AppendFeatures(nn.Module):
    """x -> (x, s f(x))."""

    scale: Tensor

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        return torch.cat([x, self.scale * self.features(x)], 1)


class AddCorrection(nn.Module):
    """(u, v) -> u + g(v / s), where u has d values."""

    scale: Tensor

    def __init__(self, values: int, correction: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.values = values
        self.correction = correction
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, both: Float[Tensor, "n k"]) -> Float[Tensor, "n d"]:
        u, v = both[:, : self.values], both[:, self.values :]
        corrected: Tensor = u + self.correction(v / self.scale)
        return corrected


def encoder(shape: Shape, hidden: int, latent: int) -> nn.Sequential:
    """Return the encoder of samples of a shape, with PyTorch's default initialization."""
    values = math.prod(shape)
    features = nn.Sequential(*dense(values, hidden, hidden, activation=nn.GELU), nn.GELU())
    flatten = [nn.Flatten()] if len(shape) > 1 else []
    return nn.Sequential(*flatten, AppendFeatures(features), nn.Linear(values + hidden, latent))


def decoder(latent: int, hidden: int, shape: Shape) -> nn.Sequential:
    """Return the decoder to samples of a shape, with PyTorch's default initialization."""
    values = math.prod(shape)
    correction = nn.Sequential(nn.GELU(), *dense(hidden, hidden, values, activation=nn.GELU))
    unflatten = [nn.Unflatten(1, shape)] if len(shape) > 1 else []
    first = nn.Linear(latent, values + hidden)
    return nn.Sequential(first, AddCorrection(values, correction), *unflatten)


@torch.no_grad()
def start_from_components(
    encoder: nn.Sequential, decoder: nn.Sequential, axes: Float[Tensor, "l d"], scale: float = 1
) -> None:
    """Make the pair, in place, the projection of centred samples on their principal axes.

    The axes are orthonormal rows, from :func:`principal_axes`; `scale` is s, the standard deviation
    of the codes.
    """
    features, last, first, added = encoder[-2], encoder[-1], decoder[0], decoder[1]
    if not (
        isinstance(features, AppendFeatures)
        and isinstance(last, nn.Linear)
        and isinstance(first, nn.Linear)
        and isinstance(added, AddCorrection)
    ):
        raise InputError("encoder and decoder must have a linear path to start from components")
    values = added.values
    features.scale.fill_(scale)
    added.scale.fill_(scale)
    last.weight.zero_()
    last.weight[:, :values] = axes.to(last.weight)
    last.bias.zero_()
    first.weight[:values] = axes.mT.to(first.weight)
    first.bias[:values] = 0
    end = [layer for layer in added.correction.modules() if isinstance(layer, nn.Linear)][-1]
    end.weight.zero_()
    end.bias.zero_()


def principal_axes(
    centred: Float[Tensor, "n d"], count: int
) -> tuple[Float[Tensor, "l d"], Float[Tensor, " l"]]:
    """Return the principal axes as rows, and the standard deviations along them, in float64.

    Axes beyond the rank that n samples can have are random ones, of deviation 0. R of the
    decomposition X = Q R has the same axes as X, and at most d rows.
    """
    R = torch.linalg.qr(centred.double(), mode="r").R
    _, sigma, Vh = torch.linalg.svd(R, full_matrices=False)
    axes, deviations = Vh[:count], sigma[:count] / len(centred) ** 0.5
    missing = count - len(axes)
    if missing:
        generator = torch.Generator().manual_seed(0)
        others = torch.randn(missing, centred.shape[1], generator=generator, dtype=axes.dtype)
        others -= others @ axes.mT @ axes
        axes = torch.cat([axes, torch.linalg.qr(others.mT).Q.mT])
        deviations = torch.cat([deviations, deviations.new_zeros(missing)])
    return axes, deviations
