r"""Generative adversarial networks, in the one training loop.

The generator is the model's decoder D, from noise :math:`z \sim N(0, I)` to samples. The critic is
the model's encoder E with a leaky ReLU and one linear layer behind it,
:math:`C(x) = w^\top \text{leaky}(E(x)) + b`, so that both have the architecture of the autoencoders
they are compared with. The loss of a batch is

.. math:: L = c(C(x), C(\overline{D(z)})) + g(\overline{C}(D(z))),

where a bar stops the gradient: the critic's parameters see the first term only, the generator's
the second only, and one step of the optimizer moves both players at once. The codes of such a
model are the critic's features; the decoder does not undo them.

Reference:
    Goodfellow et al., Generative Adversarial Nets (NeurIPS 2014).
"""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from lorae.errors import InputError
from lorae.nn.autoencoder import Autoencoder
from lorae.objectives.base import Objective
from lorae.utils import distributed

WON = 0.02
"""The critic's loss below which it counts as having won: it is right with a probability of 0.99."""


class Adversarial(Objective, ABC):
    """What the games have in common; each says what its two players want.

    Args:
        model: its decoder is the generator, its encoder the critic's features.
        momentum: Adam's beta_1 for both players, in [0, 1); 0.5 is that of Radford et al. (2016).
        critic_rate: the critic's learning rate as a share of the generator's, above 0. These
            networks have no normalization; at equal rates the critic wins at once.
    """

    def __init__(self, model: Autoencoder, momentum: float = 0.5, critic_rate: float = 0.1) -> None:
        super().__init__(model)
        if not 0 <= momentum < 1:
            raise InputError(f"momentum must be at least 0 and below 1, got {momentum:g}")
        if not 0 < critic_rate < float("inf"):
            raise InputError(f"critic_rate must be a number above 0, got {critic_rate:g}")
        self.momentum = momentum
        self.critic_rate = critic_rate
        latent = model.bridge.latent
        self.head = nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(latent, 1), nn.Flatten(0))

    @abstractmethod
    def critic_loss(
        self, real: Float[Tensor, " n"], made: Float[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """Return what the critic minimises, given its scores of samples and of generated ones."""

    @abstractmethod
    def generator_loss(self, made: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return what the generator minimises, given the critic's scores of its samples."""

    def forward(self, x: Float[Tensor, "n *shape"]) -> dict[str, Float[Tensor, ""]]:
        """Return the loss of each player."""
        noise = distributed.normal(x.new_empty(len(x), self.model.bridge.latent))
        made = self.model.decoder(noise)
        encoder, head = self.model.encoder, self.head
        real, seen = head(encoder(self.model.scaled(x))), head(encoder(made.detach()))
        judged = _frozen(head, _frozen(encoder, made))
        return {
            "critic": self.critic_loss(real, seen),
            "generator": self.generator_loss(judged),
        }

    def groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return the parameters of either player, with its learning rate and momentum."""
        critic = [*self.model.encoder.parameters(), *self.head.parameters()]
        both = {"betas": (self.momentum, 0.999)}
        return [
            {"params": list(self.model.decoder.parameters()), "lr": learning_rate} | both,
            {"params": critic, "lr": self.critic_rate * learning_rate} | both,
        ]

    def warnings(self, means: dict[str, float]) -> list[str]:
        """Tell when the critic has won."""
        if means["critic"] >= WON:
            return []
        told = (
            f"the critic's loss is {means['critic']:.2g}: it tells real from generated without "
            "fail, and the generator has little left to learn from"
        )
        return [told]


class GAN(Adversarial):
    r"""The original game: both players bet on the same number.

    With the logit C, and the probability :math:`\sigma(C)` that a sample is real,

    .. math:: c = -\text{mean} \log \sigma(C(x)) - \text{mean} \log (1 - \sigma(C(D(z)))), \qquad
        g = \text{mean} \log (1 - \sigma(C(D(z)))).

    Reference:
        Goodfellow et al. (2014), equation 1.
    """

    def critic_loss(
        self, real: Float[Tensor, " n"], made: Float[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """Return the cross-entropy."""
        return _cross_entropy(real, made)

    def generator_loss(self, made: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the mean logarithm of the probability of being found out."""
        return -functional.softplus(made).mean()


class NSGAN(Adversarial):
    r"""The non-saturating game: the generator's gradient does not vanish while it loses.

    .. math:: g = -\text{mean} \log \sigma(C(D(z))),

    and c is that of :class:`GAN`.

    Reference:
        Goodfellow et al. (2014), section 3.
    """

    def critic_loss(
        self, real: Float[Tensor, " n"], made: Float[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """Return the cross-entropy."""
        return _cross_entropy(real, made)

    def generator_loss(self, made: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the mean surprise of the critic's taking its samples for real."""
        return functional.softplus(-made).mean()


class LSGAN(Adversarial):
    r"""The least-squares game, with the targets 1 for real and 0 for generated.

    .. math:: c = \tfrac12 \text{mean}\,(C(x) - 1)^2 + \tfrac12 \text{mean}\,C(D(z))^2, \qquad
        g = \tfrac12 \text{mean}\,(C(D(z)) - 1)^2.

    Reference:
        Mao et al., Least Squares Generative Adversarial Networks (ICCV 2017), equation 9.
    """

    def critic_loss(
        self, real: Float[Tensor, " n"], made: Float[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """Return the squared distances from the critic's targets."""
        return (real - 1).square().mean() / 2 + made.square().mean() / 2

    def generator_loss(self, made: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the squared distance from the critic's target for real samples."""
        return (made - 1).square().mean() / 2


def _cross_entropy(real: Tensor, made: Tensor) -> Tensor:
    """Return -mean log sigma(real) - mean log(1 - sigma(made)), finite for any logits."""
    return functional.softplus(-real).mean() + functional.softplus(made).mean()


def _frozen(module: nn.Module, x: Tensor) -> Tensor:
    """Return a module's output, with a gradient to its input but none to its parameters."""
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    output: Tensor = functional_call(module, parameters, (x,))
    return output
