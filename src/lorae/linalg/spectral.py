r"""Functions of singular values.

A matrix :math:`A = U \operatorname{diag}(\sigma) V^\top` with
:math:`\sigma_1 \ge \dots \ge \sigma_k \ge 0`, :math:`k = \min(m, n)`, has

.. math::
    \|A\|_* = \sum_i \sigma_i, \qquad
    f(A) = U \operatorname{diag}(f(\sigma)) V^\top,

and this module has the three :math:`f` that low-rank autoencoders need, each affine on the
singular values it keeps and zero on the others: :func:`soft_threshold`
(:math:`\sigma - t` on :math:`\sigma > t`), :func:`truncate` (:math:`\sigma` on the :math:`r`
largest) and :func:`polar_factor` (1 on the nonzero ones). Their derivative is the one of
Daleckii and Krein, which divides differences of :math:`f`, never by :math:`\sigma_i - \sigma_j`
alone, and is therefore finite at the zero matrix, at the identity and at repeated values.

The rest are definitions of a rank, given a spectrum: :func:`rank`, :func:`effective_rank`,
:func:`stable_rank`, :func:`participation_ratio`.

Everything is batched over leading dimensions, stays on the device of its argument and runs in
float32 or wider with autocast off: inputs of half precision give results in float32. A matrix
with NaN or infinite entries gives NaN, and :func:`rank` refuses its spectrum.
"""

# ruff: noqa: ARG004 - torch.autograd.Function fixes the signatures of its methods.

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lorae.errors import InputError
from lorae.linalg.svd import SVD, decompose, nan_if_refused, rounding, spectral_map, wide
from lorae.utils.validation import check_finite

THRESHOLDS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Relative thresholds at which a rank is reported."""


def singular_values(matrix: Float[Tensor, "*batch m n"]) -> Float[Tensor, "*batch k"]:
    r"""Return :math:`\sigma_1 \ge \dots \ge \sigma_k`, :math:`k = \min(m, n)`.

    The gradient is finite everywhere; where a value is repeated or zero it is one of many.

    Example:
        >>> singular_values(torch.tensor([[0.0, 3.0], [-4.0, 0.0]]))
        tensor([4., 3.])
    """
    with wide(matrix) as A:
        (sigma,) = nan_if_refused(lambda A: (torch.linalg.svdvals(A),), A)
        return sigma


def nuclear_norm(matrix: Float[Tensor, "*batch m n"]) -> Float[Tensor, "*batch"]:
    r"""Return :math:`\|A\|_* = \sum_i \sigma_i`.

    Its gradient is the :func:`polar_factor`, the subgradient of least norm: zero at the zero
    matrix, finite everywhere. The second derivative is right wherever the norm has one.

    Example:
        >>> A = torch.diag(torch.tensor([3.0, 0.0])).requires_grad_()
        >>> nuclear_norm(A).backward()
        >>> A.grad
        tensor([[1., 0.],
                [0., 0.]])
    """
    with wide(matrix) as A:
        svd = decompose(A)
        polar = _polar(A, svd)
        norm: Tensor = _NuclearNorm.apply(A, svd[1], polar)  # type: ignore[no-untyped-call]
        return norm


def polar_factor(matrix: Float[Tensor, "*batch m n"]) -> Float[Tensor, "*batch m n"]:
    r"""Return :math:`U V^\top` over the nonzero singular values, a partial isometry.

    A value counts as zero up to :math:`\max(m, n)\,\epsilon\,\sigma_1`, where :math:`\epsilon`
    is the spacing of floating-point numbers at 1. The zero matrix gives zero.

    Example:
        >>> polar_factor(torch.diag(torch.tensor([3.0, -2.0, 0.0]))).diagonal()
        tensor([ 1., -1.,  0.])
    """
    with wide(matrix) as A:
        return _polar(A, decompose(A))


def soft_threshold(
    matrix: Float[Tensor, "*batch m n"], threshold: float | Float[Tensor, "*#batch"]
) -> Float[Tensor, "*batch m n"]:
    r"""Return the proximal map of the nuclear norm, :math:`U \max(\Sigma - t, 0) V^\top`.

    .. math::
        \operatorname{prox}_{t \|\cdot\|_*}(A)
        = \operatorname{argmin}_X \tfrac12 \|X - A\|_F^2 + t \|X\|_*

    Directions with :math:`\sigma_i \le t` become exactly zero, so the rank of the result is exact.
    Differentiable in both arguments; at a kink, :math:`\sigma_i = t > 0`, a direction counts as
    dropped. For :math:`t = 0` this is the identity map, and so is its derivative.

    Reference: Cai, Candès and Shen, A singular value thresholding algorithm for matrix
    completion, SIAM Journal on Optimization 20(4), 2010, theorem 2.1.

    Args:
        matrix: :math:`A`.
        threshold: :math:`t \ge 0`, in units of :math:`A`; one, or one for each matrix.

    Example:
        >>> soft_threshold(torch.diag(torch.tensor([3.0, 1.0])), 2.0)
        tensor([[1., 0.],
                [0., 0.]])
    """
    with wide(matrix) as A:
        t = torch.as_tensor(threshold, dtype=A.dtype, device=A.device)
        if not bool((t >= 0).all()):
            raise InputError(f"threshold must be at least 0, got {threshold}")
        t = t.expand(A.shape[:-2]).unsqueeze(-1)
        svd = _, sigma, _ = decompose(A)
        kept = (sigma > t) | (t == 0)
        return spectral_map(A, svd, (sigma - t).relu(), kept, slope=1.0)


def truncate(matrix: Float[Tensor, "*batch m n"], rank: int) -> Float[Tensor, "*batch m n"]:
    r"""Return the best approximation of rank :math:`r`, which keeps the :math:`r` largest values.

    Its derivative exists where :math:`\sigma_r > \sigma_{r+1}`, and grows like
    :math:`\sigma_r / (\sigma_r - \sigma_{r+1})`; at a tie the gap counts as
    :math:`\max(m, n)\,\epsilon\,\sigma_1`, which keeps the gradient finite.

    Reference: Eckart and Young, The approximation of one matrix by another of lower rank,
    Psychometrika 1(3), 1936.

    Args:
        matrix: :math:`A`.
        rank: :math:`r \ge 0`; from :math:`\min(m, n)` on, this is the identity map.
    """
    if rank < 0:
        raise InputError(f"rank must be at least 0, got {rank}")
    with wide(matrix) as A:
        svd = _, sigma, _ = decompose(A)
        kept = (torch.arange(sigma.shape[-1], device=A.device) < rank).expand_as(sigma)
        return spectral_map(A, svd, sigma * kept, kept, slope=1.0)


def rank(singular_values: Float[Tensor, "*batch k"], threshold: float) -> Int[Tensor, "*batch"]:
    r"""Return the number of :math:`\sigma_i > \tau \sigma_1`; 0 for the zero spectrum.

    Args:
        singular_values: :math:`\sigma`, in any order. Its own rounding is about
            :math:`\epsilon \sigma_1`, so a :math:`\tau` near 1e-6 asks for float64.
        threshold: :math:`\tau`, relative, in [0, 1).

    Example:
        >>> rank(torch.tensor([2.0, 1.0, 1e-3]), threshold=1e-2)
        tensor(2)
    """
    if not 0 <= threshold < 1:
        raise InputError(f"threshold must be in [0, 1), got {threshold}")
    check_finite("singular values", singular_values)
    with wide(singular_values) as sigma:
        return (sigma > threshold * sigma.amax(-1, keepdim=True)).sum(-1)


def rank_profile(
    singular_values: Float[Tensor, " k"], thresholds: tuple[float, ...] = THRESHOLDS
) -> dict[float, int]:
    """Return the :func:`rank` at each relative threshold.

    Example:
        >>> rank_profile(torch.tensor([2.0, 1.0, 1e-3]), thresholds=(1e-1, 1e-4))
        {0.1: 2, 0.0001: 3}
    """
    return {threshold: int(rank(singular_values, threshold)) for threshold in thresholds}


def effective_rank(singular_values: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
    r"""Return :math:`\exp(-\sum_i p_i \log p_i)` with :math:`p = \sigma / \sum_i \sigma_i`.

    Between 1 and the rank; 0 for the zero spectrum. The entropy's infinite slope at
    :math:`p_i = 0` counts as 0.

    Reference: Roy and Vetterli, The effective rank: a measure of effective dimensionality,
    EUSIPCO 2007.

    Example:
        >>> effective_rank(torch.tensor([2.0, 2.0, 0.0]))
        tensor(2.)
    """
    with wide(singular_values) as sigma:
        total = sigma.sum(-1, keepdim=True)
        p = _ratio(sigma, total)
        entropy = -(p * p.where(p > 0, 1.0).log()).sum(-1)
        return entropy.exp().where(total.squeeze(-1) != 0, 0.0)


def stable_rank(singular_values: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
    r"""Return :math:`\|A\|_F^2 / \|A\|_2^2 = \sum_i (\sigma_i / \sigma_1)^2`.

    Between 1 and the rank; 0 for the zero spectrum.

    Reference: Rudelson and Vershynin, Sampling from large matrices: an approach through
    geometric functional analysis, Journal of the ACM 54(4), 2007.

    Example:
        >>> stable_rank(torch.tensor([2.0, 1.0, 0.0]))
        tensor(1.2500)
    """
    with wide(singular_values) as sigma:
        return _ratio(sigma, sigma.amax(-1, keepdim=True)).square().sum(-1)


def participation_ratio(eigenvalues: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
    r"""Return :math:`(\sum_i \lambda_i)^2 / \sum_i \lambda_i^2`, for a covariance's spectrum.

    Between 1 and the rank; 0 for the zero spectrum.

    Example:
        >>> participation_ratio(torch.tensor([2.0, 2.0, 0.0]))
        tensor(2.)
    """
    with wide(eigenvalues) as lam:
        p = _ratio(lam, lam.sum(-1, keepdim=True))
        return _ratio(p.sum(-1), p.square().sum(-1))


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide by a denominator that is not negative; where it is 0, so are value and gradient."""
    zero = denominator == 0
    return (numerator / denominator.where(~zero, 1.0)).where(~zero, 0.0)


def _polar(A: Tensor, svd: SVD) -> Tensor:
    kept = svd[1] > rounding(svd)
    return spectral_map(A, svd, kept.to(A.dtype) + 0 * svd[1], kept, slope=0.0)  # NaN stays NaN


class _NuclearNorm(torch.autograd.Function):
    """The sum of the singular values, with the polar factor for a gradient."""

    @staticmethod
    def forward(A: Tensor, sigma: Tensor, polar: Tensor) -> Tensor:
        return sigma.sum(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (polar,) = ctx.saved_tensors
        return grads[0][..., None, None] * polar, None, None
