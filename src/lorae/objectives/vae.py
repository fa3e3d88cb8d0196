r"""Variational autoencoders: a likelihood of the data, and a divergence of the codes.

For a posterior q (:mod:`lorae.nn.bridges.posteriors`) and the prior p = N(0, I), the negative evidence lower
bound of a sample x of d elements, with the weight beta on its divergence, divided by d, is

.. math:: L(x) = -\frac1d E_q \log p(x | z) + \frac{\beta}{d} \mathrm{KL}(q(z | x) \,\|\, p),

up to constants; beta = 1 is the bound itself, and other weights make the beta-VAE. The mean over q
is estimated from one draw.

References:
    Kingma and Welling, Auto-Encoding Variational Bayes (ICLR 2014); Higgins et al., beta-VAE
    (ICLR 2017).
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lorae.errors import InputError
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.bridges.posteriors import Posterior
from lorae.objectives.base import Objective, at_least


class VAE(Objective):
    r"""The variational autoencoder with a normal likelihood of variance 1/2.

    .. math:: -\log p(x | z) = \|D(z) - x\|^2 + \text{const},

    so the first term is the mean squared error of what a drawn code decodes to, and the error of
    other variances s is that of the weight 2 s. Over a truncated posterior it is the VRRAE
    (Mounayer et al., arXiv 2505.09458), over a flow the VAE with a normalizing-flow posterior
    (Rezende and Mohamed, ICML 2015).

    Args:
        model: an autoencoder over a posterior.
        weight: beta, at least 0.
    """

    def __init__(self, model: Autoencoder, weight: float = 1.0) -> None:
        super().__init__(model)
        posterior_of(model)  # refuses any other bridge
        self.weight = at_least("weight", weight, 0)

    def forward(self, x: Float[Tensor, "n *shape"]) -> dict[str, Float[Tensor, ""]]:
        """Return the error of the decoded draws and the divergence."""
        target = self.model.scaled(x)
        z, divergence = posterior_of(self.model).draw(self.model.encoder(target))
        weight = self.strength * self.weight / target[0].numel()
        return {"reconstruction": self.error(z, target), "divergence": weight * divergence.mean()}


class BernoulliVAE(Objective):
    r"""The variational autoencoder of the paper: an element is the probability of a coin's head.

    .. math:: -\log p(x | z) = -\sum_i x_i \log D(z)_i + (1 - x_i) \log (1 - D(z)_i),

    for a decoder that ends in a sigmoid and data from 0 to 1, which need not be binary.

    Args:
        model: an autoencoder over a posterior, with probabilities as outputs.
        weight: beta, at least 0.
    """

    def __init__(self, model: Autoencoder, weight: float = 1.0) -> None:
        super().__init__(model)
        posterior_of(model)  # refuses any other bridge
        self.weight = at_least("weight", weight, 0)
        built = model.architecture
        if built is not None and built.value_range != (0.0, 1.0):
            raise InputError(
                f"a Bernoulli likelihood needs data from 0 to 1, the model's range is "
                f"{built.value_range or 'unbounded'}: use vae"
            )

    def forward(self, x: Float[Tensor, "n *shape"]) -> dict[str, Float[Tensor, ""]]:
        """Return the cross-entropy of the decoded draws and the divergence."""
        target = self.model.scaled(x)
        z, divergence = posterior_of(self.model).draw(self.model.encoder(target))
        output = self.model.decoder(z)
        with torch.autocast(x.device.type, enabled=False):
            entropy = functional.binary_cross_entropy(output.to(target.dtype), target)
        weight = self.strength * self.weight / target[0].numel()
        return {"cross_entropy": entropy, "divergence": weight * divergence.mean()}


def posterior_of(model: Autoencoder) -> Posterior:
    """Return a model's bridge.

    Raises:
        InputError: if it is no posterior.
    """
    if not isinstance(model.bridge, Posterior):
        raise InputError(
            f"a variational autoencoder needs a posterior as its bridge, got "
            f"{type(model.bridge).__name__}"
        )
    return model.bridge
