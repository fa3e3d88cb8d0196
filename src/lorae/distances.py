r"""Distances between samples of two distributions.

For a kernel k, the maximum mean discrepancy of P and Q is

.. math:: \mathrm{MMD}^2 = E\,k(x, x') + E\,k(y, y') - 2 E\,k(x, y),
    \qquad x, x' \sim P,\; y, y' \sim Q,

which is 0 for P = Q, and for a characteristic kernel only then.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""The scales s that :func:`inverse_multiquadratic` sums over by default, as WAE's authors do."""


def inverse_multiquadratic(
    x: Float[Tensor, "n l"], y: Float[Tensor, "m l"], scales: Sequence[float] = SCALES
) -> Float[Tensor, "n m"]:
    r"""Return the kernel matrix :math:`\sum_s C_s / (C_s + \|x_i - y_j\|^2)`, C_s = 2 l s.

    2 l is the mean squared distance of two points of N(0, I), so the scales are in units of that.

    Reference:
        Tolstikhin et al., Wasserstein Auto-Encoders (ICLR 2018), section 4 and its code.
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
