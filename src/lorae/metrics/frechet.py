"""The Frechet distance, which on Inception features is the FID."""

import torch

from lorae.errors import InputError
from lorae.linalg.moments import Moments


def frechet_distance(a: Moments, b: Moments) -> float:
    r"""Return the Frechet distance of two normal distributions with the moments of two samples.

    .. math:: F = \|\mu_1 - \mu_2\|^2 + \operatorname{tr} C_1 + \operatorname{tr} C_2
        - 2 \operatorname{tr} (C_1 C_2)^{1/2}.

    The last trace is the sum of the square roots of the eigenvalues of
    :math:`C_1^{1/2} C_2 C_1^{1/2}`, which is symmetric and has the eigenvalues of :math:`C_1 C_2`,
    in float64. Singular covariances need no regularization, and the distance of a set from itself
    is 0 up to rounding. For two samples of size n of one distribution the expectation is not 0,
    but of order 1/n.

    Reference:
        Dowson and Landau, The Frechet distance between multivariate normal distributions (Journal
        of Multivariate Analysis 12, 1982); as a score of images, Heusel et al. (NeurIPS 2017).

    Example:
        >>> a = Moments(2).update(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
        >>> b = Moments(2).update(torch.tensor([[0.0, 3.0], [2.0, 3.0]]))
        >>> round(frechet_distance(a, b), 6)
        9.0
    """
    if a.dimension != b.dimension:
        raise InputError(
            f"both sets must have the same dimension, got {a.dimension} and {b.dimension}"
        )
    first, second = a.covariance, b.covariance.to(a.covariance.device)
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.mT
    product = root @ second @ root
    cross = torch.linalg.eigvalsh((product + product.mT) / 2).clamp(min=0).sqrt().sum()
    shift = (a.mean - b.mean.to(a.mean.device)).square().sum()
    return float((shift + first.trace() + second.trace() - 2 * cross).clamp(min=0))
