r"""Fast algorithms for the polar factor, and with it for the nuclear norm and its gradient.

For :math:`A = U \operatorname{diag}(\sigma) V^\top` the polar factor :math:`P = U V^\top` gives
both the norm and a subgradient,

.. math:: \|A\|_* = \langle P, A \rangle, \qquad P \in \partial \|A\|_*.

The algorithms are

`svd`
    the singular value decomposition of :mod:`lorae.linalg.spectral`, the reference;
`minimax`
    a polynomial in A, by matrix products alone, which suits a GPU (:func:`_by_minimax`).

All return a factor of norm at most 1, up to rounding. Since P changes slowly while A is trained,
it can be reused for several steps. For *any* Q with :math:`\|Q\|_2 \le 1`, such as the polar
factor of an earlier A',

.. math:: 0 \le \|A\|_* - \langle Q, A \rangle \le 2 \|A - A'\|_*.

The left side holds for any such Q because the spectral norm is dual to the nuclear norm, the right
for the factor of A' because both terms are 1-Lipschitz in that norm: Q is an
:math:`\epsilon`-subgradient, and :math:`\epsilon` is the difference.

As in :mod:`lorae.linalg.spectral`, everything is batched over leading dimensions and runs in
float32 or wider, and a matrix that is not finite gives NaN.
"""

# ruff: noqa: ARG004 - torch.autograd.Function fixes the signatures of its methods.

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.linalg import spectral
from lorae.linalg.svd import once, wide

Algorithm = Literal["svd", "minimax"]

FLOOR = 1e-3
"""The share of the largest singular value below which `minimax` treats one as zero."""

TOLERANCE = 2e-3
"""How far the polynomial of `minimax` may stay below 1 on the other values."""

POLYNOMIALS = (
    (8.4703288, -25.1080747, 18.6292756),
    (4.18283418, -3.10870111, 0.580606681),
    (3.96185728, -2.95406375, 0.562976118),
    (3.28658622, -2.46472013, 0.507357694),
    (2.27374999, -1.64466037, 0.416190927),
    (1.8867915, -1.26386796, 0.376135233),
)
r"""The coefficients a, b, c of :math:`a x + b x^3 + c x^5`, which `minimax` applies in turn.

Each is the best approximation of 1 of its degree, in the maximum norm, on the image of [FLOOR, 1]
under the previous ones, by the exchange algorithm of Remez; the last is divided by its maximum
plus 1e-4, which leaves room for rounding.

Reference: Amsel, Persson, Musco and Gower, The Polar Express: optimal matrix sign methods and
their application to the Muon algorithm, arXiv 2505.16932, 2025.
"""


def default_algorithm(matrix: Float[Tensor, "*batch m n"]) -> Algorithm:
    """Return `svd` on a CPU and in float64, `minimax` on an accelerator.

    On one thread of a CPU (`benchmarks/README.md`) `minimax` is no faster where the cost matters,
    from 256 dimensions on. The choice for accelerators is not measured: there a decomposition
    takes milliseconds and waits for the device, and a product takes microseconds.
    """
    on_cpu = matrix.device.type == "cpu"
    return "svd" if on_cpu or matrix.dtype == torch.float64 else "minimax"


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

    Unlike :func:`lorae.linalg.spectral.polar_factor` it has no gradient. The algorithm is that of
    :func:`default_algorithm` by default.
    """
    with wide(matrix.detach()) as A:
        return ALGORITHMS[algorithm or default_algorithm(A)](A)


def nuclear_norm(
    matrix: Float[Tensor, "*batch m n"], algorithm: Algorithm | None = None
) -> Float[Tensor, "*batch"]:
    r"""Return :math:`\|A\|_* = \langle P, A \rangle`, with the gradient P.

    Only `svd` has a second derivative; `minimax` raises a NotImplementedError. The algorithm is
    that of :func:`default_algorithm` by default.
    """
    with wide(matrix) as A:
        algorithm = algorithm or default_algorithm(A)
        if algorithm == "svd":
            return spectral.nuclear_norm(A)
        norm: Tensor = _Norm.apply(A, ALGORITHMS[algorithm](A.detach()))  # type: ignore[no-untyped-call]
        return norm


def _by_minimax(A: Tensor) -> Tensor:
    r"""Return :math:`U f(\Sigma) V^\top` for an odd polynomial f near 1, by products alone.

    With :math:`s = \|A^\top A A^\top A\|_F^{1/4}`, which lies between :math:`\sigma_1` and
    :math:`k^{1/8} \sigma_1`, the composition of :data:`POLYNOMIALS` has

    .. math::
        1 - \delta \le f(\sigma) \le 1 \quad (\sigma \ge \ell s), \qquad
        f \text{ increasing from } 0 \quad (0 \le \sigma \le \ell s),

    for the floor :math:`\ell` and the tolerance :math:`\delta` of this module, up to rounding. It
    is the gradient of a nuclear norm that is smooth below the floor, like the Huber loss: small
    singular values shrink in proportion to their size. The value :math:`\langle f(A), A\rangle`
    is below :math:`\|A\|_*` by at most :math:`\delta \|A\|_* + k \ell s`.
    """
    if A.shape[-2] < A.shape[-1]:
        return _by_minimax(A.mT).mT
    X: Tensor = A / _largest(A)  # no fourth power overflows
    G = X.mT @ X
    square = G @ G
    bound = torch.linalg.matrix_norm(square).pow(0.25)[..., None, None]
    scale = (1 + 1e-5) * bound.where(bound != 0, 1.0)  # polynomials rise steeply above 1
    X, G, square = X / scale, G / scale**2, square / scale**4
    for step, (a, b, c) in enumerate(POLYNOMIALS):
        if step:
            G = X.mT @ X
            square = G @ G
        X = a * X + X @ (b * G + c * square)
    return X


ALGORITHMS: dict[Algorithm, Callable[[Tensor], Tensor]] = {
    "svd": spectral.polar_factor,
    "minimax": _by_minimax,
}
"""The functions that compute the polar factor of a constant matrix, by name."""


def _largest(A: Tensor) -> Float[Tensor, "*batch 1 1"]:
    """Return the largest absolute value, 1 for the zero matrix, NaN if it is infinite."""
    size = A.abs().amax((-2, -1), keepdim=True)
    return size.where(size != 0, 1.0) + 0 * size


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
