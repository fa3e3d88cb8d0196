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
float32 or wider with autocast off: inputs of half precision give results in float32.
"""

# ruff: noqa: ARG004 - torch.autograd.Function fixes the signatures of its methods.

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lorae.errors import InputError

THRESHOLDS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Relative thresholds at which a rank is reported."""

_SVD = tuple[Float[Tensor, "*batch m k"], Float[Tensor, "*batch k"], Float[Tensor, "*batch k n"]]


def singular_values(matrix: Float[Tensor, "*batch m n"]) -> Float[Tensor, "*batch k"]:
    r"""Return :math:`\sigma_1 \ge \dots \ge \sigma_k`, :math:`k = \min(m, n)`.

    The gradient is finite everywhere; where a value is repeated or zero it is one of many.

    Example:
        >>> singular_values(torch.tensor([[0.0, 3.0], [-4.0, 0.0]]))
        tensor([4., 3.])
    """
    with wide(matrix) as A:
        sigma: Tensor = torch.linalg.svdvals(A)
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
        svd = _svd(A)
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
        return _polar(A, _svd(A))


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

    Raises:
        InputError: A threshold is negative or not a number.

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
        svd = _, sigma, _ = _svd(A)
        kept = (sigma > t) | (t == 0)
        return _spectral_map(A, svd, (sigma - t).relu(), kept, slope=1.0)


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

    Raises:
        InputError: The rank is negative.

    Example:
        >>> truncate(torch.diag(torch.tensor([3.0, 1.0])), rank=1)
        tensor([[3., 0.],
                [0., 0.]])
    """
    if rank < 0:
        raise InputError(f"rank must be at least 0, got {rank}")
    with wide(matrix) as A:
        svd = _, sigma, _ = _svd(A)
        kept = (torch.arange(sigma.shape[-1], device=A.device) < rank).expand_as(sigma)
        return _spectral_map(A, svd, sigma * kept, kept, slope=1.0)


def rank(singular_values: Float[Tensor, "*batch k"], threshold: float) -> Int[Tensor, "*batch"]:
    r"""Return the number of :math:`\sigma_i > \tau \sigma_1`; 0 for the zero spectrum.

    Args:
        singular_values: :math:`\sigma`, in any order. Its own rounding is about
            :math:`\epsilon \sigma_1`, so a :math:`\tau` near 1e-6 asks for float64.
        threshold: :math:`\tau`, relative, in [0, 1).

    Raises:
        InputError: The threshold is outside [0, 1).

    Example:
        >>> rank(torch.tensor([2.0, 1.0, 1e-3]), threshold=1e-2)
        tensor(2)
    """
    if not 0 <= threshold < 1:
        raise InputError(f"threshold must be in [0, 1), got {threshold}")
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
        return entropy.exp().where(total.squeeze(-1) > 0, 0.0)


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


@contextmanager
def wide(values: Float[Tensor, "..."]) -> Iterator[Float[Tensor, "..."]]:
    """Yield values in float32 or wider, with autocast off."""
    with torch.autocast(values.device.type, enabled=False):
        yield values.to(torch.promote_types(values.dtype, torch.float32))


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide by a denominator that is not negative; where it is 0, so are value and gradient."""
    positive = denominator > 0
    return (numerator / denominator.where(positive, 1.0)).where(positive, 0.0)


def _svd(A: Tensor) -> _SVD:
    r"""Return constant :math:`U, \sigma, V^\top`; derivatives are :class:`_SpectralMap`'s."""
    U, sigma, Vh = torch.linalg.svd(A.detach(), full_matrices=False)
    return U, sigma, Vh


def _rounding(svd: _SVD) -> Float[Tensor, "*batch one"]:
    r"""Return :math:`\max(m, n)\,\epsilon\,\sigma_1`, below which a singular value is noise."""
    U, sigma, Vh = svd
    return sigma[..., :1] * (max(U.shape[-2], Vh.shape[-1]) * torch.finfo(sigma.dtype).eps)


def _polar(A: Tensor, svd: _SVD) -> Tensor:
    kept = svd[1] > _rounding(svd)
    return _spectral_map(A, svd, kept.to(A.dtype), kept, slope=0.0)


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


def _spectral_map(
    A: Float[Tensor, "*batch m n"],
    svd: _SVD,
    values: Float[Tensor, "*batch k"],
    kept: Bool[Tensor, "*batch k"],
    slope: float,
) -> Float[Tensor, "*batch m n"]:
    r"""Return :math:`U \operatorname{diag}(f(\sigma)) V^\top`, once differentiable in :math:`A`.

    Its `values` are :math:`f(\sigma)`, descending like :math:`\sigma` and differentiable in
    parameters of :math:`f`; :math:`f` is affine with this `slope` where `kept`, and 0 elsewhere.
    """
    mapped: Tensor = _SpectralMap.apply(  # type: ignore[no-untyped-call]
        A, *svd, values, kept, slope
    )
    return mapped


class _SpectralMap(torch.autograd.Function):
    r"""The map of :func:`_spectral_map` and its derivative, which is its own adjoint.

    With :math:`C = U^\top G V` for a direction :math:`G`, split into symmetric and skew parts,

    .. math::
        Df(A)[G] = U \Big(
            \tfrac{f_i - f_j}{\sigma_i - \sigma_j} \circ \tfrac{C + C^\top}{2}
            + \tfrac{f_i + f_j}{\sigma_i + \sigma_j} \circ \tfrac{C - C^\top}{2} \Big) V^\top
            + (I - U U^\top) G V \tfrac{f}{\sigma} V^\top
            + U \tfrac{f}{\sigma} U^\top G (I - V V^\top).

    Reference: Daleckii and Krein, 1965, for symmetric matrices; Noferini, A formula for the
    Fréchet derivative of a generalized matrix function, SIMAX 38(2), 2017.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd sees tensors only where they are arguments
        A: Tensor,
        U: Tensor,
        sigma: Tensor,
        Vh: Tensor,
        values: Tensor,
        kept: Tensor,
        slope: float,
    ) -> Tensor:
        return (U * values.unsqueeze(-2)) @ Vh

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.slope = inputs
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if grads[0] is None:  # the nuclear norm needs its polar factor, but not this derivative
            return (None,) * 7
        A, U, sigma, Vh, values, kept = ctx.saved_tensors
        with wide(grads[0]) as G:
            C = U.mT @ G @ Vh.mT
            even, odd = _quotients((U, sigma, Vh), values, kept, ctx.slope)
            symmetric = (C + C.mT) / 2
            result = U @ (even * symmetric + odd * (C - symmetric)) @ Vh
            ratio = odd.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)
            if U.shape[-2] > Vh.shape[-1]:
                result = result + (G @ Vh.mT - U @ C) * ratio @ Vh
            if U.shape[-2] < Vh.shape[-1]:
                result = result + U * ratio @ (U.mT @ G - C @ Vh)
        result, by_value = once(result, C.diagonal(dim1=-2, dim2=-1), A)
        return result, None, None, None, by_value, None, None


def once(by_matrix: Tensor, by_value: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    """Return two derivatives of a function of A that cannot be differentiated again.

    Singular vectors are constants here, and `once_differentiable` is silent under `torch.func`.
    """
    first, second = _Once.apply(by_matrix, by_value, A)  # type: ignore[no-untyped-call]
    return first, second


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(by_matrix: Tensor, by_value: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
        return by_matrix.clone(), by_value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise NotImplementedError("functions of singular values have one derivative, not two")


def _quotients(
    svd: _SVD, values: Tensor, kept: Tensor, slope: float
) -> tuple[Float[Tensor, "*batch k k"], Float[Tensor, "*batch k k"]]:
    r"""Return the divided differences of :math:`f`, and the sums of values over sums.

    Between two kept values, or two dropped ones, the difference is known without dividing.
    """
    s, f, k = svd[1].unsqueeze(-1), values.unsqueeze(-1), kept.unsqueeze(-1)
    noise = _rounding(svd).unsqueeze(-1).clamp(min=torch.finfo(s.dtype).tiny)
    gap, total = (s - s.mT).abs().maximum(noise), s + s.mT
    even = torch.where(k == k.mT, slope * k, (f - f.mT).abs() / gap)
    odd = torch.where(total > 0, (f + f.mT) / total, slope * k)
    return even, odd
