r"""Variational autoencoders: a likelihood of the data, and a divergence of the codes.

For a posterior q (:mod:`lorae.nn.bridges.posteriors`) and the prior p = N(0, I), the loss of a
sample x of d elements is the negative evidence lower bound divided by d, with a weight beta on the
divergence,

.. math:: L(x) = -\frac1d E_q \log p(x | z) + \frac{\beta}{d} \mathrm{KL}(q(z | x) \,\|\, p),

up to constants. beta = 1 is the bound itself, other weights are the beta-VAE. The expectation over
q is estimated from one draw.

References:
    Kingma and Welling, Auto-Encoding Variational Bayes (ICLR 2014); Higgins et al., beta-VAE
    (ICLR 2017).
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lorae.errors import InputError
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.bridges.posteriors import Posterior
from lorae.objectives.base import Penalized, Terms, require_bridge


class Variational(Penalized, ABC):
    """A variational autoencoder; subclasses define the likelihood."""

    weight = 1.0

    def __init__(self, model: Autoencoder, weight: float | None = None) -> None:
        super().__init__(model, weight)
        require_bridge(model, Posterior, "a posterior for a variational autoencoder")

    @abstractmethod
    def likelihood(self, z: Float[Tensor, "n l"], target: Float[Tensor, "n *shape"]) -> Terms:
        """Return the mean of -log p(x | z) / d over a batch, as a named term."""

    def forward(self, x: Float[Tensor, "n *shape"]) -> Terms:
        bridge = require_bridge(self.model, Posterior, "a posterior")
        target = self.model.scaled(x)
        z, divergence = bridge.draw(self.model.encoder(self.hide(target)))
        weight = self.current_weight / target[0].numel()
        return self.likelihood(z, target) | {"divergence": weight * divergence.mean()}


class VAE(Variational):
    r"""The variational autoencoder with a normal likelihood of variance 1/2.

    .. math:: -\log p(x | z) = \|D(z) - x\|^2 + \text{const},

    so the first term is the mean squared error of a decoded draw, and another variance s
    corresponds to a weight of 2 s. Over a truncated posterior it is the VRRAE (Mounayer et al.,
    arXiv 2505.09458), over a flow the VAE with a normalizing-flow posterior (Rezende and Mohamed,
    ICML 2015).
    """

    def likelihood(self, z: Float[Tensor, "n l"], target: Float[Tensor, "n *shape"]) -> Terms:
        return {"reconstruction": self.error(z, target)}


class BernoulliVAE(Variational):
    r"""The variational autoencoder with a Bernoulli likelihood.

    .. math:: -\log p(x | z) = -\sum_i x_i \log D(z)_i + (1 - x_i) \log (1 - D(z)_i),

    for a decoder that ends in a sigmoid and data from 0 to 1, which need not be binary.

    The VAE of LoRAE's authors has the weight 0.2 d / l: their loss is the mean cross-entropy plus
    0.1 times the mean of :math:`\mu^2 + \sigma^2 - 1 - \log \sigma^2` over the l coordinates. It is
    1.6 for their MNIST (d = 1,024, l = 128) and 19.2 for their CelebA (d = 12,288, l = 128).
    """

    def __init__(self, model: Autoencoder, weight: float | None = None) -> None:
        super().__init__(model, weight)
        value_range = (0.0, 1.0) if model.architecture is None else model.architecture.value_range
        if value_range != (0.0, 1.0):
            raise InputError(
                f"data must be from 0 to 1 for a Bernoulli likelihood, got "
                f"{value_range or 'an unbounded range'}: use vae"
            )

    def likelihood(self, z: Float[Tensor, "n l"], target: Float[Tensor, "n *shape"]) -> Terms:
        output = self.model.decoder(z)
        with torch.autocast(target.device.type, enabled=False):
            entropy = functional.binary_cross_entropy(output.to(target.dtype), target)
        return {"cross_entropy": entropy}
