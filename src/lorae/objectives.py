r"""What is minimised, and what is done to the bridge after each step.

An objective is a module over a model. Given a batch it returns named terms that are already
weighted, and the loss is their sum,

.. math:: L(x) = \sum_k t_k(x), \qquad t_0 = \text{mean}\,(D(B(E(x))) - x)^2,

where the mean is over all elements of the batch, in the scaled units of the model, so that a
penalty's weight means what it means in the paper. After the optimizer's step the loop calls
:meth:`Objective.after_step`, in which a proximal method moves its matrix.
"""

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lorae import spectral
from lorae.autoencoder import Autoencoder
from lorae.bridges import LowRank
from lorae.errors import InputError, unknown


class Objective(nn.Module, ABC):
    """A loss over a model, as named terms.

    Attributes:
        model: the autoencoder that is trained.
        strength: the share of the penalty's weight that is in force, 0 to 1; the loop raises it
            during a warm-up.
    """

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model
        self.strength = 1.0

    @abstractmethod
    def forward(self, x: Float[Tensor, "n *shape"]) -> dict[str, Float[Tensor, ""]]:
        """Return the weighted terms for a batch in the units of the data."""

    def after_step(self, learning_rate: float) -> None:
        """Change the model after an optimizer step; most objectives do nothing."""

    def reconstruction(self, x: Float[Tensor, "n *shape"]) -> Float[Tensor, ""]:
        """Return the mean squared error of the reconstruction, in scaled units."""
        target = self.model.scaled(x)
        output = self.model.decoder(self.model.bridge(self.model.encoder(target)))
        return functional.mse_loss(output, target)


class AE(Objective):
    """The plain autoencoder: mean (D(B(E(x))) - x)^2.

    Over a linear chain it is IRMAE, whose low rank comes from gradient descent alone (Jing et
    al., NeurIPS 2020).
    """

    def forward(self, x: Float[Tensor, "n *shape"]) -> dict[str, Float[Tensor, ""]]:
        """Return the reconstruction error."""
        return {"reconstruction": self.reconstruction(x)}


class LoRAE(Objective):
    r"""The Low-Rank Autoencoder: reconstruction + weight * ||M||_*.

    The nuclear norm is followed along its subgradient :math:`U V^T`, so small singular values
    shrink without reaching zero, and the rank is a matter of threshold.

    Over :class:`lorae.bridges.ScaleFree`, whose matrix is M / ||M||_F, the penalty is
    weight * ||M||_* / ||M||_F, between weight (rank 1) and weight * sqrt(l) (all singular values
    equal): no scale is left for the networks to hide in.

    Reference:
        Mazumder et al. (WACV 2024), equations 1 and 2. The default weight is the paper's best for
        MNIST (Table 7).

    Args:
        model: an autoencoder whose bridge has a matrix.
        weight: lambda, at least 0.
    """

    def __init__(self, model: Autoencoder, weight: float = 1e-3) -> None:
        super().__init__(model)
        self.weight = _non_negative(weight)

    def forward(self, x: Float[Tensor, "n *shape"]) -> dict[str, Float[Tensor, ""]]:
        """Return the reconstruction error and weight * ||M||_*."""
        weight = self.strength * self.weight
        return {
            "reconstruction": self.reconstruction(x),
            "nuclear_norm": weight * spectral.nuclear_norm(self.model.bridge.matrix()),
        }


class ProximalLoRAE(Objective):
    r"""LoRAE with an exact rank: the nuclear norm acts through its proximal map.

    After every optimizer step of length :math:`\eta` on the reconstruction alone,

    .. math:: M \leftarrow U \max(\Sigma - \eta \lambda, 0)\, V^T,

    so a direction that the data do not hold up becomes exactly zero. The optimizer's own step is
    not that of plain gradient descent (Adam moves every entry by about :math:`\eta`), so lambda
    is on another scale than the paper's.

    Reference:
        the forward-backward splitting of Combettes and Wajs (2005); the map is that of Cai,
        Candes and Shen (2010), theorem 2.1.

    Args:
        model: an autoencoder over a low-rank bridge.
        weight: lambda, at least 0; the threshold is the learning rate times this.
    """

    def __init__(self, model: Autoencoder, weight: float = 1.0) -> None:
        super().__init__(model)
        self.weight = _non_negative(weight)

    def forward(self, x: Float[Tensor, "n *shape"]) -> dict[str, Float[Tensor, ""]]:
        """Return the reconstruction error; the penalty acts in the step."""
        return {"reconstruction": self.reconstruction(x)}

    @torch.no_grad()
    def after_step(self, learning_rate: float) -> None:
        """Shrink the singular values of M by learning_rate * weight."""
        bridge = self.model.bridge
        if not isinstance(bridge, LowRank):
            raise InputError(
                f"the proximal step needs a low-rank bridge, got {type(bridge).__name__}"
            )
        threshold = learning_rate * self.strength * self.weight
        bridge.weight.copy_(spectral.soft_threshold(bridge.weight, threshold))


@dataclass(frozen=True)
class Method:
    """A row of the table of models: an objective, the bridge it is meant for, a line about it."""

    objective: type[Objective]
    bridge: str
    summary: str

    @property
    def weight(self) -> float | None:
        """The default weight of the method's penalty, None where it has none."""
        parameter = inspect.signature(self.objective).parameters.get("weight")
        return None if parameter is None else float(parameter.default)

    def objective_for(self, model: Autoencoder, weight: float | None) -> Objective:
        """Return the objective over a model, with its default weight where none is given."""
        if weight is None:
            return self.objective(model)
        if self.weight is None:
            raise InputError(
                f"weight is not an option of {self.objective.__name__}, got {weight:g}"
            )
        return self.objective(model, weight)  # type: ignore[call-arg]


METHODS: dict[str, Method] = {
    "ae": Method(AE, "none", "plain autoencoder"),
    "irmae": Method(AE, "chain", "implicit rank minimisation by a chain of linear layers"),
    "lorae": Method(LoRAE, "low-rank", "the paper's low-rank autoencoder, nuclear norm of M"),
    "lorae-proximal": Method(ProximalLoRAE, "low-rank", "LoRAE by proximal steps: an exact rank"),
    "lorae-scale-free": Method(
        LoRAE, "scale-free", "LoRAE on M / ||M||_F, which no scaling of the networks evades"
    ),
}
"""Every model by the name that the command line takes."""


def method(name: str) -> Method:
    """Return the method of that name.

    Raises:
        InputError: if there is none, with the closest name.
    """
    if name not in METHODS:
        raise unknown("model", name, METHODS)
    return METHODS[name]


def _non_negative(weight: float) -> float:
    if not 0 <= weight < float("inf"):
        raise InputError(f"weight must be a finite number of at least 0, got {weight:g}")
    return weight
