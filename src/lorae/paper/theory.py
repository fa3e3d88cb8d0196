r"""The paper's Theorem 1 and Proposition 1, as functions to compare with measurements.

Theorem 1 is about Algorithm 1 over the whole training set. With :math:`\|\nabla L\| \le \gamma`, a
gradient of Lipschitz constant K, :math:`\delta = \gamma / \epsilon` and
:math:`\Delta = L(\theta_0) - L^*`, a step :math:`-\alpha A_t m_t` with
:math:`A_t = (V_t^{1/2} + \epsilon)^{-1}` is no longer than :math:`\alpha \delta`, so

.. math:: L(\theta_{t+1}) \le L(\theta_t) - \alpha \langle \nabla L(\theta_t), A_t m_t \rangle
    + \tfrac12 K \alpha^2 \delta^2.

Summed over T steps, with the rate that minimizes the right side,

.. math:: \alpha = \sqrt{\frac{2 \Delta}{K \delta^2 T}} \quad\Rightarrow\quad
    \min_t \langle \nabla L(\theta_t), A_t m_t \rangle \le \sqrt{\frac{2 \Delta K \delta^2}{T}},

and for :math:`\beta_1 = 0`, where :math:`m_t = \nabla L(\theta_t)` and
:math:`A_t \ge 1 / (\gamma + \epsilon)`,

.. math:: \min_t \|\nabla L(\theta_t)\|^2 \le (\gamma + \epsilon)
    \sqrt{\frac{2 \Delta K \delta^2}{T}},

so the gradient decreases like :math:`T^{-1/4}`, as the paper says.

The printed statement differs from this one and has to be corrected:

- It bounds :math:`\|L\|` where it means :math:`\|\nabla L\|`.
- It calls the loss K-Lipschitz; a rate needs a K-Lipschitz gradient.
- It uses :math:`\sigma` for the accuracy and, like :math:`\gamma`, for the bound of the gradient.
- Its :math:`\alpha` is :math:`\sigma / (\sqrt{2 \Delta} / K \delta^2 T)`, which grows with T; the
  inequality gives the one above.

The nuclear norm has no Lipschitz gradient where a singular value is zero, and the gradient of a
squared error is bounded only on bounded sets, so K and :math:`\gamma` exist at most along a run.
Because :math:`\delta^2` is proportional to :math:`1 / \epsilon^2`, the rate is negligible with
Adam's usual :math:`\epsilon` of 1e-8.

Reference:
    Mazumder et al. (WACV 2024), Algorithm 1, Theorem 1 and Proposition 1.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError
from lorae.utils.validation import check_range

Loss = Callable[[], Tensor]
"""A function that computes the loss at the current parameters."""


@dataclass(frozen=True)
class Descent:
    """Losses and gradients along a run.

    Attributes:
        losses: before each step.
        gradients: norms of the gradient before each step.
    """

    losses: Float[Tensor, " t"]
    gradients: Float[Tensor, " t"]

    def least(self, steps: int) -> float:
        """Return the least norm of a gradient before the steps 1 to `steps`."""
        return float(self.gradients[:steps].min())


def algorithm_1(  # noqa: PLR0917 - in the order of the paper's input
    loss: Loss,
    parameters: Sequence[Tensor],
    steps: int,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
) -> Descent:
    r"""Minimise a loss by the paper's Algorithm 1, Adam without bias correction, in place.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad
        v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
        \theta \leftarrow \theta - \alpha \, m / (\sqrt v + \epsilon).

    Args:
        loss: of all training samples, for the deterministic version of Theorem 1.
        parameters: :math:`\theta`, changed in place.
        steps: T.
        learning_rate: :math:`\alpha`.
        betas: :math:`\beta_1` and :math:`\beta_2`, 0 or more and below 1.
        epsilon: :math:`\epsilon`, above 0.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> run = algorithm_1(lambda: x.square().sum(), [x], steps=100, learning_rate=1e-2)
        >>> bool(run.gradients[-1] < run.gradients[0])
        True
    """
    beta_1, beta_2 = betas
    m, v = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    losses, norms = [], []
    for _ in range(steps):
        value = loss()
        gradients = torch.autograd.grad(value, parameters)
        losses.append(value.detach())
        norms.append(_norm(gradients))
        with torch.no_grad():
            for theta, g, m_theta, v_theta in zip(parameters, gradients, m, v, strict=True):
                m_theta.mul_(beta_1).add_(g, alpha=1 - beta_1)
                v_theta.mul_(beta_2).addcmul_(g, g, value=1 - beta_2)
                theta.addcdiv_(m_theta, v_theta.sqrt() + epsilon, value=-learning_rate)
    return Descent(torch.stack(losses).double(), torch.stack(norms).double())


def learning_rate(
    gap: float, lipschitz: float, gradient: float, steps: int, epsilon: float = 1e-8
) -> float:
    r"""Return the rate of Theorem 1, :math:`\sqrt{2 \Delta / (K \delta^2 T)}`.

    Args:
        gap: :math:`\Delta = L(\theta_0) - L^*`, at most :math:`L(\theta_0)` for a loss that is
            never negative.
        lipschitz: K.
        gradient: :math:`\gamma`, with :math:`\delta = \gamma / \epsilon`.
        steps: T.
        epsilon: :math:`\epsilon`.

    Example:
        >>> learning_rate(gap=2.0, lipschitz=1.0, gradient=1.0, steps=4, epsilon=1.0)
        1.0
    """
    _check_positive(gap=gap, lipschitz=lipschitz, gradient=gradient, steps=steps, epsilon=epsilon)
    return math.sqrt(2 * gap / (lipschitz * steps)) * epsilon / gradient


def bound(
    gap: float, lipschitz: float, gradient: float, steps: int, epsilon: float = 1e-8
) -> float:
    r"""Return the upper bound of :math:`\min_t \|\nabla L(\theta_t)\|` at that rate.

    It holds for :math:`\beta_1 = 0`, by the proof above; with momentum,
    :math:`\langle \nabla L, A_t m_t \rangle` may be negative, and the order :math:`T^{-1/4}` is
    what the paper claims.

    Its arguments are those of :func:`learning_rate`.
    """
    _check_positive(gap=gap, lipschitz=lipschitz, gradient=gradient, steps=steps, epsilon=epsilon)
    delta = gradient / epsilon
    return math.sqrt((gradient + epsilon) * delta * math.sqrt(2 * gap * lipschitz / steps))


def curvature(
    loss: Loss,
    parameters: Sequence[Tensor],
    iterations: int = 20,
    generator: torch.Generator | None = None,
) -> float:
    r"""Return a lower bound of K, the norm of the Hessian's product with a unit vector.

    .. math:: K \ge \|\nabla^2 L(\theta)\|_2 \ge \|\nabla^2 L(\theta)\, v\|, \qquad \|v\| = 1,

    where v comes from the power method, which needs only products of the Hessian with vectors. K is
    the Lipschitz constant of the gradient near this point; elsewhere it may be larger.

    The loss is twice differentiable at the parameters; the nuclear norm is in float64, where no
    singular value is exactly zero.
    """
    check_range("iterations", iterations, 1)
    gradients = torch.autograd.grad(loss(), parameters, create_graph=True)
    v: Sequence[Tensor] = [
        torch.randn(p.shape, generator=generator, dtype=p.dtype).to(p.device) for p in parameters
    ]
    product = partial(torch.autograd.grad, gradients, parameters, retain_graph=True)
    stretch = 0.0
    for _ in range(iterations):
        size = _norm(v)
        if not size > 0:
            return stretch
        v = product([part / size for part in v], materialize_grads=True)
        stretch = max(stretch, float(_norm(v)))
    return stretch


def fit_exponent(x: Sequence[float], y: Sequence[float]) -> float:
    r"""Return the exponent p of y = c x^p: the slope of :math:`\log y` over :math:`\log x`.

    Ranks at a limit (1 or the latent dimension l) bias it towards 0 and should be left out.

    Proposition 1 says that the rank is :math:`O(1 / \lambda)`, an exponent of -1. As a bound that
    is no restriction for small :math:`\lambda`, because no rank exceeds l. The figures of the
    paper's own Table 7 have an exponent of -0.26.

    Example:
        >>> round(fit_exponent([1e-1, 1e-2, 1e-3, 1e-4, 1e-5], [7, 8, 18, 40, 65]), 3)
        -0.263
    """
    if len(x) != len(y) or len(set(x)) < 2 or not all(0 < v < math.inf for v in (*x, *y)):
        raise InputError(
            "x and y must be positive numbers of equal count with at least two distinct x, got "
            f"{list(x)} and {list(y)}"
        )
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of all entries of several tensors."""
    parts: list[Tensor] = [torch.linalg.vector_norm(t.detach()) for t in tensors]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(parts))
    return norm


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        check_range(name, value, 0, open_low=True)
