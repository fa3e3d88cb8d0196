r"""Faster ways to the polar factor, and with it to the nuclear norm and its gradient.

For :math:`A = U \operatorname{diag}(\sigma) V^\top` the norm and the factor
:math:`P = U V^\top` belong together,

.. math:: \|A\|_* = \langle P, A \rangle, \qquad P \in \partial \|A\|_*,

so whoever has P has both. A *way* is how it is had:

`svd`
    the singular value decomposition of :mod:`lorae.linalg.spectral`, against which the others are held;
`gram`
    the eigenvectors of :math:`A^\top A`, half the work (:func:`_by_gram`);
`minimax`
    a polynomial in A, products of matrices and nothing else, as a GPU likes it
    (:func:`_by_minimax`).

Since P changes slowly while A is trained, it need not be had at every step. For *any* Q with
:math:`\|Q\|_2 \le 1`, such as the polar factor of an earlier A',

.. math:: 0 \le \|A\|_* - \langle Q, A \rangle \le 2 \|A - A'\|_*

where the left side holds for any such Q because the spectral norm is dual to the nuclear one, and
the right for the factor of A' because both terms are 1-Lipschitz in that norm: Q is an
:math:`\epsilon`-subgradient, and :math:`\epsilon` is that gap.

As in :mod:`lorae.linalg.spectral`, everything is batched over leading dimensions and runs in float32 or
wider.
"""

# ruff: noqa: ARG004 - torch.autograd.Function fixes the signatures of its methods.

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lorae.linalg import spectral
from lorae.linalg.spectral import once, wide

Way = Literal["svd", "gram", "minimax"]

FLOOR = 1e-3
"""The share of the largest singular value from which the polynomial counts one as not zero."""

TOLERANCE = 1e-3
"""How far the polynomial may be from 1 on the values that it counts."""


def choose(matrix: Float[Tensor, "*batch m n"]) -> Way:
    """Return the way that is fastest for a matrix of this size on this device.

    Measured on one thread of a CPU (`benchmarks/README.md`): from 256 on the eigenvectors of the
    Gram matrix take about 0.6 of the time of the singular value decomposition, and products of
    matrices take longer than they do; below, all are within half a millisecond or so of each
    other, a few thousandths of a training step. In float64, where the eigenvectors would resolve
    more, they take as long as the decomposition. Accelerators are chosen for by what is known of
    them, not measured: their decompositions wait for milliseconds where products take
    microseconds.
    """
    if matrix.dtype == torch.float64:
        return "svd"
    return "gram" if matrix.device.type == "cpu" else "minimax"


def interval(latent: int) -> int:
    """Return the number of steps for which one polar factor, or one proximal step, is to serve.

    1 below 512 latent dimensions, where it costs a few hundredths of a step of the paper's MNIST
    network at most; 4 from there and 8 from 1024 on, where it would cost a tenth and more than
    half of one. The price of a factor that serves for k steps of length r is that singular values
    on their way to zero stop at a noise of about k r, not r, so k is no larger than it has to be.

    Example:
        >>> interval(128), interval(512), interval(1024)
        (1, 4, 8)
    """
    if latent < 512:
        return 1
    return 4 if latent < 1024 else 8


def polar_factor(
    matrix: Float[Tensor, "*batch m n"], way: Way | None = None
) -> Float[Tensor, "*batch m n"]:
    r"""Return :math:`U V^\top` over the nonzero singular values, as a constant.

    Unlike :func:`lorae.linalg.spectral.polar_factor` it passes no gradient on.

    Args:
        matrix: :math:`A`.
        way: how; by default as :func:`choose` says.

    Example:
        >>> polar_factor(torch.diag(torch.tensor([3.0, -2.0, 0.0])), "gram").diagonal()
        tensor([ 1., -1.,  0.])
    """
    with wide(matrix.detach()) as A:
        return WAYS[way or choose(A)](A)


def nuclear_norm(
    matrix: Float[Tensor, "*batch m n"], way: Way | None = None
) -> Float[Tensor, "*batch"]:
    r"""Return :math:`\|A\|_* = \langle P, A \rangle`, with P for a gradient.

    Only the `svd` has a second derivative; the others refuse it.

    Args:
        matrix: :math:`A`.
        way: how; by default as :func:`choose` says.

    Example:
        >>> A = torch.diag(torch.tensor([3.0, 0.0])).requires_grad_()
        >>> nuclear_norm(A, "gram").backward()
        >>> A.grad
        tensor([[1., 0.],
                [0., 0.]])
    """
    with wide(matrix) as A:
        way = way or choose(A)
        if way == "svd":
            return spectral.nuclear_norm(A)
        norm: Tensor = _Norm.apply(A, WAYS[way](A.detach()))  # type: ignore[no-untyped-call]
        return norm


def _by_svd(A: Tensor) -> Tensor:
    return spectral.polar_factor(A)


def _by_gram(A: Tensor) -> Tensor:
    r"""Return :math:`\sum_i \frac{A v_i}{\|A v_i\|} v_i^\top` for eigenvectors of the Gram matrix.

    For any orthonormal :math:`v_i`, :math:`\sum_i \|A v_i\| \ge \|A\|_*`, with equality for
    singular vectors, so the value errs upwards, and by the square of what the vectors err by. The
    Gram matrix squares the spectrum: on the direction of :math:`\sigma_i` the factor errs by about
    :math:`\epsilon\,(\sigma_1 / \sigma_i)^2`, and what lies below :math:`\sqrt\epsilon\,\sigma_1`
    (3e-4 of the largest value in float32) is noise to it. There the :math:`v_i` are a mixture;
    each is still mapped to a vector of length 1, for the lengths are taken from A itself, so that
    such a direction keeps its pull, if a rougher one.
    """
    if A.shape[-2] < A.shape[-1]:
        return _by_gram(A.mT).mT
    V = torch.linalg.eigh(A.mT @ A).eigenvectors
    W = A @ V
    lengths = torch.linalg.vector_norm(W, dim=-2, keepdim=True)
    noise = max(A.shape[-2:]) * torch.finfo(A.dtype).eps * _largest(lengths, -1)
    kept = lengths > noise
    factor: Tensor = torch.where(kept, W / lengths.where(kept, 1.0), 0.0) @ V.mT
    return factor


def _by_minimax(A: Tensor) -> Tensor:
    r"""Return :math:`U f(\Sigma) V^\top` for an odd polynomial f near 1, by products alone.

    With :math:`s = \|A^\top A A^\top A\|_F^{1/4}`, which lies between :math:`\sigma_1` and
    :math:`k^{1/8} \sigma_1`, :func:`compositions` gives polynomials whose composition has

    .. math::
        |f(\sigma) - 1| \le \delta \quad (\sigma \ge \ell s), \qquad
        f \text{ increasing from } 0 \text{ to } 1 - \delta \quad (0 \le \sigma \le \ell s),

    for the floor :math:`\ell` and the tolerance :math:`\delta` of this module, up to rounding. It
    is the gradient of a nuclear norm that is smooth below the floor, as Huber's loss is: small
    values are pulled in proportion to their size. The value :math:`\langle f(A), A\rangle` errs
    by :math:`\delta \|A\|_* + k \ell s` at most.
    """
    if A.shape[-2] < A.shape[-1]:
        return _by_minimax(A.mT).mT
    size = _largest(A.abs(), (-2, -1))
    X: Tensor = A / size.where(size > 0, 1.0)  # so that no fourth power overflows
    G = X.mT @ X
    square = G @ G
    bound = torch.linalg.matrix_norm(square).pow(0.25)[..., None, None]
    scale = bound.where(bound > 0, 1.0)
    X, G, square = X / scale, G / scale**2, square / scale**4
    for step, (a, b, c) in enumerate(compositions(FLOOR, TOLERANCE)):
        if step:
            G = X.mT @ X
            square = G @ G
        X = a * X + X @ (b * G + c * square)
    return X


WAYS: dict[Way, Callable[[Tensor], Tensor]] = {
    "svd": _by_svd,
    "gram": _by_gram,
    "minimax": _by_minimax,
}
"""The polar factor of a constant matrix by each way."""


def _largest(values: Tensor, dim: int | tuple[int, int]) -> Tensor:
    return values.amax(dim, keepdim=True) if values.numel() else values.sum(dim, keepdim=True)


@cache
def compositions(floor: float, tolerance: float) -> tuple[tuple[float, float, float], ...]:
    r"""Return the coefficients of :math:`a x + b x^3 + c x^5`, one triple for each step.

    Applied in turn they take [floor, 1] into [1 - tolerance, 1 + tolerance]. Each step is the
    best approximation of 1 of its degree, in the maximum norm, on the interval into which the
    steps before it have taken [floor, 1]; no other composition of as many such polynomials comes
    nearer to 1.

    Reference: Amsel, Persson, Musco and Gower, The Polar Express: optimal matrix sign methods and
    their application to the Muon algorithm, arXiv 2505.16932, 2025, for that optimality; the best
    approximations are found by exchange, as Remez did in 1934.

    Args:
        floor: the lower end of the interval, in (0, 1).
        tolerance: the greatest distance from 1, in (0, 1).

    Example:
        >>> x = 0.01
        >>> for a, b, c in compositions(floor=0.01, tolerance=1e-4):
        ...     x = a * x + b * x**3 + c * x**5
        >>> abs(x - 1) <= 1e-4
        True
    """
    steps, low, high, error = [], floor, 1.0, 1.0
    while error > tolerance:
        coefficients, error = _best_near_one(low, high)
        steps.append(coefficients)
        low, high = 1 - error, 1 + error
    return tuple(steps)


def _best_near_one(low: float, high: float) -> tuple[tuple[float, float, float], float]:
    """Return a, b, c of the odd polynomial of degree 5 nearest to 1 on [low, high], and how near.

    Its error takes its greatest size, with signs that alternate, at both ends of the interval and
    at the two places inside where the slope is zero. Guess these, solve for the polynomial, move
    them to where its slope is zero.
    """
    inside = np.array([low + (high - low) * share for share in (0.25, 0.75)])
    error = 0.0
    for _ in range(100):
        x = np.array([low, *inside, high])
        signs = np.array([1.0, -1.0, 1.0, -1.0])
        a, b, c, new = np.linalg.solve(np.stack([x, x**3, x**5, signs], 1), np.ones(4))
        discriminant = max(9 * b * b - 20 * a * c, 0.0)
        roots = (-3 * b + np.array([-1, 1]) * np.sqrt(discriminant)) / (10 * c)
        inside = np.sqrt(np.clip(roots, low**2, high**2))
        if abs(abs(new) - error) <= 1e-12:
            break
        error = abs(new)
    return (float(a), float(b), float(c)), float(abs(new))


class _Norm(torch.autograd.Function):
    """<P, A>, with P for a gradient and no second derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(A: Tensor, polar: Tensor) -> Tensor:
        return (polar * A).sum((-2, -1))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        A, polar = ctx.saved_tensors
        gradient = grads[0][..., None, None] * polar
        if torch.is_grad_enabled():  # somebody is to differentiate this
            gradient, _ = once(gradient, grads[0], A)
        return gradient, None
