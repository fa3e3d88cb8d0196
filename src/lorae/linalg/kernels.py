r"""Positive definite kernels, and the maximum mean discrepancy that one defines.

For a kernel k the maximum mean discrepancy of two distributions P and Q is

.. math:: \mathrm{MMD}^2 = E\,k(x, x') + E\,k(y, y') - 2 E\,k(x, y),
    \qquad x, x' \sim P,\; y, y' \sim Q.

It is 0 for P = Q and, if the kernel is characteristic, only then.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError
from lorae.linalg.svd import wide

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""The default scales s of :func:`inverse_multiquadratic`, those of the WAE's authors."""
_FARTHEST = 1e15  # its square is finite in float32


def inverse_multiquadratic(
    x: Float[Tensor, "n l"], y: Float[Tensor, "m l"], scales: Sequence[float] = SCALES
) -> Float[Tensor, "n m"]:
    r"""Return the kernel matrix :math:`\sum_s C_s / (C_s + \|x_i - y_j\|^2)`, C_s = 2 l s.

    The mean squared distance between two draws from N(0, I) is 2 l, the unit of the scales.
    Distances are computed from differences, so they lose no digits where the codes are far from
    the origin. Beyond 1e15, where the kernel is below 1e-28 l, they count as 1e15, so that no
    square overflows and gradients are 0 there.

    Reference:
        Tolstikhin et al., Wasserstein Auto-Encoders (ICLR 2018), section 4 and its code.

    Example:
        >>> inverse_multiquadratic(torch.zeros(1, 1), torch.tensor([[0.0], [2.0]]), scales=[2.0])
        tensor([[1.0000, 0.5000]])
    """
    with wide(x) as a, wide(y) as b:
        distance = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
        square = distance.clamp(max=_FARTHEST).square()
        constants = [2 * x.shape[1] * scale for scale in scales]
        return torch.stack([c / (c + square) for c in constants]).sum(0)


def cubic(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    r"""Return the kernel matrix :math:`(x_i^\top y_j / d + 1)^3` of the kernel Inception distance.

    Reference:
        Binkowski et al., Demystifying MMD GANs (ICLR 2018).
    """
    kernel: Tensor = (x @ y.mT / x.shape[1] + 1) ** 3
    return kernel


def mmd(x: Float[Tensor, "n l"], y: Float[Tensor, "m l"]) -> Float[Tensor, ""]:
    r"""Return the unbiased estimate of MMD^2 with the inverse multiquadratic kernel.

    It leaves out the pairs of a sample with itself (the U-statistic), and can be negative.

    Reference:
        Gretton et al., A Kernel Two-Sample Test (JMLR 2012), equation 3.

    Example:
        >>> x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
        >>> mmd(x, x + 3).item() > 1
        True
    """
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise InputError(f"x and y must have at least 2 samples each, got {n} and {m}")
    xx, yy, xy = (inverse_multiquadratic(a, b) for a, b in ((x, x), (y, y), (x, y)))
    within_x = (xx.sum() - xx.diagonal().sum()) / (n * (n - 1))
    within_y = (yy.sum() - yy.diagonal().sum()) / (m * (m - 1))
    return within_x + within_y - 2 * xy.mean()
