"""Distances to nearest neighbours."""

import torch
from jaxtyping import Float
from torch import Tensor


def neighbour_distances(samples: Float[Tensor, "n d"], k: int) -> Float[Tensor, "n k"]:
    """Return the distances of each sample to its k nearest neighbours among the others, ascending.

    The neighbours are found by expanding squared distances, which is fast but loses the digits of
    distances that are tiny compared with the samples, so the distances are then computed from
    differences.

    Args:
        samples: n of them, more than k.
        k: number of neighbours, at least 1.

    Example:
        >>> neighbour_distances(torch.tensor([[0.0], [1.0], [3.0]]), 1).flatten()
        tensor([1., 1., 2.], dtype=torch.float64)
    """
    from sklearn.neighbors import NearestNeighbors

    x = samples.cpu().double()
    x = x - x.mean(0)
    index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x.numpy())
    nearest = torch.from_numpy(index.kneighbors(return_distance=False))
    distances = [(x[rows] - sample).norm(dim=1) for sample, rows in zip(x, nearest, strict=True)]
    return torch.stack(distances).sort(dim=1).values
