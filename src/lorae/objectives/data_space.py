r"""The Low-Rank Autoencoder whose penalty is a property of the function.

With the standard deviations :math:`s_k` that the directions of the code carry in data space, the
singular values of M of :class:`lorae.nn.bridges.data_space.DataSpace`, the objective is

.. math:: E \tfrac12 \|D(B(E(x))) - x\|^2 + \sum_k P(s_k), \qquad
    P'(s) = \max(\tau - s / \gamma, 0), \qquad \tau^2 = \lambda E \|x - \bar x\|^2,

where distances are over all values of a sample. So lambda is the share of the variance of the data
that a direction has to carry. For linear networks the minimum is known: principal component
analysis with standard deviations below :math:`\tau` set to 0, those above :math:`\gamma \tau`
unchanged, and :math:`\gamma (\sigma - \tau) / (\gamma - 1)` in between. With gamma = 1, the
default, no direction that stays is shrunk: where the error is stationary for the networks it is
also stationary for M. For a large gamma P becomes :math:`\tau s`, the nuclear norm, and all
standard deviations are lowered by tau. The networks, which take the optimizer's steps on the error
alone, then undo a part of each step of M, and the minimum is reached only as the learning rate
falls to 0.

Every k steps, with the statistics of the bridge brought up to date, each singular value of M takes
a proximal step along the derivative of the error by it. In the units of M the curvature of
the error is about 1, so a step of length 1/2 needs no tuning. Singular vectors of the directions
that stay are left as they are: the networks turn them. A removed direction keeps a fifth of tau in
training, as a part of P of the bridge, so that the networks can find out what it could carry. The
removed ones are turned to what the error's derivative says is missing most, and one that could
carry more than tau returns.

The error does not say how large the encoder's outputs are, since W of the bridge undoes their
scale; but a step of Adam moves every weight by about the learning rate, whatever its gradient is.
An output that varies by a thousandth would be moved by many times its spread. So the last layer of
the encoder is multiplied by the matrix that makes its outputs white
(:func:`lorae.nn.folding.whiten_output`), and W by the inverse, which changes no code. An encoder
that does not end in a linear layer stays as it is.

Reference:
    Zhang, Nearly unbiased variable selection under minimax concave penalty (Annals of Statistics
    2010), for P; Gao and Bruce, WaveShrink with firm shrinkage (Statistica Sinica 1997), for its
    proximal map.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.errors import InputError
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.bridges.data_space import DataSpace
from lorae.nn.folding import whiten_output
from lorae.nn.inference import evaluation_mode
from lorae.objectives.base import Terms, require_bridge
from lorae.objectives.lorae import ProximalStep
from lorae.utils.distributed import average, world_size
from lorae.utils.validation import check_range

LENGTH = 0.5
"""The length of a step of M."""
PROBES = 8
"""The most codes at which the metric of the decoder is measured before a step of M."""
DECODED = 512
"""The number of codes that this decodes, as long as it is measured at 2 codes."""
GROWTH = 1.1
"""The largest factor by which a step of M stretches a direction."""
_LEAST = 0.2  # the standard deviation that a direction keeps in training, as a share of tau
_DIFFERENCE = 0.2  # finite differences, in standard deviations of the codes
_SMALLEST = 0.01  # the smallest of these standard deviations, as a share of the largest
_BATCH, _METRIC, _VARIANCE = 0.05, 0.5, 0.01  # weights of the newest value in running means
_RIDGE = 1e-3  # variance that is added to the inputs of the encoder's last layer in whitening
_CHUNK = 512  # codes that are decoded at a time


class DataSpaceLoRAE(ProximalStep):
    """LoRAE with a penalty on the singular values of M in data space.

    Args:
        model: an autoencoder over the bridge :class:`lorae.nn.bridges.data_space.DataSpace`.
        weight: lambda, the share of the variance of the data that a direction has to carry, at
            least 0.
        every: the number k of steps between two steps of M, at least 1; by default
            :func:`default_interval`.
        ramp: the number of steps over which tau rises to its full value, at least 0.
        gamma: a standard deviation of gamma tau or more is not shrunk, at least 1. With a large
            gamma the penalty is the nuclear norm, which shrinks all of them by tau.

    Example:
        >>> from lorae.nn.autoencoder import Architecture, build
        >>> model = build(Architecture("mlp", (6,), 3, "data-space"))
        >>> list(DataSpaceLoRAE(model)(torch.rand(5, 6)))
        ['reconstruction']
    """

    min_batch_size = 2
    capturable = False

    metric: Tensor  # E[J^T J] of the decoder, in the units of the codes

    def __init__(
        self,
        model: Autoencoder,
        weight: float = 1e-3,
        every: int | None = None,
        ramp: int = 1000,
        gamma: float = 1.0,
    ) -> None:
        latent = require_bridge(model, DataSpace, "data-space").latent
        check_range("every", every, 1)
        check_range("ramp", ramp, 0)
        check_range("gamma", gamma, 1)
        super().__init__(model, weight, every or default_interval(latent))
        self.ramp, self.gamma = ramp, gamma
        self.statistics = Statistics(latent)
        self.register_buffer("metric", torch.zeros(latent, latent))
        self.probed = max(2, min(PROBES, DECODED // latent))
        self.probes, self.values = torch.empty(0), 0

    @property
    def bridge(self) -> DataSpace:
        """The bridge of the model."""
        return require_bridge(self.model, DataSpace, "data-space")

    @property
    def matrix(self) -> nn.Parameter:
        return self.bridge.weight

    @property
    def floor(self) -> float:
        """The standard deviation up to which a direction belongs to P, in scaled units.

        With gamma = 1, a direction below tau is on its way to 0 or to more than tau: half of tau
        decides. With a larger one, small standard deviations belong to the minimum, and those are
        of P that are hardly above what removed directions keep.
        """
        return max(1 / self.gamma - 0.5, 1.5 * _LEAST) * self.threshold

    @property
    def threshold(self) -> float:
        """The standard deviation tau that a direction has to carry at present, in scaled units."""
        rise = min(1.0, self.steps / self.ramp) if self.ramp else 1.0
        return rise * math.sqrt(self.current_weight) * self.statistics.deviation

    def forward(self, x: Float[Tensor, "n *shape"]) -> Terms:
        target = self.model.scaled(x)
        e = self.model.encoder(self.hide(target))
        z = self.bridge(e)
        if self.training:
            whole = target if self.model.gaps is None else self.model.gaps.fill(target)
            self.statistics.update(whole, e, self.steps + 1)
            self.probes = z[: max(1, self.probed // world_size())].detach()
            self.values = target[0].numel()
        return {"reconstruction": self.error(z, target)}

    def step_matrix(self, gradient: Float[Tensor, "l l"]) -> None:
        if not len(self.probes):  # no batch was seen
            return
        seen, bridge, count = self.statistics, self.bridge, self.steps // self.every
        metric = measure_metric(self.model.decoder, bridge, self.probes, first=count == 1)
        self.metric.lerp_(average(metric.to(self.metric)), _newest(_METRIC, count))
        _whiten(self.model.encoder, bridge, seen)
        half = bridge.regauge(  # of half the squared error of a sample
            seen.mean, seen.covariance, self.metric, gradient * (self.values / 2)
        )
        least = _LEAST * math.sqrt(self.weight) * seen.deviation
        M = bridge.training_matrix().cpu().double()
        parts = step(M, half, self.threshold, self.gamma, floor=self.floor, least=least)
        bridge.set_deviations(*parts, self.floor)


def _whiten(encoder: nn.Module, bridge: DataSpace, seen: "Statistics") -> None:
    """Make the encoder's outputs white, without changing a code."""
    A = whiten_output(encoder, seen.covariance, _RIDGE)
    if A is not None:
        bridge.change_inputs(A)
        seen.change_outputs(A)


def step(
    M: Float[Tensor, "l l"],
    gradient: Float[Tensor, "l l"],
    tau: float,
    gamma: float,
    *,
    floor: float,
    least: float,
) -> tuple[Float[Tensor, "l l"], Float[Tensor, " l"], Float[Tensor, "l l"]]:
    """Return the singular value decomposition of M after a proximal step, in data space.

    Args:
        M: before it.
        gradient: of half the squared error of a sample.
        tau: the standard deviation that a direction has to carry.
        gamma: as in :class:`DataSpaceLoRAE`.
        floor: the standard deviation up to which directions are turned (:func:`align_removed`).
        least: what a removed direction keeps, once growth by a tenth has reached it.
    """
    potential = M - gradient
    U, sigma, Vh = align_removed(M, potential, floor)
    slope = sigma - ((U.mT @ potential) * Vh).sum(1)
    new, most = proximal_step(sigma, slope, tau, LENGTH, gamma), GROWTH * sigma
    return U, torch.clamp(new, most.clamp(max=least), most), Vh


class Statistics(nn.Module):
    """Running mean and covariance of encoder outputs, and the variance of the data.

    Attributes:
        mean: of the encoder outputs.
        covariance: of the encoder outputs.
        variance: E ||x - mean||^2 of the samples x, in scaled units.
    """

    mean: Tensor
    covariance: Tensor
    variance: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("covariance", torch.zeros(latent, latent))
        self.register_buffer("variance", torch.zeros(()))

    @property
    def deviation(self) -> float:
        """The root of the variance of the data."""
        return math.sqrt(float(self.variance))

    @torch.no_grad()
    def update(self, x: Float[Tensor, "n *shape"], e: Float[Tensor, "n l"], count: int) -> None:
        """Add a batch, the count-th; of the first ones all have the same weight."""
        n = len(x) * world_size()
        if n < 2:
            raise InputError(f"batch must have at least 2 samples, got {n}")
        x, e, newest = x.flatten(1), e.to(self.mean), _newest(_BATCH, count)
        with torch.autocast(e.device.type, enabled=False):
            mean = average(e.mean(0))
            centred, step = e - mean, mean - self.mean
            self.covariance.lerp_(average(centred.mT @ centred / len(e)), newest)
            self.covariance.add_(newest * (1 - newest) * torch.outer(step, step))
            self.mean.add_(newest * step)
            spread = average((x - average(x.mean(0))).square().mean(0)).sum() * n / (n - 1)
            self.variance.lerp_(spread.to(self.variance), _newest(_VARIANCE, count))

    @torch.no_grad()
    def change_outputs(self, A: Float[Tensor, "l l"]) -> None:
        """Take A e in the place of the encoder outputs e seen so far."""
        self.mean.copy_(A @ self.mean.to(A))
        self.covariance.copy_(A @ self.covariance.to(A) @ A.mT)


def measure_metric(
    decoder: nn.Module, bridge: DataSpace, codes: Float[Tensor, "n l"], *, first: bool
) -> Float[Tensor, "l l"]:
    """Return the mean metric of a decoder, by differences along the principal axes of the codes.

    Args:
        decoder: of codes.
        bridge: whose M has these axes.
        codes: n of them.
        first: whether M is not in data space yet; then differences are along single codes.
    """
    if first:  # the codes may not vary
        steps = torch.diag(codes.std(0, correction=0).clamp(min=1e-6))
    else:
        U, sigma, _ = torch.linalg.svd(bridge.training_matrix().cpu().double())
        axes = U * sigma.clamp(min=_SMALLEST * max(float(sigma[0]), 1e-6))
        steps = (bridge.scale @ axes.to(bridge.scale)).mT
    return mean_metric(decoder, codes, _DIFFERENCE * steps)


@torch.no_grad()
def mean_metric(
    decoder: nn.Module, codes: Float[Tensor, "n l"], steps: Float[Tensor, "l l"]
) -> Float[Tensor, "l l"]:
    r"""Return :math:`E[J^\top J]` of a decoder over codes, by finite differences, in float64."""
    n, latent = codes.shape
    moved = (codes + steps[:, None]).flatten(0, 1)
    with evaluation_mode(decoder), torch.autocast(codes.device.type, enabled=False):
        decoded = torch.cat([decoder(part).flatten(1) for part in torch.split(moved, _CHUNK)])
        rows = (decoded.reshape(latent, n, -1) - decoder(codes).flatten(1)).flatten(1)
    inverse = torch.linalg.inv(steps.cpu().double())
    metric: Tensor = inverse @ ((rows @ rows.mT).cpu().double() / n) @ inverse.mT
    return metric


def align_removed(
    M: Float[Tensor, "l l"], potential: Float[Tensor, "l l"], floor: float
) -> tuple[Float[Tensor, "l l"], Float[Tensor, " l"], Float[Tensor, "l l"]]:
    """Return singular vectors and values of M, with removed directions turned to what is missing.

    Within their span, the singular vectors of values up to a floor are replaced by those of the
    potential, so that the direction that could carry most has the largest of these values.

    Args:
        M: with standard deviations in data space as singular values.
        potential: M less the derivative of the error by it, where the error is stationary if its
            curvature is 1.
        floor: of the singular values that stay.
    """
    U, sigma, Vh = torch.linalg.svd(M)
    kept = int((sigma > floor).sum())
    A, _, B = torch.linalg.svd(U[:, kept:].mT @ potential @ Vh[kept:].mT)
    U = torch.cat([U[:, :kept], U[:, kept:] @ A], 1)
    return U, sigma, torch.cat([Vh[:kept], B @ Vh[kept:]])


def proximal_step(
    sigma: Float[Tensor, " l"],
    slope: Float[Tensor, " l"],
    threshold: float,
    length: float,
    gamma: float,
) -> Float[Tensor, " l"]:
    """Return standard deviations after a proximal step of the penalty P.

    Args:
        sigma: the standard deviations.
        slope: derivatives of the smooth part by them.
        threshold: tau.
        length: of the step.
        gamma: above the length.

    Example:
        >>> sigma, slope = torch.tensor([2.0, 0.5]), torch.zeros(2)
        >>> proximal_step(sigma, slope, threshold=1.0, length=0.5, gamma=1.0)
        tensor([2., 0.])
    """
    sigma = sigma - length * slope
    shrunk = (sigma - length * threshold).clamp(min=0) / (1 - length / gamma)
    return torch.where(sigma > gamma * threshold, sigma, shrunk)


def default_interval(latent: int) -> int:
    """Return the number of steps between two steps of M.

    Measuring the metric decodes 512 codes or so, and a singular value decomposition takes time of
    the order of l^3; `docs/rank.md` has the cost of a step.
    """
    return max(20, latent // 4)


def _newest(weight: float, count: int) -> float:
    """Return the weight of the newest value in a running mean; the first ones weigh the same."""
    return max(weight, 1 / count)
