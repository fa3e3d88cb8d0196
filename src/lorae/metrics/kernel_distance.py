"""The kernel distance with its standard error, which on Inception features is the KID."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.linalg.kernels import cubic
from lorae.utils.validation import check_finite, check_range


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float


def kernel_distance(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, blocks: int = 10
) -> Estimate:
    r"""Return the squared maximum mean discrepancy with the cubic kernel, and its standard error.

    The value is the unbiased estimate (the U-statistic) over all samples, with the kernel
    :func:`lorae.linalg.kernels.cubic`. The error is that of the jackknife over blocks of samples.
    If both sets have the same distribution it is too large by a factor of about the square root of
    2, otherwise it is about right.

    Reference:
        Binkowski et al., Demystifying MMD GANs (ICLR 2018), whose kernel Inception distance is
        instead the mean over random subsets of 1,000.

    Args:
        x: n samples, at least 4, in random order.
        y: m samples, likewise.
        blocks: number of blocks, at least 2; reduced so that each has two samples.

    Example:
        >>> x, y = torch.randn(2, 100, 4, generator=torch.Generator().manual_seed(0))
        >>> same, other = kernel_distance(x, y), kernel_distance(x, y + 1)
        >>> abs(same.value) < 3 * same.error, other.value > 3 * other.error
        (True, True)
    """
    check_range("blocks", blocks, 2)
    fewest = min(len(x), len(y))
    check_range("number of samples", fewest, 4)
    check_finite("samples", x)
    check_finite("samples", y)
    blocks = min(blocks, fewest // 2)
    xs, ys = (samples.double().tensor_split(blocks) for samples in (x, y))
    sizes = torch.tensor([[len(part) for part in parts] for parts in (xs, ys)])
    xx, yy, xy = _block_sums(xs, xs), _block_sums(ys, ys), _block_sums(xs, ys)

    def value(kept: Tensor) -> float:
        n, m = (int(size) for size in sizes[:, kept].sum(1))
        within_x, within_y, across = (float(s[kept][:, kept].sum()) for s in (xx, yy, xy))
        return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * across / (n * m)

    every = torch.arange(blocks)
    without = torch.tensor([value(every[every != b]) for b in range(blocks)], dtype=torch.float64)
    variance = (blocks - 1) * without.var(correction=0)
    return Estimate(value(every), math.sqrt(float(variance)))


def _block_sums(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> Float[Tensor, "b b"]:
    """Return the sum of the kernel over each pair of blocks, without pairs of one sample.

    Only one pair of blocks is in memory at a time.
    """
    sums = torch.zeros(len(xs), len(ys), dtype=torch.float64)
    for i, x in enumerate(xs):
        for j, y in enumerate(ys):
            kernel = cubic(x, y)
            sums[i, j] = kernel.sum() - (kernel.diagonal().sum() if x is y else 0.0)
    return sums
