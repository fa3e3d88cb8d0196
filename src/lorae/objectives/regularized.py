r"""Deterministic autoencoders with a penalty on the codes, on the decoder, or on both.

Each is the mean squared error over all elements plus its own terms. A penalty published beside a
sum over the d elements of a sample (WAE) is divided by d like the error.
"""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.errors import InputError
from lorae.linalg.kernels import mmd
from lorae.linalg.svd import widen
from lorae.nn.autoencoder import Autoencoder
from lorae.objectives.base import Objective, Penalized, Terms, squared_norm
from lorae.utils import distributed
from lorae.utils.validation import check_range


class WAE(Penalized):
    r"""The Wasserstein autoencoder with the maximum mean discrepancy, WAE-MMD.

    .. math:: \text{mean}\,(D(z) - x)^2 + \frac{\lambda}{d} \mathrm{MMD}^2(\{z_i\}, \{g_i\}),
        \qquad g_i \sim N(0, I),

    with the unbiased estimator (:func:`lorae.linalg.kernels.mmd`), over the global batch.

    Reference:
        Tolstikhin et al., Wasserstein Auto-Encoders (ICLR 2018), algorithm 2. Their code multiplies
        the squared error, summed over a sample, by 0.05, so their 10 for MNIST is the default of
        200 here. For CelebA it is 500: theirs is 100 for images from -1 to 1, whose squared error
        is four times that of images from 0 to 1.
    """

    min_batch_size = 2
    weight = 200.0

    def forward(self, x: Float[Tensor, "n *shape"]) -> Terms:
        target, z = self.codes(x)
        codes = distributed.gather(widen(z))
        prior = distributed.gather(distributed.normal(z)).to(codes.dtype)
        discrepancy = self.current_weight / target[0].numel() * mmd(codes, prior)
        return {"reconstruction": self.error(z, target), "discrepancy": discrepancy}


class RAE(Penalized, ABC):
    r"""A regularized autoencoder: small codes and a smooth decoder.

    .. math:: \text{mean}\,(D(z) - x)^2 + \beta \, \text{mean}\, z^2 + \lambda R(D),

    where the second mean is over the batch and the l coordinates, as in the authors' code; the
    paper's equation has :math:`\tfrac{\beta}{2} \|z\|^2` for a sample, l / 2 times as much.

    Reference:
        Ghosh et al., From Variational to Deterministic Autoencoders (ICLR 2020), equation 10.
        The default weights are those of their code for MNIST.

    Args:
        model: a deterministic autoencoder.
        weight: beta, at least 0.
        smoothness: lambda, at least 0.
    """

    weight = 1e-4

    def __init__(
        self, model: Autoencoder, weight: float | None = None, smoothness: float = 1e-7
    ) -> None:
        super().__init__(model, weight)
        check_range("smoothness", smoothness, 0)
        self.smoothness = smoothness

    @abstractmethod
    def roughness(self, z: Float[Tensor, "n l"]) -> Float[Tensor, ""]:
        """Return R(D) for the codes of a batch."""

    def penalties(self, z: Float[Tensor, "n l"]) -> Terms:
        return {
            "codes": self.current_weight * z.square().mean(),
            "decoder": self.strength * self.smoothness * self.roughness(z),
        }


class RAEL2(RAE):
    """RAE-L2: R is the sum of the squares of the decoder's parameters."""

    def roughness(self, z: Float[Tensor, "n l"]) -> Float[Tensor, ""]:  # noqa: ARG002
        return squared_norm(self.model.decoder)


class RAEGP(RAE):
    r"""RAE-GP: R is the mean of :math:`\|\partial D / \partial z\|_F^2` over the batch.

    The Frobenius norm of the Jacobian J is estimated without bias as :math:`\|J^\top v\|^2` with
    independent signs v (Hutchinson 1990), one draw for each sample. It is the penalty of the paper;
    the authors' code, whose weight is the default, takes the gradient of :math:`\|D(z)\|^2`
    instead.
    """

    def __init__(
        self, model: Autoencoder, weight: float | None = None, smoothness: float = 0.5e-7
    ) -> None:
        super().__init__(model, weight, smoothness)

    def roughness(self, z: Float[Tensor, "n l"]) -> Float[Tensor, ""]:
        if not z.requires_grad:  # evaluated without a gradient, which the derivative needs
            z = z.detach().requires_grad_()
        with torch.enable_grad():
            output = self.model.decoder(z)
            signs = torch.where(distributed.uniform(output) < 0.5, -1.0, 1.0).to(output)
            (slope,) = torch.autograd.grad(output, z, signs, create_graph=True)
        return slope.square().sum(1).mean()


class RAESN(Penalized):
    r"""RAE-SN: small codes, and a decoder whose layers all have operator norm 1.

    .. math:: \text{mean}\,(D(z) - x)^2 + \beta \, \text{mean}\, z^2.

    Reference:
        Ghosh et al. (ICLR 2020), section 3; the default weight is that of their code for MNIST.
        The normalization is in the model (:func:`lorae.nn.blocks.add_spectral_norm`). Theirs
        divides a convolution by the norm of its reshaped kernel, not by that of its operator.
    """

    weight = 0.009

    def __init__(self, model: Autoencoder, weight: float | None = None) -> None:
        super().__init__(model, weight)
        check_lipschitz(model)

    def penalties(self, z: Float[Tensor, "n l"]) -> Terms:
        return {"codes": self.current_weight * z.square().mean()}


class LeastVolume(Penalized):
    r"""Least Volume: codes in a box of small volume, under a decoder that cannot stretch it.

    .. math:: \text{mean}\,(D(z) - x)^2
        + \lambda \exp \Big( \frac1l \sum_j \log (\text{std}(z_j) + \eta) \Big),

    with the standard deviations over the global batch, and operator norm 1 in every layer of the
    decoder. Coordinates that the reconstruction does not need shrink to zero one after the other.

    Reference:
        Chen and Fuge, Compressing Latent Space via Least Volume (ICLR 2024), equation 2; the
        defaults are those of its code.
    """

    min_batch_size = 2
    weight = 1e-4

    def __init__(self, model: Autoencoder, weight: float | None = None, eta: float = 1.0) -> None:
        super().__init__(model, weight)
        check_range("eta", eta, 0)
        check_lipschitz(model)
        self.eta = eta

    def penalties(self, z: Float[Tensor, "n l"]) -> Terms:
        return {"volume": self.current_weight * self.volume(z)}

    def volume(self, z: Float[Tensor, "n l"]) -> Float[Tensor, ""]:
        """Return the geometric mean of the deviations plus eta."""
        codes = distributed.gather(widen(z))
        if len(codes) < 2:
            raise InputError(f"batch must have at least 2 samples, got {len(codes)}")
        tiny = torch.finfo(codes.dtype).tiny  # for a finite gradient at a deviation of 0
        deviations = (codes.var(0) + tiny).sqrt()
        return (deviations + self.eta + tiny).log().mean().exp()


class NestedDropout(Objective):
    r"""Nested dropout: each code is truncated after a random number of coordinates.

    .. math:: \text{mean}\,(D(z_1, \dots, z_b, 0, \dots, 0) - x)^2, \qquad
        P(b) = (1 - \rho) \rho^{b - 1},

    with one b for each sample. So the coordinates are ordered by importance, like those of PCA, and
    a code may be truncated at any length.

    Reference:
        Rippel, Gelbart and Adams, Learning Ordered Representations with Nested Dropout (ICML
        2014). Their rho is not stated; the default makes the mean of b 20.

    Args:
        model: a deterministic autoencoder.
        rho: above 0 and below 1; the mean of b is 1 / (1 - rho).
    """

    def __init__(self, model: Autoencoder, rho: float = 0.95) -> None:
        super().__init__(model)
        check_range("rho", rho, 0, 1, open_low=True, open_high=True)
        self.rho = rho

    def forward(self, x: Float[Tensor, "n *shape"]) -> Terms:
        target, z = self.codes(x)
        u = 1 - distributed.uniform(z[:, :1])  # in (0, 1]
        lengths = 1 + (u.log() / math.log(self.rho)).floor()
        kept = torch.arange(z.shape[1], device=z.device) < lengths
        return {"reconstruction": self.error(z * kept, target)}


def check_lipschitz(model: Autoencoder) -> None:
    """Check that the layers of a decoder are normalised."""
    parametrized = nn.utils.parametrize.is_parametrized
    if not any(parametrized(module, "weight") for module in model.decoder.modules()):
        raise InputError(
            "decoder must have layers of operator norm 1: build the model with lipschitz=True, or "
            "call lorae.nn.blocks.add_spectral_norm on the decoder"
        )
