r"""Coordinates of a latent space that mean something in the data: those of PCA, of any decoder.

An invertible affine change of the codes changes nothing of what an autoencoder does. Among all
such changes one makes the codes read like those of principal component analysis. With the mean
:math:`\mu` and the covariance :math:`\Sigma = V \Lambda V^\top` of the codes, the whitened codes
:math:`y = \Lambda^{-1/2} V^\top (z - \mu)` are centred and uncorrelated, and remain so after every
rotation. Their metric, pulled back from the data and averaged over samples,

.. math::
    G = E \Big[ \frac{\partial D}{\partial y}^\top \frac{\partial D}{\partial y} \Big]
      = Q \Gamma Q^\top, \qquad \gamma_1 \ge \gamma_2 \ge \dots,

says how far a step in y moves what it decodes to. The coordinates are

.. math::  t = \Gamma^{1/2} Q^\top y,

which are centred, uncorrelated and ordered; :math:`\operatorname{var} t_k = \gamma_k` is, to first
order, the variance in data space that coordinate k carries, and a unit step along it moves the
decoded sample by 1 in the root mean square. For a linear decoder this is PCA of what it decodes
to: :math:`\partial D / \partial t` has orthonormal columns.

Here "data space" has the scaled units of the model, and its norm is the Euclidean one over all
values of a sample.
"""

import dataclasses
import threading
import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.linalg.moments import Moments
from lorae.nn import layers
from lorae.nn.autoencoder import Autoencoder, clone
from lorae.nn.bridges.base import NoBridge
from lorae.nn.bridges.low_rank import LowRank
from lorae.nn.inference import encode_all

_LEAST = 1e-12  # share of the largest variance, of codes or in data space, to still divide by
ROUGH = 1e-3
"""The same for a gauge in which training goes on. A direction that the codes hardly use would be
blown up until a single step of the optimizer led far outside of what the decoder has seen."""
_ONE_AT_A_TIME = threading.Lock()  # the level of forward differentiation is shared by threads
_ROOM = 2**25  # numbers in the Jacobians held at a time


@dataclass(frozen=True)
class Coordinates:
    r"""An affine change of codes, :math:`t = T (z - \mu)` and back :math:`z = \mu + B t`.

    Attributes:
        mean: :math:`\mu`.
        to: :math:`T`.
        back: :math:`B = T^{-1}`.
        variances: of the coordinates over the samples, descending, unbiased.
        directions: :math:`E[\partial D / \partial t_k]`, a row for each coordinate, flattened.
    """

    mean: Float[Tensor, " l"]
    to: Float[Tensor, "l l"]
    back: Float[Tensor, "l l"]
    variances: Float[Tensor, " l"]
    directions: Float[Tensor, "l d"]


@torch.no_grad()
def jacobians(
    decoder: nn.Module, codes: Float[Tensor, "n l"]
) -> tuple[Float[Tensor, "l l"], Float[Tensor, "l d"]]:
    r"""Return :math:`E[J^\top J]` and :math:`E[J]^\top` of a decoder over codes, in float64.

    Forward-mode differentiation: one pass for each latent dimension.

    Args:
        decoder: in evaluation mode.
        codes: n of them, at least 1, of the type and device of the decoder.

    Example:
        >>> metric, mean = jacobians(nn.Linear(2, 3, bias=False), torch.randn(5, 2))
        >>> torch.allclose(metric, mean @ mean.mT)
        True
    """
    n, latent = codes.shape
    values = decoder(codes[:1]).numel()
    metric = torch.zeros(latent, latent, dtype=torch.float64)
    mean = torch.zeros(latent, values, dtype=torch.float64)
    for part in torch.split(codes, max(1, _ROOM // (latent * values))):
        columns = [_pushed(decoder, part, k) for k in range(latent)]
        flat = torch.stack([column.flatten() for column in columns])
        metric += (flat @ flat.mT).double().cpu()
        mean += torch.stack([column.sum(0) for column in columns]).double().cpu()
    return metric / n, mean / n


def _pushed(decoder: nn.Module, codes: Float[Tensor, "n l"], k: int) -> Float[Tensor, "n d"]:
    """Return the derivative of what codes decode to by their entry k."""
    tangent = torch.zeros_like(codes)
    tangent[:, k] = 1
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        # torch's own rules for forward differentiation are made by what torch deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        pushed: Tensor = torch.func.jvp(decoder, (codes,), (tangent,))[1]
    return pushed.flatten(1)


@torch.no_grad()
def principal(
    model: Autoencoder,
    samples: Tensor,
    *,
    probe: int = 256,
    codes: Tensor | None = None,
    least: float = _LEAST,
) -> Coordinates:
    """Return the coordinates of a model over samples.

    Args:
        model: deterministic; it is not changed.
        samples: as the model's user has them, at least 2.
        probe: how many of them, at even distances, the metric is a mean over.
        codes: of the samples, where they are known.
        least: share of the largest variance below which another one counts as that share; its
            square is the least variance that counts at all, for codes that do not vary and for a
            decoder that has not learnt to use them.
    """
    was_training = model.training
    model.eval()
    z = encode_all(model, samples) if codes is None else codes
    moments = Moments(z.shape[1]).update(z)
    spread, V = torch.linalg.eigh(moments.covariance.cpu())
    floor = max(float(spread.max()) * least, least**2)
    scale = spread.clamp(min=floor).sqrt()
    chosen = z[torch.linspace(0, len(z) - 1, min(probe, len(z))).round().long()]
    G, mean_slope = jacobians(model.decoder, chosen.to(model.shift))
    B = V * scale
    gamma, Q = torch.linalg.eigh(B.mT @ G @ B)
    gamma, Q = gamma.flip(0), Q.flip(1)
    lowest = max(float(gamma.max()) * least, least**2)
    root = gamma.clamp(min=lowest).sqrt()
    back = (B @ Q) / root
    directions = back.mT @ mean_slope
    sign = _signs(directions)
    back, directions = back * sign, directions * sign[:, None]
    to = (sign * root)[:, None] * (Q.mT @ (V / scale).mT)
    variances = torch.einsum("kl,lm,km->k", to, moments.covariance.cpu(), to)
    model.train(was_training)
    return Coordinates(moments.mean.cpu(), to, back, variances, directions)


def aligned(model: Autoencoder, at: Coordinates, factor: float = 1.0) -> Autoencoder:
    """Return the model, whose bridge is none, with coordinates for codes; nothing else changes.

    Args:
        model: it is not changed.
        at: its coordinates.
        factor: by which they are all multiplied besides.

    Raises:
        InputError: if encoder or decoder cannot absorb an affine map.
    """
    return recoded(model, factor * at.to, -factor * at.to @ at.mean, at.back / factor, at.mean)


def gauged(model: Autoencoder, at: Coordinates) -> Autoencoder:
    r"""Return the model with a low-rank bridge whose singular values mean something in the data.

    The encoder puts out coordinates of variance 1, :math:`M = \operatorname{diag}(\Gamma^{1/2})`,
    and the decoder takes the coordinates: the singular values of M are the standard deviations in
    data space, so a threshold on them is one there, whatever the scales of the networks were.

    Args:
        model: its bridge is none; it is not changed.
        at: its coordinates, best with `least=ROUGH`.
    """
    deviations = at.variances.clamp(min=max(ROUGH * float(at.variances.max()), ROUGH**2)).sqrt()
    unit = at.to / deviations[:, None]
    copy = recoded(model, unit, -unit @ at.mean, at.back, at.mean)
    with torch.device("meta"):  # which draws no random numbers
        bridge = LowRank(len(deviations))
    bridge.weight = nn.Parameter(deviations.diag().to(model.shift))
    copy.bridge = bridge
    return copy


def reduced(model: Autoencoder, rank: int) -> Autoencoder:
    """Return the model with only the leading directions of its bridge's M, and no bridge.

    As :meth:`lorae.Autoencoder.cut`, but to a rank instead of at a threshold.

    Args:
        model: over a low-rank bridge; it is not changed.
        rank: 1 or more.
    """
    M, offset = (part.detach().double().cpu() for part in model.bridge.affine())
    U = torch.linalg.svd(M).U[:, :rank]
    return recoded(model, U.mT @ M, U.mT @ offset, U, None)


def recoded(
    model: Autoencoder,
    to: Float[Tensor, "r k"],
    to_offset: Float[Tensor, " r"],
    back: Float[Tensor, "l r"],
    back_offset: Float[Tensor, " l"] | None,
) -> Autoencoder:
    """Return a copy that encodes to `to e + to_offset` and decodes `back t + back_offset`.

    Here e is what the encoder puts out: the bridge is replaced by none.

    Raises:
        InputError: if encoder or decoder cannot absorb an affine map.
    """
    copy, device = clone(model), model.shift.device
    where = torch.device("cpu") if device.type == "mps" else device
    copy = copy.to(where)
    given = None if back_offset is None else back_offset.to(where)
    copy.encoder = layers.absorb(copy.encoder, to.to(where), to_offset.to(where))
    copy.decoder = layers.absorb_input(copy.decoder, back.to(where), given)
    copy.bridge = NoBridge(len(to)).to(copy.shift)
    if copy.architecture is not None:
        copy.architecture = dataclasses.replace(
            copy.architecture, latent=len(to), bridge="none", settings={}
        )
    return copy.to(device)


def _signs(directions: Float[Tensor, "l d"]) -> Float[Tensor, " l"]:
    """Return the sign of each row's largest entry, as scikit-learn's PCA has it positive."""
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True)).squeeze(1)
    return torch.where(largest < 0, -1.0, 1.0).to(directions)
