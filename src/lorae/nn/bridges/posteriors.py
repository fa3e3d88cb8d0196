r"""Bridges that are random in training: the posteriors of variational autoencoders.

The encoder's output :math:`e` gives the parameters of a distribution :math:`q(z | x)` of codes. In
training a code is drawn from it, at the cost of the Kullback-Leibler divergence

.. math:: \mathrm{KL}(q \,\|\, p) = E_q [\log q(z | x) - \log p(z)], \qquad p = N(0, I);

everywhere else the code is the one that has no noise in it.
"""

import math
from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from lorae.errors import InputError
from lorae.nn.bridges.matrix import Bridge
from lorae.nn.bridges.truncated_svd import Directions, batch_directions
from lorae.utils import distributed


class Posterior(Bridge):
    """A bridge that can draw codes and say what they cost."""

    @abstractmethod
    def draw(self, e: Float[Tensor, "n k"]) -> tuple[Float[Tensor, "n l"], Float[Tensor, " n"]]:
        """Return a code for each sample of a batch, and KL(q || p) in nats or an estimate of it."""


class GaussianPosterior(Posterior):
    r"""q(z | x) = N(mu, diag(sigma^2)) for an encoder that gives e = (mu, log sigma^2).

    .. math:: \mathrm{KL} = \tfrac12 \sum_j \mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2.

    At inference z = mu, so the matrix is (I, 0), and folding leaves an encoder of mu.

    Reference:
        Kingma and Welling, Auto-Encoding Variational Bayes (ICLR 2014), appendix B.

    Args:
        latent: the dimension l of the codes; the encoder has 2 l outputs.

    Example:
        >>> z, divergence = GaussianPosterior(2).draw(torch.zeros(5, 4))
        >>> z.shape, divergence.tolist()
        (torch.Size([5, 2]), [0.0, 0.0, 0.0, 0.0, 0.0])
    """

    empty: Tensor  # tells device and type

    def __init__(self, latent: int) -> None:
        super().__init__(latent, 2 * latent)
        self.register_buffer("empty", torch.zeros(latent, latent), persistent=False)

    def forward(self, e: Float[Tensor, "n k"]) -> Float[Tensor, "n l"]:
        """Return mu."""
        return e[:, : self.latent]

    def draw(self, e: Float[Tensor, "n k"]) -> tuple[Float[Tensor, "n l"], Float[Tensor, " n"]]:
        """Return mu + sigma g with standard normal g, and the divergence."""
        mean, log_variance = _wide(e).chunk(2, dim=1)
        return _drawn(mean, log_variance), gaussian_divergence(mean, log_variance)

    def matrix(self) -> Float[Tensor, "l k"]:
        """Return (I, 0)."""
        return torch.cat([torch.eye(self.latent).to(self.empty), self.empty], 1)

    def affine(self) -> tuple[Float[Tensor, "l k"], Float[Tensor, " l"]]:
        """Return (I, 0) and 0."""
        return self.matrix(), self.empty[0]


class TruncatedPosterior(Directions, Posterior):
    r"""z = V_r a with a ~ N(V_r^T e, diag(sigma^2)), the bridge of the VRRAE.

    The coefficients of the batch's truncated singular value decomposition are the means, a linear
    map of them gives :math:`\log \sigma^2`, and the prior N(0, I) is that of the coefficients.
    The directions are constants of the step: no gradient goes through the decomposition, for that
    of single directions is unbounded where singular values meet.

    Reference:
        Mounayer et al., Variational Rank Reduction Autoencoders (arXiv 2505.09458).

    Args:
        latent: the dimension l of the codes.
        rank: the number r of directions kept, 1 to l; 32 by default, or l where that is less.
        momentum: the weight of the newest batch in the running average, in (0, 1].
    """

    def __init__(self, latent: int, rank: int | None = None, momentum: float = 0.1) -> None:
        super().__init__(latent, rank, momentum)
        self.log_variance = nn.Linear(self.rank, self.rank)

    def forward(self, e: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        """Return the projection of e on the running directions."""
        return e @ self.matrix()

    def draw(self, e: Float[Tensor, "n l"]) -> tuple[Float[Tensor, "n l"], Float[Tensor, " n"]]:
        """Return V_r a and the divergence of the coefficients a."""
        e = _wide(e)
        V = batch_directions(self._followed(e), self.rank)
        mean = e @ V
        log_variance = self.log_variance(mean)
        return _drawn(mean, log_variance) @ V.mT, gaussian_divergence(mean, log_variance)

    def matrix(self) -> Float[Tensor, "l l"]:
        """Return the projection V_r V_r^T onto the running directions."""
        V = self.directions()
        return V @ V.mT

    def affine(self) -> tuple[Float[Tensor, "l l"], Float[Tensor, " l"]]:
        """Return the projection and 0."""
        return self.matrix(), self.moment.new_zeros(self.latent)


class FlowPosterior(Posterior):
    r"""q(z | x) of z = f(mu + sigma g; h), for an encoder that gives e = (mu, log sigma^2, h).

    f is a chain of affine coupling layers whose networks see h, and

    .. math:: \log q(z | x) = \log N(f^{-1}(z); \mu, \sigma^2) - \log |\det f'|.

    The divergence is estimated from the code drawn. At inference z = f(mu; h), which is not affine
    in e, so this bridge cannot be folded. It needs the package zuko (`pip install lorae[flows]`).

    Reference:
        Rezende and Mohamed, Variational Inference with Normalizing Flows (ICML 2015), whose flow
        is planar; the coupling layers are those of Dinh, Sohl-Dickstein and Bengio, Density
        estimation using Real NVP (ICLR 2017).

    Args:
        latent: the dimension l of the codes, at least 2; the encoder has 3 l outputs.
        transforms: the number of coupling layers, at least 1.
        hidden: the width of the two hidden layers of each one's network, at least 1.
    """

    def __init__(self, latent: int, transforms: int = 4, hidden: int = 64) -> None:
        super().__init__(latent, 3 * latent)
        if latent < 2:
            raise InputError(f"latent must be at least 2 for a flow, got {latent}")
        for name, value in (("transforms", transforms), ("hidden", hidden)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        try:
            from zuko.flows import NICE
        except ImportError:
            raise InputError("a flow needs the package zuko: pip install lorae[flows]") from None
        self.flow = NICE(latent, latent, transforms=transforms, hidden_features=(hidden, hidden))

    def forward(self, e: Float[Tensor, "n k"]) -> Float[Tensor, "n l"]:
        """Return f(mu; h)."""
        mean, _, context = e.chunk(3, dim=1)
        code: Tensor = self._transform(context).inv(mean)
        return code

    def draw(self, e: Float[Tensor, "n k"]) -> tuple[Float[Tensor, "n l"], Float[Tensor, " n"]]:
        """Return f(mu + sigma g; h) and log q - log p there."""
        mean, log_variance, context = _wide(e).chunk(3, dim=1)
        start = _drawn(mean, log_variance)
        z, stretch = self._transform(context).inv.call_and_ladj(start)
        log_q = _normal_log_prob(start, mean, log_variance) - stretch
        return z, log_q - _normal_log_prob(z, torch.zeros_like(z), torch.zeros_like(z))

    def posterior(self, e: Float[Tensor, "n k"]) -> Distribution:
        """Return q(z | x) for each sample of a batch."""
        from zuko.distributions import NormalizingFlow

        mean, log_variance, context = _wide(e).chunk(3, dim=1)
        base = Independent(Normal(mean, (log_variance / 2).exp()), 1)
        posterior: Distribution = NormalizingFlow(self._transform(context), base)
        return posterior

    def matrix(self) -> Float[Tensor, "l l"]:
        """Return the identity: there is no matrix."""
        return torch.eye(self.latent)

    def affine(self) -> tuple[Float[Tensor, "l k"], Float[Tensor, " l"]]:
        """Refuse: the map is not affine."""
        raise InputError("the bridge is a flow, which is not affine, so it cannot be folded")

    def _transform(self, context: Tensor) -> Any:
        """Return the map from codes to the base, whose inverse is f."""
        return self.flow.transform(context)


def gaussian_divergence(
    mean: Float[Tensor, "n l"], log_variance: Float[Tensor, "n l"]
) -> Float[Tensor, " n"]:
    """Return KL(N(mean, diag(exp(log_variance))) || N(0, I)) in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def _normal_log_prob(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    square = (z - mean).square() * (-log_variance).exp()
    return -0.5 * (square + log_variance + math.log(2 * math.pi)).sum(1)


def _drawn(mean: Tensor, log_variance: Tensor) -> Tensor:
    return mean + (log_variance / 2).exp() * distributed.normal(mean)


def _wide(e: Tensor) -> Tensor:
    return e.float() if e.dtype.itemsize < 4 else e
