r"""Distances between two distributions, from samples of each.

The Frechet distance is that of two normal distributions with the samples' means and covariances,

.. math:: F = \|\mu_1 - \mu_2\|^2 + \operatorname{tr} C_1 + \operatorname{tr} C_2
    - 2 \operatorname{tr} (C_1 C_2)^{1/2},

and for a kernel k the maximum mean discrepancy of P and Q is

.. math:: \mathrm{MMD}^2 = E\,k(x, x') + E\,k(y, y') - 2 E\,k(x, y),
    \qquad x, x' \sim P,\; y, y' \sim Q.

Both are 0 for P = Q; the second, for a characteristic kernel, only then.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError
from lorae.linalg.moments import Moments

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""The scales s that :func:`inverse_multiquadratic` sums over by default, as WAE's authors do."""


def inverse_multiquadratic(
    x: Float[Tensor, "n l"], y: Float[Tensor, "m l"], scales: Sequence[float] = SCALES
) -> Float[Tensor, "n m"]:
    r"""Return the kernel matrix :math:`\sum_s C_s / (C_s + \|x_i - y_j\|^2)`, C_s = 2 l s.

    2 l is the mean squared distance of two points of N(0, I), so the scales are in units of that.

    Reference:
        Tolstikhin et al., Wasserstein Auto-Encoders (ICLR 2018), section 4 and its code.

    Args:
        x: n samples.
        y: m samples.
        scales: s, each above 0.

    Example:
        >>> inverse_multiquadratic(torch.zeros(1, 1), torch.tensor([[0.0], [2.0]]), scales=[2.0])
        tensor([[1.0000, 0.5000]])
    """
    square = (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.mT).clamp(min=0)
    constants = [2 * x.shape[1] * scale for scale in scales]
    return torch.stack([c / (c + square) for c in constants]).sum(0)


def mmd(
    x: Float[Tensor, "n l"],
    y: Float[Tensor, "m l"],
    *,
    unbiased: bool = True,
    scales: Sequence[float] = SCALES,
) -> Float[Tensor, ""]:
    r"""Return an estimate of MMD^2 with the inverse multiquadratic kernel.

    The unbiased one (the U-statistic) leaves out the pairs of a sample with itself and can be
    below 0; the other is 0 for identical samples, never below, and too large on average.

    Reference:
        Gretton et al., A Kernel Two-Sample Test (JMLR 2012), equations 3 and 5.

    Args:
        x: n samples, at least 2 if unbiased.
        y: m samples, at least 2 if unbiased.
        unbiased: which of the two.
        scales: of the kernel.

    Raises:
        InputError: if there are too few samples.

    Example:
        >>> x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
        >>> mmd(x, x, unbiased=False).abs().item() < 1e-5, mmd(x, x + 3).item() > 1
        (True, True)
    """
    n, m, least = len(x), len(y), 2 if unbiased else 1
    if min(n, m) < least:
        raise InputError(f"the MMD needs at least {least} samples of each kind, got {n} and {m}")
    xx, yy, xy = (inverse_multiquadratic(a, b, scales) for a, b in ((x, x), (y, y), (x, y)))
    if not unbiased:
        return xx.mean() + yy.mean() - 2 * xy.mean()
    within_x = (xx.sum() - xx.diagonal().sum()) / (n * (n - 1))
    within_y = (yy.sum() - yy.diagonal().sum()) / (m * (m - 1))
    return within_x + within_y - 2 * xy.mean()


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


def cubic(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Return the kernel matrix (x_i . y_j / d + 1)^3, that of the kernel Inception distance.

    Example:
        >>> cubic(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        tensor([[8., 1.]])
    """
    kernel: Tensor = (x @ y.mT / x.shape[1] + 1) ** 3
    return kernel


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
