r"""Generative adversarial networks as objectives of one training loop.

The generator is the model's decoder D, from noise :math:`z \sim N(0, I)` to samples. The critic is
the model's encoder E followed by a leaky ReLU and one linear layer,
:math:`C(x) = w^\top \text{leaky}(E(x)) + b`, so that both have the architecture of the autoencoders
that they are compared with. The loss of a batch is

.. math:: L = c(C(x), C(\overline{D(z)})) + g(\overline{C}(D(z))),

where a bar stops the gradient: the first term trains the critic, the second the generator, and one
optimizer step moves both players at once. The codes of such a model are the critic's features; the
decoder does not invert them.

Reference:
    Goodfellow et al., Generative Adversarial Nets (NeurIPS 2014).
"""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from lorae.nn.autoencoder import Autoencoder
from lorae.objectives.base import Objective, Terms
from lorae.utils import distributed
from lorae.utils.validation import check_range

WON = 0.02
"""The critic's loss below which it has won: it is right with a probability of 0.99."""


class Adversarial(Objective, ABC):
    """The two players; subclasses define their losses.

    Args:
        model: its decoder is the generator, its encoder the critic's features.
        momentum: Adam's beta_1 for both players, in [0, 1); 0.5 is that of Radford et al. (2016).
        critic_rate: the critic's learning rate as a share of the generator's, above 0. These
            networks have no normalization; at equal rates the critic wins at once.
    """

    def __init__(self, model: Autoencoder, momentum: float = 0.5, critic_rate: float = 0.1) -> None:
        super().__init__(model)
        check_range("momentum", momentum, 0, 1, open_high=True)
        check_range("critic_rate", critic_rate, 0, open_low=True)
        self.momentum = momentum
        self.critic_rate = critic_rate
        latent = model.bridge.latent
        self.head = nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(latent, 1), nn.Flatten(0))

    @abstractmethod
    def critic_loss(
        self, real: Float[Tensor, " n"], fake: Float[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """Return the critic's loss, given its scores of real and of generated samples."""

    @abstractmethod
    def generator_loss(self, fake: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the generator's loss, given the critic's scores of its samples."""

    def forward(self, x: Float[Tensor, "n *shape"]) -> Terms:
        noise = distributed.normal(x.new_empty(len(x), self.model.bridge.latent))
        generated = self.model.decoder(noise)
        encoder, head = self.model.encoder, self.head
        real, fake = head(encoder(self.model.scaled(x))), head(encoder(generated.detach()))
        frozen = _run_frozen(head, _run_frozen(encoder, generated))
        return {
            "critic": self.critic_loss(real, fake),
            "generator": self.generator_loss(frozen),
        }

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        critic = [*self.model.encoder.parameters(), *self.head.parameters()]
        both = {"betas": (self.momentum, 0.999)}
        return [
            {"params": list(self.model.decoder.parameters()), "lr": learning_rate} | both,
            {"params": critic, "lr": self.critic_rate * learning_rate} | both,
        ]

    def warnings(self, means: dict[str, float]) -> list[str]:
        if means["critic"] >= WON:
            return []
        found = f"the critic's loss is {means['critic']:.2g}: it separates real from generated "
        return [found + "samples without error, and the generator has little left to learn from"]


class GAN(Adversarial):
    r"""The original game, in which the generator maximises the critic's loss.

    With the logit C, and the probability :math:`\sigma(C)` that a sample is real,

    .. math:: c = -\text{mean} \log \sigma(C(x)) - \text{mean} \log (1 - \sigma(C(D(z)))), \qquad
        g = \text{mean} \log (1 - \sigma(C(D(z)))).

    Reference:
        Goodfellow et al. (2014), equation 1.
    """

    def critic_loss(
        self, real: Float[Tensor, " n"], fake: Float[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()  # finite

    def generator_loss(self, fake: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        return -functional.softplus(fake).mean()


class NSGAN(GAN):
    r"""The non-saturating game: the generator's gradient does not vanish where the critic wins.

    .. math:: g = -\text{mean} \log \sigma(C(D(z))),

    and c is that of :class:`GAN`.

    Reference:
        Goodfellow et al. (2014), section 3.
    """

    def generator_loss(self, fake: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        return functional.softplus(-fake).mean()


class LSGAN(Adversarial):
    r"""The least-squares game, with the targets 1 for real and 0 for generated.

    .. math:: c = \tfrac12 \text{mean}\,(C(x) - 1)^2 + \tfrac12 \text{mean}\,C(D(z))^2, \qquad
        g = \tfrac12 \text{mean}\,(C(D(z)) - 1)^2.

    Reference:
        Mao et al., Least Squares Generative Adversarial Networks (ICCV 2017), equation 9.
    """

    def critic_loss(
        self, real: Float[Tensor, " n"], fake: Float[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        return (real - 1).square().mean() / 2 + fake.square().mean() / 2

    def generator_loss(self, fake: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        return (fake - 1).square().mean() / 2


def _run_frozen(module: nn.Module, x: Tensor) -> Tensor:
    """Return the output of a module, with gradients of its input but not of its parameters."""
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    output: Tensor = functional_call(module, parameters, (x,))
    return output
