r"""Coordinates: codes that read like those of principal component analysis, for any decoder.

An invertible affine change of the codes does not change what an autoencoder computes, so it may be
chosen freely. With the mean :math:`\mu` and the covariance :math:`\Sigma = V \Lambda V^\top` of the
codes, the whitened codes :math:`y = \Lambda^{-1/2} V^\top (z - \mu)` are centred and uncorrelated,
and stay so under every rotation. The pull-back metric of the decoder D, averaged over samples,

.. math::
    G = E \Big[ \frac{\partial D}{\partial y}^\top \frac{\partial D}{\partial y} \Big]
      = Q \Gamma Q^\top, \qquad \gamma_1 \ge \gamma_2 \ge \dots,

tells how far a step in y moves the decoded sample. The coordinates are

.. math::  t = \Gamma^{1/2} Q^\top y.

They are centred, uncorrelated and ordered. To first order, :math:`\operatorname{var} t_k =
\gamma_k` is the variance in data space that coordinate k explains, and a unit step along it moves
the decoded sample by 1 in root mean square. If the decoder is linear, they are the principal
components of the decoded samples: :math:`\partial D / \partial t` has orthonormal columns.

Distances in data space are Euclidean, over all values of a sample in the scaled units of the model.
"""

import threading
import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.linalg.moments import Moments
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import encode_all, evaluation_mode

_FLOOR = 1e-12  # share of the largest variance that every direction has at least
_MAX_JACOBIAN = 2**25  # numbers in the Jacobians held at a time
_LOCK = threading.Lock()  # threads share the level of forward-mode differentiation


@dataclass(frozen=True)
class Coordinates:
    r"""An affine change of codes, :math:`t = T (z - \mu)`, and its inverse, :math:`z = \mu + B t`.

    Attributes:
        mean: :math:`\mu`.
        transform: :math:`T`.
        inverse: :math:`B = T^{-1}`.
        variances: unbiased variances of the coordinates over the samples, descending.
        directions: :math:`E[\partial D / \partial t_k]`, flattened, one row for each coordinate.
    """

    mean: Float[Tensor, " l"]
    transform: Float[Tensor, "l l"]
    inverse: Float[Tensor, "l l"]
    variances: Float[Tensor, " l"]
    directions: Float[Tensor, "l d"]


@torch.no_grad()
def principal_coordinates(
    model: Autoencoder, samples: Tensor, *, metric_samples: int = 256
) -> Coordinates:
    """Return the coordinates of a model over samples.

    Args:
        model: deterministic; it is not changed.
        samples: at least 2, in the units of the data.
        metric_samples: number of samples, evenly spaced among all, that the metric is averaged
            over.
    """
    with evaluation_mode(model):
        z = encode_all(model, samples)
        probe = z[torch.linspace(0, len(z) - 1, min(metric_samples, len(z))).round().long()]
        G, slope = mean_jacobian(model.decoder, probe.to(model.scale))
    moments = Moments(z.shape[1]).update(z)
    covariance = moments.covariance.cpu()
    variances, V = torch.linalg.eigh(covariance)
    deviations = _clamp_variances(variances).sqrt()
    B = V * deviations
    gamma, Q = (part.flip(-1) for part in torch.linalg.eigh(B.mT @ G @ B))
    root = _clamp_variances(gamma).sqrt()
    inverse = (B @ Q) / root
    sign = row_signs(inverse.mT @ slope)
    inverse = inverse * sign
    transform = (sign * root)[:, None] * (Q.mT @ (V / deviations).mT)
    return Coordinates(
        mean=moments.mean.cpu(),
        transform=transform,
        inverse=inverse,
        variances=(transform @ covariance @ transform.mT).diagonal(),
        directions=inverse.mT @ slope,
    )


@torch.no_grad()
def mean_jacobian(
    decoder: nn.Module, codes: Float[Tensor, "n l"]
) -> tuple[Float[Tensor, "l l"], Float[Tensor, "l d"]]:
    r"""Return :math:`E[J^\top J]` and :math:`E[J]^\top` of a decoder over codes, in float64.

    Computed by forward-mode differentiation, one pass for each latent dimension.

    Args:
        decoder: in evaluation mode.
        codes: at least 1, of the dtype and on the device of the decoder.

    Example:
        >>> metric, mean = mean_jacobian(nn.Linear(2, 3, bias=False), torch.randn(5, 2))
        >>> torch.allclose(metric, mean @ mean.mT)
        True
    """
    n, latent = codes.shape
    values = decoder(codes[:1]).numel()
    metric = torch.zeros(latent, latent, dtype=torch.float64)
    mean = torch.zeros(latent, values, dtype=torch.float64)
    for batch in torch.split(codes, max(1, _MAX_JACOBIAN // (latent * values))):
        columns = [_partial_derivative(decoder, batch, k) for k in range(latent)]
        flat = torch.stack([column.flatten() for column in columns])
        metric += (flat @ flat.mT).double().cpu()
        mean += torch.stack([column.sum(0) for column in columns]).double().cpu()
    return metric / n, mean / n


def _partial_derivative(
    decoder: nn.Module, codes: Float[Tensor, "n l"], k: int
) -> Float[Tensor, "n d"]:
    tangent = torch.zeros_like(codes)
    tangent[:, k] = 1
    with _LOCK, warnings.catch_warnings():
        # The first use of forward-mode differentiation compiles rules by deprecated means.
        warnings.simplefilter("ignore", DeprecationWarning)
        derivative: Tensor = torch.func.jvp(decoder, (codes,), (tangent,))[1]
    return derivative.flatten(1)


def _clamp_variances(variances: Float[Tensor, " l"]) -> Float[Tensor, " l"]:
    return variances.clamp(min=max(_FLOOR * float(variances.max()), _FLOOR**2))


def row_signs(rows: Float[Tensor, "l d"]) -> Float[Tensor, " l"]:
    """Return the sign of the largest entry of each row, which scikit-learn's PCA makes positive."""
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True)).squeeze(1)
    return torch.where(largest < 0, -1.0, 1.0).to(rows)
