r"""Fast algorithms for the polar factor, and with it for the nuclear norm and its gradient.

For :math:`A = U \operatorname{diag}(\sigma) V^\top` the polar factor :math:`P = U V^\top` gives
both the norm and a subgradient,

.. math:: \|A\|_* = \langle P, A \rangle, \qquad P \in \partial \|A\|_*.

The algorithms are

`svd`
    the singular value decomposition of :mod:`lorae.linalg.spectral`, the reference;
`gram`
    the eigenvectors of :math:`A^\top A`, half the work (:func:`_by_gram`);
`minimax`
    a polynomial in A, by matrix products alone, which suits a GPU (:func:`_by_minimax`).

Since P changes slowly while A is trained, it can be reused for several steps. For *any* Q with
:math:`\|Q\|_2 \le 1`, such as the polar factor of an earlier A',

.. math:: 0 \le \|A\|_* - \langle Q, A \rangle \le 2 \|A - A'\|_*.

The left side holds for any such Q because the spectral norm is dual to the nuclear norm, the right
for the factor of A' because both terms are 1-Lipschitz in that norm: Q is an
:math:`\epsilon`-subgradient, and :math:`\epsilon` is the difference.

As in :mod:`lorae.linalg.spectral`, everything is batched over leading dimensions and runs in
float32 or wider.
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
from lorae.linalg.svd import once, wide

Algorithm = Literal["svd", "gram", "minimax"]

FLOOR = 1e-3
"""The share of the largest singular value below which `minimax` treats one as zero."""

TOLERANCE = 1e-3
"""The largest distance of the polynomial of `minimax` from 1 on the other values."""


def default_algorithm(matrix: Float[Tensor, "*batch m n"]) -> Algorithm:
    """Return the fastest algorithm for a matrix of this type on this device.

    On one thread of a CPU (`benchmarks/README.md`), `gram` takes about 0.6 of the time of `svd`
    from 256 dimensions on, and `minimax` longer; below, all take about the same, a few thousandths
    of a training step. In float64, where the eigenvectors would be more accurate, they take as
    long as the singular value decomposition. The choice for accelerators is not measured: there a
    decomposition takes milliseconds and a product microseconds.
    """
    if matrix.dtype == torch.float64:
        return "svd"
    return "gram" if matrix.device.type == "cpu" else "minimax"


def update_interval(latent: int) -> int:
    """Return the number of steps for which a polar factor, or a proximal step, is used.

    It is 1 below 512 latent dimensions, where the factor costs at most a few hundredths of a step
    of the paper's MNIST network; 4 from 512 and 8 from 1024 on, where it would cost more than a
    tenth and more than half of a step. With steps of length r, singular values that decrease to
    zero stop at a noise of about k r for an interval k, so k is no larger than necessary.

    Example:
        >>> update_interval(128), update_interval(512), update_interval(1024)
        (1, 4, 8)
    """
    if latent < 512:
        return 1
    return 4 if latent < 1024 else 8


def polar_factor(
    matrix: Float[Tensor, "*batch m n"], algorithm: Algorithm | None = None
) -> Float[Tensor, "*batch m n"]:
    r"""Return :math:`U V^\top` over the nonzero singular values, as a constant.

    Unlike :func:`lorae.linalg.spectral.polar_factor` it has no gradient.

    Args:
        matrix: :math:`A`.
        algorithm: by default :func:`default_algorithm`.

    Example:
        >>> polar_factor(torch.diag(torch.tensor([3.0, -2.0, 0.0])), "gram").diagonal()
        tensor([ 1., -1.,  0.])
    """
    with wide(matrix.detach()) as A:
        return ALGORITHMS[algorithm or default_algorithm(A)](A)


def nuclear_norm(
    matrix: Float[Tensor, "*batch m n"], algorithm: Algorithm | None = None
) -> Float[Tensor, "*batch"]:
    r"""Return :math:`\|A\|_* = \langle P, A \rangle`, with the gradient P.

    Only `svd` has a second derivative; the others raise a NotImplementedError.

    Args:
        matrix: :math:`A`.
        algorithm: by default :func:`default_algorithm`.

    Example:
        >>> A = torch.diag(torch.tensor([3.0, 0.0])).requires_grad_()
        >>> nuclear_norm(A, "gram").backward()
        >>> A.grad
        tensor([[1., 0.],
                [0., 0.]])
    """
    with wide(matrix) as A:
        algorithm = algorithm or default_algorithm(A)
        if algorithm == "svd":
            return spectral.nuclear_norm(A)
        norm: Tensor = _Norm.apply(A, ALGORITHMS[algorithm](A.detach()))  # type: ignore[no-untyped-call]
        return norm


def _by_svd(A: Tensor) -> Tensor:
    return spectral.polar_factor(A)


def _by_gram(A: Tensor) -> Tensor:
    r"""Return :math:`\sum_i \frac{A v_i}{\|A v_i\|} v_i^\top` for eigenvectors of the Gram matrix.

    For any orthonormal :math:`v_i`, :math:`\sum_i \|A v_i\| \ge \|A\|_*`, with equality for
    singular vectors, so the value is too large, by the square of the error of the vectors. The
    Gram matrix squares the spectrum: in the direction of :math:`\sigma_i` the error of the factor
    is about :math:`\epsilon\,(\sigma_1 / \sigma_i)^2`. Below :math:`\sqrt\epsilon\,\sigma_1`
    (3e-4 of the largest value in float32) the :math:`v_i` are a mixture of singular vectors. Each
    is still mapped to a vector of length 1, since the lengths are computed from A itself, so the
    gradient keeps shrinking such directions, if less accurately.
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
    is the gradient of a nuclear norm that is smooth below the floor, like the Huber loss: small
    singular values shrink in proportion to their size. The error of
    :math:`\langle f(A), A\rangle` is at most :math:`\delta \|A\|_* + k \ell s`.
    """
    if A.shape[-2] < A.shape[-1]:
        return _by_minimax(A.mT).mT
    size = _largest(A.abs(), (-2, -1))
    X: Tensor = A / size.where(size > 0, 1.0)  # no fourth power overflows
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


ALGORITHMS: dict[Algorithm, Callable[[Tensor], Tensor]] = {
    "svd": _by_svd,
    "gram": _by_gram,
    "minimax": _by_minimax,
}
"""The functions that compute the polar factor of a constant matrix, by name."""


def _largest(values: Tensor, dim: int | tuple[int, int]) -> Tensor:
    return values.amax(dim, keepdim=True) if values.numel() else values.sum(dim, keepdim=True)


@cache
def compositions(floor: float, tolerance: float) -> tuple[tuple[float, float, float], ...]:
    r"""Return the coefficients of :math:`a x + b x^3 + c x^5`, one triple for each step.

    Applied in turn they map [floor, 1] into [1 - tolerance, 1 + tolerance]. Each is the best
    approximation of 1 of its degree, in the maximum norm, on the image of [floor, 1] under the
    previous ones; no other composition of as many such polynomials is closer to 1.

    Reference: Amsel, Persson, Musco and Gower, The Polar Express: optimal matrix sign methods and
    their application to the Muon algorithm, arXiv 2505.16932, 2025, for the optimality; the best
    approximations are found by the exchange algorithm of Remez (1934).

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
    """Return a, b, c of the odd polynomial of degree 5 nearest to 1 on [low, high], and its error.

    The error equioscillates: it has its largest size, with alternating signs, at both ends and at
    two interior points where the slope is zero. Guess these points, solve for the polynomial, move
    them to where its slope is zero, and repeat.
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
    """<P, A>, with the gradient P and no second derivative."""

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
        if torch.is_grad_enabled():  # a second derivative is asked for
            gradient, _ = once(gradient, grads[0], A)
        return gradient, None
