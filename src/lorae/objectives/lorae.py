r"""Low-rank autoencoders: the reconstruction error with the nuclear norm of M as a penalty.

.. math:: L(x) = \text{mean}\,(D(M E(x)) - x)^2 + \lambda \|M\|_*

The norm acts through its subgradient (:class:`LoRAE`), through its proximal map
(:class:`ProximalLoRAE`) or through a sum of squares over two factors (:class:`FactoredLoRAE`).
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.linalg import polar, spectral
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.bridges.low_rank import Factored, LowRank
from lorae.objectives.base import Penalized, Terms, require_bridge
from lorae.utils.validation import check_range

_BETAS = (0.9, 0.999)  # of the running means of the gradient by M and of its square
_TINY = 1e-12


class LoRAE(Penalized):
    r"""The Low-Rank Autoencoder: reconstruction + weight * ||M||_*.

    The nuclear norm is followed along its subgradient :math:`U V^T`, so small singular values
    shrink without becoming zero, and the rank depends on a threshold.

    For a large matrix the subgradient Q is computed only every k steps, and in between the penalty
    is weight * <Q, M>. It never exceeds the weighted norm, and if Q is the subgradient at M', the
    difference is at most 2 * weight * ||M - M'||_* (:mod:`lorae.linalg.polar`).

    Reference:
        Mazumder et al. (WACV 2024), equations 1 and 2. The default weight is the paper's best for
        MNIST (Table 7).

    Args:
        model: an autoencoder whose bridge has a matrix.
        weight: lambda, at least 0.
        every: k, at least 1; by default :func:`lorae.linalg.polar.update_interval`.

    Example:
        >>> from lorae.nn.autoencoder import Architecture, build
        >>> objective = LoRAE(build(Architecture("mlp", (6,), 3, "low-rank")), weight=1e-2)
        >>> terms = objective(torch.rand(5, 6))
        >>> list(terms), torch.stack(list(terms.values())).sum().requires_grad
        (['reconstruction', 'nuclear_norm'], True)
    """

    polar: Tensor

    def __init__(self, model: Autoencoder, weight: float = 1e-3, every: int | None = None) -> None:
        super().__init__(model, weight)
        self.every = _interval(model, every)
        self.age = 0
        if self.every > 1:
            self.register_buffer("polar", polar.polar_factor(model.bridge.matrix()))

    def penalties(self, z: Float[Tensor, "n l"]) -> Terms:  # noqa: ARG002
        M = self.model.bridge.matrix()
        norm = polar.nuclear_norm(M) if self.every == 1 else (self.polar * M).sum()
        return {"nuclear_norm": self.current_weight * norm}

    @torch.no_grad()
    def after_step(self, learning_rate: float) -> None:  # noqa: ARG002 - the penalty is a term
        self.age = (self.age + 1) % self.every
        if self.every > 1 and self.age == 0:
            self.polar.copy_(polar.polar_factor(self.model.bridge.matrix()))

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.age)

    def set_extra_state(self, state: Tensor) -> None:
        self.age = int(state)


class ProximalStep(Penalized, ABC):
    r"""An objective whose matrix M takes proximal gradient steps of its own.

    The networks take the optimizer's steps. Soft-thresholding after a step of Adam would not be a
    proximal step of the nuclear norm, because Adam scales each entry of the gradient differently:
    M is therefore left out of the optimizer. With the mean gradient g over k steps,

    .. math:: M \leftarrow U \max(\Sigma - \eta t, 0)\, V^\top,
        \qquad U \Sigma V^\top = M - \eta g,

    which for every step length :math:`\eta` has the minimiser of the loss plus :math:`t \|M\|_*`
    as its fixed point (Combettes and Wajs 2005; Cai, Candes and Shen 2010, theorem 2.1).
    """

    gradient: Tensor  # the sum of the gradients by M since its last step

    def __init__(self, model: Autoencoder, weight: float, every: int) -> None:
        super().__init__(model, weight)
        self.every = every
        self.steps, self.rate = 0, 0.0
        self.register_buffer("gradient", torch.zeros_like(self.matrix))

    @property
    @abstractmethod
    def matrix(self) -> nn.Parameter:
        """The parameter M."""

    @abstractmethod
    def step_matrix(self, gradient: Float[Tensor, "l l"]) -> None:
        """Change M, given the mean gradient over the last k steps."""

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        others = [p for p in self.parameters() if p is not self.matrix]
        return [{"params": others, "lr": learning_rate}]

    @torch.no_grad()
    def after_step(self, learning_rate: float) -> None:
        if self.matrix.grad is not None:
            self.gradient.add_(self.matrix.grad)
            self.matrix.grad.zero_()  # not None: a CUDA graph writes to this memory again
        self.steps += 1
        self.rate += learning_rate
        if self.steps % self.every == 0:
            mean = self.gradient / self.every
            if bool(torch.isfinite(mean).all()):  # otherwise the training loop reports it
                self.step_matrix(mean)
            self.gradient.zero_()
            self.rate = 0.0

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.steps, self.rate], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        self.steps, self.rate = int(state[0]), float(state[1])


class ProximalLoRAE(ProximalStep):
    r"""LoRAE with an exact rank of M: the same loss, minimised by proximal steps.

    Directions that the reconstruction does not need become exactly zero. M has momentum, and one
    step length for the whole matrix,

    .. math:: \eta = \frac{\sum \text{learning rate}}{\text{root mean square of the gradient}},

    so that its entries move as fast as Adam would move them, at every scale of the loss.

    Reference:
        the forward-backward splitting of Combettes and Wajs (2005).

    Args:
        model: an autoencoder over the bridge :class:`lorae.nn.bridges.low_rank.LowRank`.
        weight: lambda, at least 0, on the scale of :class:`LoRAE`.
        every: k, at least 1; by default :func:`lorae.linalg.polar.update_interval`.

    Example:
        >>> from lorae.nn.autoencoder import Architecture, build
        >>> model = build(Architecture("mlp", (6,), 3, "low-rank"))
        >>> objective = ProximalLoRAE(model, weight=1e3)
        >>> objective(torch.rand(5, 6))["reconstruction"].backward()
        >>> objective.after_step(learning_rate=1.0)  # a threshold above every singular value
        >>> int(torch.linalg.matrix_rank(model.bridge.matrix()))
        0
    """

    momentum: Tensor
    square: Tensor

    def __init__(self, model: Autoencoder, weight: float = 1e-3, every: int | None = None) -> None:
        require_bridge(model, LowRank, "low-rank for a proximal step")
        super().__init__(model, weight, _interval(model, every))
        self.register_buffer("momentum", torch.zeros_like(self.matrix))
        self.register_buffer("square", torch.zeros(()))

    @property
    def matrix(self) -> nn.Parameter:
        return self.model.bridge.get_parameter("weight")

    def step_matrix(self, gradient: Float[Tensor, "l l"]) -> None:
        count = self.steps // self.every
        self.momentum.lerp_(gradient, 1 - _BETAS[0])
        self.square.lerp_(gradient.square().mean(), 1 - _BETAS[1])
        mean, square = (
            total / (1 - beta**count)
            for total, beta in zip((self.momentum, self.square), _BETAS, strict=True)
        )
        length = self.rate / (float(square.sqrt()) + _TINY)
        step = spectral.soft_threshold(self.matrix - length * mean, length * self.current_weight)
        self.matrix.copy_(step)


class FactoredLoRAE(Penalized):
    r"""LoRAE by two factors: reconstruction + weight / 2 * (||A||_F^2 + ||B||_F^2), M = A B^T.

    At its minima the penalty is weight * ||M||_*. Its gradient exists everywhere and costs
    nothing; a small singular value shrinks in proportion to its size, not at a constant rate.

    Reference:
        Srebro, Rennie and Jaakkola (NeurIPS 2004); see
        :class:`lorae.nn.bridges.low_rank.Factored`.
    """

    def penalties(self, z: Float[Tensor, "n l"]) -> Terms:  # noqa: ARG002
        bridge = require_bridge(self.model, Factored, "factored for this penalty")
        return {"nuclear_norm": self.current_weight * bridge.penalty()}


def _interval(model: Autoencoder, every: int | None) -> int:
    check_range("every", every, 1)
    return int(every or polar.update_interval(model.bridge.latent))
