r"""Bridges that are random in training: the posteriors of variational autoencoders.

The encoder's output :math:`e` holds the parameters of a distribution :math:`q(z | x)` of codes. In
training a code is drawn from it, at the cost of the Kullback-Leibler divergence

.. math:: \mathrm{KL}(q \,\|\, p) = E_q [\log q(z | x) - \log p(z)], \qquad p = N(0, I).

Everywhere else the code is the one without noise.
"""

import math
from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.errors import InputError
from lorae.linalg.svd import widen
from lorae.nn.bridges.base import Bridge
from lorae.nn.bridges.truncated_svd import Truncated, batch_directions
from lorae.utils import distributed
from lorae.utils.validation import check_range

Draw = tuple[Float[Tensor, "n l"], Float[Tensor, " n"]]
"""Codes, and the divergence of each in nats."""


class Posterior(Bridge):
    """A bridge that can draw codes, with their divergence from the prior."""

    @abstractmethod
    def draw(self, e: Float[Tensor, "n k"]) -> Draw:
        """Return a code for each sample of a batch, and KL(q || p) or an unbiased estimate."""


class GaussianPosterior(Posterior):
    r"""q(z | x) = N(mu, diag(sigma^2)) for an encoder that outputs e = (mu, log sigma^2).

    .. math:: \mathrm{KL} = \tfrac12 \sum_j \mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2.

    In evaluation mode z = mu, so the matrix is (I, 0), and folding leaves an encoder of mu.

    Reference:
        Kingma and Welling, Auto-Encoding Variational Bayes (ICLR 2014), appendix B.

    Args:
        latent: the dimension l of the codes; the encoder has 2 l outputs.

    Example:
        >>> z, divergence = GaussianPosterior(2).draw(torch.zeros(5, 4))
        >>> z.shape, divergence.tolist()
        (torch.Size([5, 2]), [0.0, 0.0, 0.0, 0.0, 0.0])
    """

    projection: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__(latent, 2 * latent)
        self.register_buffer("projection", torch.eye(latent, 2 * latent), persistent=False)

    def forward(self, e: Float[Tensor, "n k"]) -> Float[Tensor, "n l"]:
        return e[:, : self.latent]

    def draw(self, e: Float[Tensor, "n k"]) -> Draw:
        mean, log_variance = widen(e).chunk(2, dim=1)
        return _sample(mean, log_variance), _divergence(mean, log_variance)

    def matrix(self) -> Float[Tensor, "l k"]:
        return self.projection


class TruncatedPosterior(Truncated, Posterior):
    r"""z = V_r a with a ~ N(V_r^T e, diag(sigma^2)), the bridge of the VRRAE.

    The mean of a are the coefficients of the batch's truncated singular value decomposition, a
    linear map of them gives :math:`\log \sigma^2`, and N(0, I) is the prior of a. The directions
    are constants of the step: the gradient of a single direction is unbounded where singular
    values coincide, so none goes through the decomposition.

    Reference:
        Mounayer et al., Variational Rank Reduction Autoencoders (arXiv 2505.09458).

    Args:
        latent: the dimension l of the codes.
        rank: the number r of directions kept, 1 to l; min(32, l) by default.
        momentum: the weight of the newest batch in the running average, in (0, 1].
    """

    def __init__(self, latent: int, rank: int | None = None, momentum: float = 0.1) -> None:
        super().__init__(latent, rank, momentum)
        self.log_variance = nn.Linear(self.rank, self.rank)

    def forward(self, e: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        return e @ self.matrix()

    def draw(self, e: Float[Tensor, "n l"]) -> Draw:
        e = widen(e)
        V = batch_directions(self.update_moment(e), self.rank)
        mean = e @ V
        log_variance = self.log_variance(mean)
        return _sample(mean, log_variance) @ V.mT, _divergence(mean, log_variance)


class FlowPosterior(Posterior):
    r"""q(z | x) of z = f(mu + sigma g; h), for an encoder that outputs e = (mu, log sigma^2, h).

    f is a chain of affine coupling layers whose networks see h, and

    .. math:: \log q(z | x) = \log N(f^{-1}(z); \mu, \sigma^2) - \log |\det f'|.

    The divergence is estimated from the code drawn. In evaluation mode z = f(mu; h), which is not
    affine in e, so this bridge cannot be folded; its matrix is the identity. It needs the package
    zuko (`pip install 'lorae[flows]'`).

    Reference:
        Rezende and Mohamed, Variational Inference with Normalizing Flows (ICML 2015), whose flow
        is planar; the coupling layers are those of Dinh, Sohl-Dickstein and Bengio, Density
        estimation using Real NVP (ICLR 2017).

    Args:
        latent: the dimension l of the codes, at least 2; the encoder has 3 l outputs.
        transforms: the number of coupling layers, at least 1.
        hidden: the width of the two hidden layers of each coupling network, at least 1.
    """

    def __init__(self, latent: int, transforms: int = 4, hidden: int = 64) -> None:
        super().__init__(latent, 3 * latent)
        check_range("latent", latent, 2)
        check_range("transforms", transforms, 1)
        check_range("hidden", hidden, 1)
        try:
            from zuko.flows import NICE
        except ImportError:
            raise InputError("a flow needs the package zuko: pip install 'lorae[flows]'") from None
        self.flow = NICE(latent, latent, transforms=transforms, hidden_features=(hidden, hidden))

    def forward(self, e: Float[Tensor, "n k"]) -> Float[Tensor, "n l"]:
        mean, _, context = e.chunk(3, dim=1)
        code: Tensor = self._transform(context)(mean)
        return code

    def draw(self, e: Float[Tensor, "n k"]) -> Draw:
        mean, log_variance, context = widen(e).chunk(3, dim=1)
        start = _sample(mean, log_variance)
        z, log_det = self._transform(context).call_and_ladj(start)
        log_q = _log_normal(start, mean, log_variance) - log_det
        return z, log_q - _log_normal(z, torch.zeros_like(z), torch.zeros_like(z))

    def matrix(self) -> Float[Tensor, "l l"]:
        return torch.eye(self.latent)

    def affine(self) -> tuple[Float[Tensor, "l k"], Float[Tensor, " l"]]:
        """Raise an InputError: the map is not affine."""
        raise InputError("bridge must be affine to be folded, got a flow")

    def _transform(self, context: Tensor) -> Any:
        """Return f, the map from the base to codes, in the flow's own class."""
        return self.flow.transform(context).inv


def _divergence(
    mean: Float[Tensor, "n l"], log_variance: Float[Tensor, "n l"]
) -> Float[Tensor, " n"]:
    """Return KL(N(mean, diag(exp(log_variance))) || N(0, I)) in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def _log_normal(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    square = (z - mean).square() * (-log_variance).exp()
    return -0.5 * (square + log_variance + math.log(2 * math.pi)).sum(1)


def _sample(mean: Tensor, log_variance: Tensor) -> Tensor:
    return mean + (log_variance / 2).exp() * distributed.normal(mean)
