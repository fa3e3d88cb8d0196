r"""Objectives: the loss of a model, and the change to the model after each optimizer step.

An objective is a module over a model. For a batch x it returns named terms that are already
weighted, and the loss is their sum. For an autoencoder

.. math:: L(x) = \sum_k t_k(x), \qquad t_0 = \text{mean}\,(D(B(E(x))) - x)^2,

where the mean is over all elements of the batch, in the scaled units of the model, so that a
penalty's weight means what it means in the paper. A loss published as a sum over the d elements of
a sample is divided by d.

After the optimizer's step the loop calls :meth:`Objective.after_step`, in which a proximal method
changes its matrix.
"""

from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lorae.errors import InputError
from lorae.linalg.incomplete import hide_like_others
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.bridges.base import Bridge
from lorae.utils.validation import check_range

_BridgeT = TypeVar("_BridgeT", bound=Bridge)
Terms = dict[str, Float[Tensor, ""]]
"""The weighted terms of a loss by name."""


class Objective(nn.Module):
    """A loss over a model, as named terms.

    Attributes:
        strength: the share of the penalty's weight in force, 0 to 1; the loop raises it during a
            warm-up.
        min_batch_size: the smallest (global) batch that it can be trained on.
        capturable: whether a CUDA graph can repeat its terms: they depend on the batch, on
            parameters and on buffers alone, and not on other attributes that a step changes.
    """

    min_batch_size = 1
    capturable = True

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model
        self.strength = 1.0
        self.min_batch_size = max(self.min_batch_size, model.bridge.min_batch_size)

    def forward(self, x: Float[Tensor, "n *shape"]) -> Terms:
        """Return the weighted terms for a batch in the units of the data."""
        target, z = self.codes(x)
        return {"reconstruction": self.error(z, target)} | self.penalties(z)

    def penalties(self, z: Float[Tensor, "n l"]) -> Terms:  # noqa: ARG002 - for some of them
        """Return the weighted terms beside the error, given the codes; by default none."""
        return {}

    def after_step(self, learning_rate: float) -> None:
        """Change the model after an optimizer step; by default do nothing."""

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return the parameters with their settings for Adam."""
        return [{"params": list(self.parameters()), "lr": learning_rate}]

    def warnings(self, means: dict[str, float]) -> list[str]:  # noqa: ARG002 - for some of them
        """Return warnings for the user, given the mean of each term since the last evaluation."""
        return []

    def codes(self, x: Float[Tensor, "n *shape"]) -> tuple[Tensor, Float[Tensor, "n l"]]:
        """Return a batch in scaled units, and its codes.

        In training, the encoder does not see the values that another sample of the batch lacks.
        """
        target = self.model.scaled(x)
        return target, self.model.bridge(self.model.encoder(self.hide(target)))

    def hide(self, x: Float[Tensor, "n *shape"]) -> Float[Tensor, "n *shape"]:
        """Return samples with more gaps in training, if the model takes gaps."""
        if not (self.training and self.model.gaps):
            return x
        return x.masked_fill(hide_like_others(x.isnan()), torch.nan)

    def error(self, z: Float[Tensor, "n l"], target: Tensor) -> Float[Tensor, ""]:
        """Return the mean squared error of the decoded codes over all observed elements."""
        return self.mean_error(self.model.decoder(z), target)

    def mean_error(self, decoded: Tensor, target: Tensor) -> Float[Tensor, ""]:
        """Return the mean squared error of decoded samples over all observed elements.

        Columns of categories have a cross-entropy in its place (:mod:`lorae.nn.categories`).
        """
        if self.model.categories is not None:
            return self.model.categories.error(decoded, target)
        if self.model.gaps is None:
            return functional.mse_loss(decoded, target)
        observed = ~target.isnan()
        return torch.where(observed, decoded - target, 0).square().sum() / observed.sum()


class Penalized(Objective):
    """An objective with a penalty.

    Args:
        model: the autoencoder to train.
        weight: lambda, at least 0; by default that of the class.
    """

    weight = 1e-3

    def __init__(self, model: Autoencoder, weight: float | None = None) -> None:
        super().__init__(model)
        check_range("weight", weight, 0)
        self.weight = type(self).weight if weight is None else weight

    @property
    def current_weight(self) -> float:
        """The weight in force, below lambda during a warm-up."""
        return self.strength * self.weight


class AE(Objective):
    """The plain autoencoder: mean (D(B(E(x))) - x)^2.

    The bridge makes other methods of it: over a linear chain it is IRMAE, whose low rank comes
    from gradient descent alone (Jing et al., NeurIPS 2020), and over the truncated singular value
    decomposition of the batch it is the RRAE (Mounayer et al. 2024).
    """


class DecayedAE(Penalized):
    r"""The autoencoder with decoupled weight decay, IRMAE-WD over a linear chain.

    The loss is that of :class:`AE`. After a step at the learning rate :math:`\eta`, every parameter
    is multiplied by :math:`1 - \eta \lambda`: it shrinks wherever the error has no gradient left,
    at a rate that Adam does not rescale.

    Reference:
        Zeng et al., Autoencoders for discovering manifold dimension and coordinates in data from
        complex dynamical systems (arXiv 2305.01090), whose lambda is the default. They train in
        float64, the default precision of `irmae-wd`: in float32 the factor 1 - 1e-9 is 1. The decay
        is that of Loshchilov and Hutter, Decoupled Weight Decay Regularization (ICLR 2019).
    """

    weight = 1e-6

    @torch.no_grad()
    def after_step(self, learning_rate: float) -> None:
        torch._foreach_mul_(list(self.parameters()), 1 - learning_rate * self.current_weight)


class SquaredNormAE(Penalized):
    r"""The autoencoder with an L2 penalty: mean (D(B(E(x))) - x)^2 + weight / 2 * ||theta||^2.

    The variant of :class:`DecayedAE` whose decay is a term of the loss. Adam divides its gradient
    by its size, so a parameter without an error gradient falls to 0 at the learning rate, however
    small the weight is.
    """

    weight = 1e-6

    def penalties(self, z: Float[Tensor, "n l"]) -> Terms:  # noqa: ARG002
        return {"decay": self.current_weight / 2 * squared_norm(self.model)}


def require_bridge(model: Autoencoder, kind: type[_BridgeT], words: str) -> _BridgeT:
    """Return the bridge of a model, which must be of a kind."""
    if not isinstance(model.bridge, kind):
        raise InputError(f"bridge must be {words}, got {type(model.bridge).__name__}")
    return model.bridge


def squared_norm(module: nn.Module) -> Float[Tensor, ""]:
    """Return the sum of squares of a module's parameters."""
    return torch.stack([p.square().sum() for p in module.parameters()]).sum()
