r"""What is minimised, and what is done to the model after each step.

An objective is a module over a model. Given a batch it returns named terms that are already
weighted, and the loss is their sum. That of an autoencoder is

.. math:: L(x) = \sum_k t_k(x), \qquad t_0 = \text{mean}\,(D(B(E(x))) - x)^2,

where the mean is over all elements of the batch, in the scaled units of the model, so that a
penalty's weight means what it means in the paper. A loss that is published as a sum over the d
elements of a sample is divided by d. After the optimizer's step the loop calls
:meth:`Objective.after_step`, in which a proximal method moves its matrix, and before it looks at
the model :meth:`Objective.settle`, in which what was put off is done.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lorae.errors import InputError
from lorae.linalg import polar
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.bridges.low_rank import Factored, LowRank


class Objective(nn.Module, ABC):
    """A loss over a model, as named terms.

    Attributes:
        model: the autoencoder that is trained.
        strength: the share of the penalty's weight that is in force, 0 to 1; the loop raises it
            during a warm-up.
        min_batch_size: the smallest (global) batch that it can be trained on.
        min_process_batch_size: the smallest share of it for each process.
    """

    min_batch_size = 1

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model
        self.strength = 1.0
        self.min_batch_size = max(self.min_batch_size, model.bridge.min_batch_size)
        self.min_process_batch_size = model.bridge.min_process_batch_size

    @abstractmethod
    def forward(self, x: Float[Tensor, "n *shape"]) -> dict[str, Float[Tensor, ""]]:
        """Return the weighted terms for a batch in the units of the data."""

    def after_step(self, learning_rate: float) -> None:
        """Change the model after an optimizer step; most objectives do nothing."""

    def settle(self) -> None:
        """Make up, before the model is evaluated, for what was put off; mostly nothing."""

    def groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return the parameters in the groups, with the settings, that Adam is to have."""
        return [{"params": list(self.parameters()), "lr": learning_rate}]

    def warnings(self, means: dict[str, float]) -> list[str]:  # noqa: ARG002 - for some of them
        """Return what a person should know of a training with these mean terms; mostly nothing."""
        return []

    def codes(self, x: Float[Tensor, "n *shape"]) -> tuple[Tensor, Float[Tensor, "n l"]]:
        """Return a batch in scaled units, and its codes."""
        target = self.model.scaled(x)
        return target, self.model.bridge(self.model.encoder(target))

    def error(self, z: Float[Tensor, "n l"], target: Tensor) -> Float[Tensor, ""]:
        """Return the mean squared error, over all elements, of what codes decode to."""
        return functional.mse_loss(self.model.decoder(z), target)


class AE(Objective):
    """The plain autoencoder: mean (D(B(E(x))) - x)^2.

    What stands between encoder and decoder makes other methods of it: over a linear chain it is
    IRMAE, whose low rank comes from gradient descent alone (Jing et al., NeurIPS 2020), and over
    the truncated singular value decomposition of the batch it is the RRAE (Mounayer et al. 2024).
    """

    def forward(self, x: Float[Tensor, "n *shape"]) -> dict[str, Float[Tensor, ""]]:
        """Return the reconstruction error."""
        target, z = self.codes(x)
        return {"reconstruction": self.error(z, target)}


class DecayedAE(Objective):
    r"""The autoencoder with small weights: mean (D(B(E(x))) - x)^2 + weight / 2 * ||theta||^2.

    Over a linear chain it is IRMAE-WD: the penalty drives on the directions that the chain's
    implicit regularization has made small, along which the error alone has no slope left.

    Reference:
        Zeng et al., Autoencoders for discovering manifold dimension and coordinates in data from
        complex dynamical systems (arXiv 2305.01090), whose weight is the default. It is a term of
        the loss here, not AdamW's decoupled decay, which at this weight and a learning rate of
        1e-3 multiplies by 1 - 1e-9, and so does nothing at all in float32.

    Args:
        model: an autoencoder, over a chain for IRMAE-WD.
        weight: lambda, at least 0.
    """

    def __init__(self, model: Autoencoder, weight: float = 1e-6) -> None:
        super().__init__(model)
        self.weight = at_least("weight", weight, 0)

    def forward(self, x: Float[Tensor, "n *shape"]) -> dict[str, Float[Tensor, ""]]:
        """Return the reconstruction error and the squared norm of all parameters."""
        target, z = self.codes(x)
        squares = torch.stack([p.square().sum() for p in self.model.parameters()]).sum()
        return {
            "reconstruction": self.error(z, target),
            "decay": self.strength * self.weight / 2 * squares,
        }


class LoRAE(Objective):
    r"""The Low-Rank Autoencoder: reconstruction + weight * ||M||_*.

    The nuclear norm is followed along its subgradient :math:`U V^T`, so small singular values
    shrink without reaching zero, and the rank is a matter of threshold.

    Over :class:`lorae.nn.bridges.scale_free.ScaleFree`, whose matrix is M / ||M||_F, the penalty is
    weight * ||M||_* / ||M||_F, between weight (rank 1) and weight * sqrt(l) (all singular values
    equal): no scale is left for the networks to hide in.

    A large matrix has its subgradient Q only at every k-th step, and in between the penalty is
    weight * <Q, M>, which is never above that of the norm, and below it by no more than
    2 * weight * ||M - M'||_* for the M' that Q was had from (:mod:`lorae.linalg.polar`).

    Reference:
        Mazumder et al. (WACV 2024), equations 1 and 2. The default weight is the paper's best for
        MNIST (Table 7).

    Args:
        model: an autoencoder whose bridge has a matrix.
        weight: lambda, at least 0.
        every: k, at least 1; by default as :func:`lorae.linalg.polar.interval` says.

    Example:
        >>> from lorae.nn.autoencoder import Architecture, build
        >>> objective = LoRAE(build(Architecture("mlp", (6,), 3, "low-rank")), weight=1e-2)
        >>> terms = objective(torch.rand(5, 6))
        >>> list(terms), torch.stack(list(terms.values())).sum().requires_grad
        (['reconstruction', 'nuclear_norm'], True)
    """

    polar: Tensor

    def __init__(self, model: Autoencoder, weight: float = 1e-3, every: int | None = None) -> None:
        super().__init__(model)
        self.weight = at_least("weight", weight, 0)
        self.every = _every(model, every)
        self.age = 0
        if self.every > 1:
            self.register_buffer("polar", polar.polar_factor(model.bridge.matrix()))

    def forward(self, x: Float[Tensor, "n *shape"]) -> dict[str, Float[Tensor, ""]]:
        """Return the reconstruction error and weight * ||M||_*, or what stands for it."""
        target, z = self.codes(x)
        M = self.model.bridge.matrix()
        norm = polar.nuclear_norm(M) if self.every == 1 else (self.polar * M).sum()
        return {
            "reconstruction": self.error(z, target),
            "nuclear_norm": self.strength * self.weight * norm,
        }

    @torch.no_grad()
    def after_step(self, learning_rate: float) -> None:  # noqa: ARG002 - the penalty is a term
        """Renew the subgradient where it is due."""
        self.age = (self.age + 1) % self.every
        if self.every > 1 and self.age == 0:
            self.polar.copy_(polar.polar_factor(self.model.bridge.matrix()))

    def get_extra_state(self) -> Tensor:
        """Return the age of the subgradient in steps, for a checkpoint."""
        return torch.tensor(self.age)

    def set_extra_state(self, state: Tensor) -> None:
        """Take up the age of a checkpoint."""
        self.age = int(state)


class ProximalLoRAE(Objective):
    r"""LoRAE with an exact rank: the nuclear norm acts through its proximal map.

    After every k optimizer steps of length :math:`\eta` on the reconstruction alone,

    .. math:: M \leftarrow U \max(\Sigma - k \eta \lambda, 0)\, V^T,

    so a direction that the data do not hold up becomes exactly zero. The optimizer's own step is
    not that of plain gradient descent (Adam moves every entry by about :math:`\eta`), so lambda
    is on another scale than the paper's. An evaluation finds M as if the step before it had been
    a k-th one.

    Reference:
        the forward-backward splitting of Combettes and Wajs (2005); the map is that of Cai,
        Candes and Shen (2010), theorem 2.1.

    Args:
        model: an autoencoder over a low-rank bridge, factored or not.
        weight: lambda, at least 0; the threshold of a step is the learning rate times this.
        every: k, at least 1; by default as :func:`lorae.linalg.polar.interval` says.

    Example:
        >>> from lorae.nn.autoencoder import Architecture, build
        >>> model = build(Architecture("mlp", (6,), 3, "low-rank"))
        >>> objective = ProximalLoRAE(model, weight=1e3)
        >>> objective.after_step(learning_rate=1.0)  # shrinks by 1000, so all is gone
        >>> int(torch.linalg.matrix_rank(model.bridge.matrix()))
        0
    """

    def __init__(self, model: Autoencoder, weight: float = 1.0, every: int | None = None) -> None:
        super().__init__(model)
        self.weight = at_least("weight", weight, 0)
        self.every = _every(model, every)
        self.age, self.pending = 0, 0.0

    def forward(self, x: Float[Tensor, "n *shape"]) -> dict[str, Float[Tensor, ""]]:
        """Return the reconstruction error; the penalty acts in the step."""
        target, z = self.codes(x)
        return {"reconstruction": self.error(z, target)}

    def after_step(self, learning_rate: float) -> None:
        """Add to the length of step that is to be made up for, and shrink M where that is due."""
        self.pending += learning_rate * self.strength
        self.age += 1
        if self.age == self.every:
            self.settle()

    def settle(self) -> None:
        """Shrink the singular values of M by weight times the length of step that has gathered."""
        bridge = self.model.bridge
        if not isinstance(bridge, LowRank | Factored):
            raise InputError(
                f"the proximal step needs a low-rank bridge, got {type(bridge).__name__}"
            )
        if self.pending:
            bridge.shrink(self.pending * self.weight)
        self.age, self.pending = 0, 0.0

    def get_extra_state(self) -> Tensor:
        """Return the steps and their length that have gathered, for a checkpoint."""
        return torch.tensor([self.age, self.pending], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Take up what a checkpoint had gathered."""
        self.age, self.pending = int(state[0]), float(state[1])


class FactoredLoRAE(Objective):
    r"""LoRAE by two factors: reconstruction + weight / 2 * (||A||_F^2 + ||B||_F^2), M = A B^T.

    At its minima the penalty is weight * ||M||_*, and it has a gradient everywhere that costs
    nothing: a small singular value shrinks in proportion to its size, not at a constant speed.

    Reference:
        Srebro, Rennie and Jaakkola (NeurIPS 2004); see :class:`lorae.nn.bridges.low_rank.Factored`.

    Args:
        model: an autoencoder over a factored bridge.
        weight: lambda, at least 0.
    """

    def __init__(self, model: Autoencoder, weight: float = 1e-3) -> None:
        super().__init__(model)
        self.weight = at_least("weight", weight, 0)

    def forward(self, x: Float[Tensor, "n *shape"]) -> dict[str, Float[Tensor, ""]]:
        """Return the reconstruction error and half the weighted sum of squares of the factors."""
        bridge = self.model.bridge
        if not isinstance(bridge, Factored):
            raise InputError(f"this penalty needs a factored bridge, got {type(bridge).__name__}")
        target, z = self.codes(x)
        return {
            "reconstruction": self.error(z, target),
            "nuclear_norm": self.strength * self.weight * bridge.penalty(),
        }


def _every(model: Autoencoder, every: int | None) -> int:
    chosen = polar.interval(model.bridge.latent) if every is None else every
    return int(at_least("every", chosen, 1))


def at_least(name: str, value: float, least: float) -> float:
    """Return a constructor's argument.

    Raises:
        InputError: if it is not a finite number of at least `least`.
    """
    if not least <= value < float("inf"):
        raise InputError(f"{name} must be a finite number of at least {least:g}, got {value:g}")
    return value
