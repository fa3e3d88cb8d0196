"""Building blocks of the networks, and the checks that they share.

`width` multiplies every hidden number of channels or units (rounded, at least 1).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import nn

from lorae.errors import InputError
from lorae.utils.validation import check_range

Shape = tuple[int, ...]
ValueRange = tuple[float, float] | None


class Pair(NamedTuple):
    """An encoder n x s -> n x l and its decoder n x l -> n x s."""

    encoder: nn.Sequential
    decoder: nn.Sequential


def scale_widths(channels: Sequence[int], width: float) -> list[int]:
    """Return numbers of channels times the width, each at least 1."""
    return [max(1, round(width * c)) for c in channels]


def dense(*units: int) -> list[nn.Module]:
    """Return linear layers between consecutive numbers of units, with a ReLU between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise(units):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return layers[:-1]


def downsampling(inputs: int, channels: Sequence[int]) -> list[nn.Module]:
    """Return, for each number of channels, a convolution that halves the sides and a ReLU."""
    layers: list[nn.Module] = []
    for a, b in pairwise([inputs, *channels]):
        layers += [nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()]
    return layers


def upsample(inputs: int, outputs: int, size: tuple[int, int] = (0, 0)) -> nn.ConvTranspose2d:
    """Return a transposed convolution from floor(H/2) x floor(W/2) to the size H x W.

    Odd sides get one row or column of output padding.
    """
    padding = (size[0] % 2, size[1] % 2)
    return nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, output_padding=padding)


def upsampling(
    channels: Sequence[int], sizes: Sequence[tuple[int, int]] | None = None
) -> list[nn.Module]:
    """Return :func:`upsample` and a ReLU for each step between channels.

    Args:
        channels: the number of channels before and after each step.
        sizes: the size H x W after each step; even by default.
    """
    steps = list(pairwise(channels))
    layers: list[nn.Module] = []
    for (a, b), size in zip(steps, sizes or [(0, 0)] * len(steps), strict=True):
        layers += [upsample(a, b, size), nn.ReLU()]
    return layers


def check_sizes(shape: Shape, latent: int, width: float) -> None:
    """Check the latent dimension and the width of networks for samples of this shape.

    Raises:
        InputError: if one is out of range.
    """
    values = math.prod(shape)
    if not 1 <= latent <= values:
        raise InputError(
            f"latent must be 1 to {values}, the number of values of a sample of shape "
            f"{tuple(shape)}, got {latent}"
        )
    check_range("width", width, 0, open_low=True)


def add_spectral_norm(network: nn.Module) -> nn.Module:
    """Divide the weight of every layer by its largest singular value, in place, and return it.

    The weight of a convolution is seen as a matrix with one row for each output channel (input
    channel, for a transposed one). The singular value is tracked by one step of the power method
    at each use of the weight in training. Dense layers become 1-Lipschitz, convolutions nearly so.

    Reference:
        Miyato et al., Spectral Normalization for Generative Adversarial Networks (ICLR 2018).
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.utils.parametrizations.spectral_norm(module)
    return network
