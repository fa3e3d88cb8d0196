r"""Low-rank autoencoders: the reconstruction error with the nuclear norm of M as a penalty.

.. math:: L(x) = \text{mean}\,(D(M E(x)) - x)^2 + \lambda \|M\|_*

The norm acts through its subgradient (:class:`LoRAE`), through its proximal map
(:class:`ProximalLoRAE`) or through a sum of squares over two factors (:class:`FactoredLoRAE`).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError
from lorae.linalg import polar
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.bridges.low_rank import Factored, LowRank
from lorae.objectives.base import Penalized, Terms
from lorae.utils.validation import check_range


class LoRAE(Penalized):
    r"""The Low-Rank Autoencoder: reconstruction + weight * ||M||_*.

    The nuclear norm is followed along its subgradient :math:`U V^T`, so small singular values
    shrink without becoming zero, and the rank depends on a threshold.

    Over :class:`lorae.nn.bridges.scale_free.ScaleFree`, whose matrix is M / ||M||_F, the penalty is
    weight * ||M||_* / ||M||_F, between weight (rank 1) and weight * sqrt(l) (all singular values
    equal), and no scaling of the networks reduces it.

    For a large matrix the subgradient Q is computed only every k steps, and in between the penalty
    is weight * <Q, M>. It never exceeds the weighted norm, and the difference is at most
    2 * weight * ||M - M'||_* for the M' of which Q is the subgradient (:mod:`lorae.linalg.polar`).

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

    def forward(self, x: Float[Tensor, "n *shape"]) -> Terms:
        """Return the reconstruction error and weight * ||M||_* or its lower bound."""
        target, z = self.codes(x)
        M = self.model.bridge.matrix()
        norm = polar.nuclear_norm(M) if self.every == 1 else (self.polar * M).sum()
        return {
            "reconstruction": self.error(z, target),
            "nuclear_norm": self.current_weight * norm,
        }

    @torch.no_grad()
    def after_step(self, learning_rate: float) -> None:  # noqa: ARG002 - the penalty is a term
        """Update the subgradient every k steps."""
        self.age = (self.age + 1) % self.every
        if self.every > 1 and self.age == 0:
            self.polar.copy_(polar.polar_factor(self.model.bridge.matrix()))

    def get_extra_state(self) -> Tensor:
        """Return the age of the subgradient in steps, for a checkpoint."""
        return torch.tensor(self.age)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the age from a checkpoint."""
        self.age = int(state)


class ProximalLoRAE(Penalized):
    r"""LoRAE with an exact rank: the nuclear norm acts through its proximal map.

    After every k optimizer steps of length :math:`\eta` on the reconstruction alone,

    .. math:: M \leftarrow U \max(\Sigma - k \eta \lambda, 0)\, V^T,

    so directions that the reconstruction does not need become exactly zero. The optimizer's step
    is not one of plain gradient descent (Adam changes every entry by about :math:`\eta`), so lambda
    is not on the paper's scale. Before an evaluation the step is applied for the steps since the
    last one.

    Reference:
        the forward-backward splitting of Combettes and Wajs (2005); the map is that of Cai,
        Candes and Shen (2010), theorem 2.1.

    Args:
        model: an autoencoder over a low-rank bridge, factored or not.
        weight: lambda, at least 0; the threshold of a step is the learning rate times this.
        every: k, at least 1; by default :func:`lorae.linalg.polar.update_interval`.

    Example:
        >>> from lorae.nn.autoencoder import Architecture, build
        >>> model = build(Architecture("mlp", (6,), 3, "low-rank"))
        >>> objective = ProximalLoRAE(model, weight=1e3)
        >>> objective.after_step(learning_rate=1.0)  # a threshold of 1000 leaves nothing
        >>> int(torch.linalg.matrix_rank(model.bridge.matrix()))
        0
    """

    def __init__(self, model: Autoencoder, weight: float = 1.0, every: int | None = None) -> None:
        super().__init__(model, weight)
        self.every = _interval(model, every)
        self.age, self.pending = 0, 0.0

    def forward(self, x: Float[Tensor, "n *shape"]) -> Terms:
        """Return the reconstruction error; the penalty acts in the step."""
        target, z = self.codes(x)
        return {"reconstruction": self.error(z, target)}

    def after_step(self, learning_rate: float) -> None:
        """Add the step to the pending ones, and apply them every k steps."""
        self.pending += learning_rate * self.strength
        self.age += 1
        if self.age == self.every:
            self.apply_pending()

    def apply_pending(self) -> None:
        """Shrink the singular values of M by weight times the length of the pending steps."""
        bridge = self.model.bridge
        if not isinstance(bridge, LowRank | Factored):
            raise InputError(
                f"bridge must be low-rank or factored for a proximal step, got "
                f"{type(bridge).__name__}"
            )
        if self.pending:
            bridge.shrink(self.pending * self.weight)
        self.age, self.pending = 0, 0.0

    def get_extra_state(self) -> Tensor:
        """Return the number and the length of the pending steps, for a checkpoint."""
        return torch.tensor([self.age, self.pending], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the pending steps from a checkpoint."""
        self.age, self.pending = int(state[0]), float(state[1])


class FactoredLoRAE(Penalized):
    r"""LoRAE by two factors: reconstruction + weight / 2 * (||A||_F^2 + ||B||_F^2), M = A B^T.

    At its minima the penalty is weight * ||M||_*. Its gradient exists everywhere and costs
    nothing; a small singular value shrinks in proportion to its size, not at a constant rate.

    Reference:
        Srebro, Rennie and Jaakkola (NeurIPS 2004); see
        :class:`lorae.nn.bridges.low_rank.Factored`.

    Args:
        model: an autoencoder over a factored bridge.
        weight: lambda, at least 0.
    """

    def __init__(self, model: Autoencoder, weight: float = 1e-3) -> None:
        super().__init__(model, weight)

    def forward(self, x: Float[Tensor, "n *shape"]) -> Terms:
        """Return the reconstruction error and half the weighted sum of squares of the factors."""
        bridge = self.model.bridge
        if not isinstance(bridge, Factored):
            raise InputError(
                f"bridge must be factored for this penalty, got {type(bridge).__name__}"
            )
        target, z = self.codes(x)
        return {
            "reconstruction": self.error(z, target),
            "nuclear_norm": self.current_weight * bridge.penalty(),
        }


def _interval(model: Autoencoder, every: int | None) -> int:
    check_range("every", every, 1)
    return int(every or polar.update_interval(model.bridge.latent))
