"""Distances between samples, and to nearest neighbours."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.utils.validation import check_finite

ROWS = 1000
"""Samples whose distances to all others are in memory at a time."""
_PAIRS = 8192  # of samples whose difference is in memory at a time
_CANCELLED = 1e-4


def pairwise_distances(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    r"""Return the Euclidean distances in float64, small ones included.

    Most are computed as :math:`\|x\|^2 + \|y\|^2 - 2 x^\top y` of centred samples, which takes a
    tenth of the time of differences but loses the digits of distances that are small compared
    with the norms. Where the result is below 1e-4 of :math:`\|x\|^2 + \|y\|^2`, it is therefore
    computed again from the difference: copies have the distance 0, and every distance is right to
    about 1e-11 of itself.
    """
    check_finite("samples", x)
    check_finite("samples", y)
    x, y = x.double(), y.double()
    a, b = x - y.mean(0), y - y.mean(0)
    size = a.square().sum(1)[:, None] + b.square().sum(1)
    square = size - 2 * a @ b.mT
    for pairs in torch.split((square <= _CANCELLED * size).nonzero(), _PAIRS):
        i, j = pairs.unbind(1)
        square[i, j] = (x[i] - y[j]).square().sum(1)
    return square.sqrt_()


def distance_blocks(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]
) -> Iterator[tuple[Tensor, Float[Tensor, "r m"]]]:
    """Yield the indices of a thousand rows of x and their distances to all of y, block by block."""
    for rows in torch.split(torch.arange(len(x)), ROWS):
        yield rows, pairwise_distances(x[rows], y)


def neighbour_distances(samples: Float[Tensor, "n d"], k: int) -> Float[Tensor, "n k"]:
    """Return the distances of each sample to its k nearest others, ascending."""
    samples, nearest = samples.cpu(), []
    for rows, distances in distance_blocks(samples, samples):
        distances[torch.arange(len(rows)), rows] = torch.inf
        nearest.append(distances.topk(k, dim=1, largest=False).values)
    return torch.cat(nearest)
