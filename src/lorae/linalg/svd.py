r"""The singular value decomposition, and the derivative of functions of singular values.

Singular vectors are no functions of a matrix where singular values are repeated or zero, so
decompositions are constants here, and :func:`spectral_map` brings the derivative of a function
:math:`U \operatorname{diag}(f(\sigma)) V^\top`, which is one.

A matrix with NaN or infinite entries has singular values and vectors that are NaN.
"""

# ruff: noqa: ARG004 - torch.autograd.Function fixes the signatures of its methods.

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SVD = tuple[Float[Tensor, "*batch m k"], Float[Tensor, "*batch k"], Float[Tensor, "*batch k n"]]


@contextmanager
def wide(values: Float[Tensor, "..."]) -> Iterator[Float[Tensor, "..."]]:
    """Yield values in float32 or wider, with autocast off."""
    with torch.autocast(values.device.type, enabled=False):
        yield widen(values)


def widen(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return values in float32 or wider."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def decompose(A: Float[Tensor, "*batch m n"]) -> SVD:
    r"""Return constant :math:`U, \sigma, V^\top`."""
    U, sigma, Vh = nan_if_refused(partial(torch.linalg.svd, full_matrices=False), A.detach())
    return U, sigma, Vh


def nan_if_refused(
    algorithm: Callable[[Tensor], tuple[Tensor, ...]], A: Float[Tensor, "*batch m n"]
) -> tuple[Tensor, ...]:
    """Return what an algorithm does for a batch, with NaN for matrices that are not finite.

    LAPACK refuses such matrices, so that nothing is checked unless it does.
    """
    try:
        return algorithm(A)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        finite = A.isfinite().all(-1).all(-1)
        if bool(finite.all()):
            raise
        parts = algorithm(A.where(finite[..., None, None], 0.0))
        shapes = [finite.shape + (1,) * (part.ndim - finite.ndim) for part in parts]
        pairs = zip(parts, shapes, strict=True)
        return tuple(part.where(finite.view(shape), torch.nan) for part, shape in pairs)


def rounding(svd: SVD) -> Float[Tensor, "*batch one"]:
    r"""Return :math:`\max(m, n)\,\epsilon\,\sigma_1`, below which a singular value is noise."""
    U, sigma, Vh = svd
    return sigma[..., :1] * (max(U.shape[-2], Vh.shape[-1]) * torch.finfo(sigma.dtype).eps)


def spectral_map(
    A: Float[Tensor, "*batch m n"],
    svd: SVD,
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
    r"""The map of :func:`spectral_map` and its derivative, which is its own adjoint.

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
    svd: SVD, values: Tensor, kept: Tensor, slope: float
) -> tuple[Float[Tensor, "*batch k k"], Float[Tensor, "*batch k k"]]:
    r"""Return the divided differences of :math:`f`, and the sums of values over sums.

    Between two kept values, or two dropped ones, the difference is known without dividing.
    """
    s, f, k = svd[1].unsqueeze(-1), values.unsqueeze(-1), kept.unsqueeze(-1)
    noise = rounding(svd).unsqueeze(-1).clamp(min=torch.finfo(s.dtype).tiny)
    gap, total = (s - s.mT).abs().maximum(noise), s + s.mT
    even = torch.where(k == k.mT, slope * k, (f - f.mT).abs() / gap)
    odd = torch.where(total > 0, (f + f.mT) / total, slope * k)
    return even, odd
