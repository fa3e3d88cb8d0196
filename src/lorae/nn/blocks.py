"""What the networks are built of: runs of layers, and the checks that all of them share.

A pair of networks is a map from samples to latents and one back. `width` multiplies every hidden
number of channels or units (rounded, at least 1).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import nn

from lorae.errors import InputError

Shape = tuple[int, ...]
ValueRange = tuple[float, float] | None


class Pair(NamedTuple):
    """An encoder N x s -> N x l and the decoder N x l -> N x s that belongs to it."""

    encoder: nn.Sequential
    decoder: nn.Sequential


def scaled(channels: Sequence[int], width: float) -> list[int]:
    """Return the numbers of channels times the width, each at least 1."""
    return [max(1, round(width * c)) for c in channels]


def dense(*units: int) -> list[nn.Module]:
    """Return linear layers between neighbouring numbers of units, with a ReLU between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise(units):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return layers[:-1]


def halvings(inputs: int, channels: Sequence[int]) -> list[nn.Module]:
    """Return a convolution that halves the sides, and a ReLU, for each number of channels."""
    layers: list[nn.Module] = []
    for a, b in pairwise([inputs, *channels]):
        layers += [nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()]
    return layers


def doubling(inputs: int, outputs: int, size: tuple[int, int] = (0, 0)) -> nn.ConvTranspose2d:
    """Return the transposed convolution from floor(H/2) x floor(W/2) to the size H x W.

    Without output padding it doubles both sides, so an odd side lacks one row.
    """
    padding = (size[0] % 2, size[1] % 2)
    return nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, output_padding=padding)


def doublings(
    channels: Sequence[int], sizes: Sequence[tuple[int, int]] | None = None
) -> list[nn.Module]:
    """Return `doubling` and a ReLU for each step between channels; without sizes, all even."""
    steps = list(pairwise(channels))
    layers: list[nn.Module] = []
    for (a, b), size in zip(steps, sizes or [(0, 0)] * len(steps), strict=True):
        layers += [doubling(a, b, size), nn.ReLU()]
    return layers


def check_size(shape: Shape, latent: int, width: float) -> None:
    """Check the latent size and the width of networks for samples of this shape.

    Raises:
        InputError: naming the one that is outside its range.
    """
    values = math.prod(shape)
    if not 1 <= latent <= values:
        raise InputError(
            f"latent must be 1 to {values}, the number of values of a sample of shape "
            f"{tuple(shape)}, not {latent}"
        )
    if not 0 < width < math.inf:
        raise InputError(f"width must be a positive number, not {width}")


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
