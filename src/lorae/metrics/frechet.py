r"""Distances between two distributions, from samples of each.

The Frechet distance is that of two normal distributions with the samples' means and covariances,

.. math:: F = \|\mu_1 - \mu_2\|^2 + \operatorname{tr} C_1 + \operatorname{tr} C_2
    - 2 \operatorname{tr} (C_1 C_2)^{1/2},

and the kernel distance is the maximum mean discrepancy with the cubic kernel
(:mod:`lorae.linalg.kernels`).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError
from lorae.linalg.kernels import cubic
from lorae.linalg.moments import Moments


def frechet(a: Moments, b: Moments) -> float:
    r"""Return the Frechet distance of two sets of samples, at least 0.

    The last trace is the sum of the square roots of the eigenvalues of
    :math:`C_1^{1/2} C_2 C_1^{1/2}`, symmetric and of the same eigenvalues as :math:`C_1 C_2`, in
    float64: covariances of low rank need no care, and a set is at distance 0 from itself to
    rounding. With n samples of each the expectation for P = Q is not 0 but falls like 1/n.

    Reference:
        Dowson and Landau, The Frechet distance between multivariate normal distributions (Journal
        of Multivariate Analysis 12, 1982); as a score of images, Heusel et al. (NeurIPS 2017).

    Args:
        a: moments of the first set, of 2 samples or more.
        b: moments of the second set.

    Raises:
        InputError: if the dimensions differ, or one has fewer than 2 samples.

    Example:
        >>> a = Moments(2).update(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
        >>> b = Moments(2).update(torch.tensor([[0.0, 3.0], [2.0, 3.0]]))
        >>> round(frechet(a, b), 6)
        9.0
    """
    if a.dimension != b.dimension:
        raise InputError(
            f"the samples must be of one dimension, these have {a.dimension} and {b.dimension}"
        )
    first, second = a.covariance, b.covariance.to(a.covariance.device)
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.mT
    product = root @ second @ root
    cross = torch.linalg.eigvalsh((product + product.mT) / 2).clamp(min=0).sqrt().sum()
    shift = (a.mean - b.mean.to(a.mean.device)).square().sum()
    return max(0.0, float(shift + first.trace() + second.trace() - 2 * cross))


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float


def kernel_distance(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, blocks: int = 10
) -> Estimate:
    r"""Return MMD^2 with the cubic kernel, unbiased, and its standard error.

    The value is the U-statistic of all samples. The error is the jackknife's, from the values
    without one block of the samples after the other; where both sets follow one distribution,
    this is too large by a factor of about the square root of 2, elsewhere about right.

    Reference:
        Binkowski et al., Demystifying MMD GANs (ICLR 2018), whose kernel Inception distance is
        the mean over random subsets of 1,000 instead.

    Args:
        x: n samples, at least 4.
        y: m samples, likewise; in an order that has nothing to do with what they are.
        blocks: how many blocks, at least 2; fewer where there are not two samples for each.

    Raises:
        InputError: if there are too few samples.

    Example:
        >>> x, y = torch.randn(2, 100, 4, generator=torch.Generator().manual_seed(0))
        >>> same, other = kernel_distance(x, y), kernel_distance(x, y + 1)
        >>> abs(same.value) < 3 * same.error, other.value > 3 * other.error
        (True, True)
    """
    few = min(len(x), len(y))
    if blocks < 2 or few < 4:
        raise InputError(
            f"a kernel distance needs at least 2 blocks of 2 samples of each kind, got {blocks} "
            f"blocks of {len(x)} and {len(y)} samples"
        )
    blocks = min(blocks, few // 2)
    xs, ys = (s.double().tensor_split(blocks) for s in (x, y))
    within, across = (_sums(xs, xs), _sums(ys, ys)), _sums(xs, ys)
    sizes = [torch.tensor([len(part) for part in parts]) for parts in (xs, ys)]

    def value(kept: Tensor) -> float:
        n, m = (int(size[kept].sum()) for size in sizes)
        xx, yy, xy = (float(total[kept][:, kept].sum()) for total in (*within, across))
        return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)

    every = torch.arange(blocks)
    without = torch.tensor([value(every[every != b]) for b in range(blocks)], dtype=torch.float64)
    variance = (blocks - 1) / blocks * (without - without.mean()).square().sum()
    return Estimate(value(every), math.sqrt(float(variance)))


def _sums(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> Float[Tensor, "b b"]:
    """Return the sum of the cubic kernel over each pair of blocks, a sample with itself left out.

    Memory is that of one pair of blocks.
    """
    total = torch.zeros(len(xs), len(ys), dtype=torch.float64)
    for i, x in enumerate(xs):
        for j, y in enumerate(ys):
            kernel = cubic(x, y)
            own = kernel.diagonal().sum() if x is y else 0.0
            total[i, j] = kernel.sum() - own
    return total
