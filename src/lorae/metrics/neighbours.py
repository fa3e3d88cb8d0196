"""Distances to nearest neighbours."""

import torch
from jaxtyping import Float
from torch import Tensor


def neighbour_distances(
    samples: Float[Tensor, "n d"], k: int, algorithm: str = "brute"
) -> Float[Tensor, "n k"]:
    """Return the distances of each sample to its k nearest neighbours among the others, ascending.

    Args:
        samples: n of them, more than k.
        k: number of neighbours, at least 1.
        algorithm: of scikit-learn. "brute" expands the squared distance, which is fast but loses
            the digits of distances that are tiny compared with the samples; "ball_tree" does not.

    Example:
        >>> neighbour_distances(torch.tensor([[0.0], [1.0], [3.0]]), 1).flatten()
        tensor([1., 1., 2.], dtype=torch.float64)
    """
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=k, algorithm=algorithm)
    return torch.from_numpy(index.fit(samples.double().cpu().numpy()).kneighbors()[0])
