r"""Densities fitted on latent codes, from which new codes are drawn.

A density is a probability measure :math:`p` on :math:`R^l` with three operations,

.. math::
    \text{fit}: \{z_i\} \mapsto p, \qquad
    \text{sample}: z \sim p, \qquad
    \text{log\_prob}: z \mapsto \log p(z).

It sees codes only: who has a model decodes what was drawn. A low-rank latent space fills only a
subspace, so a density may be singular; then :math:`p` is with respect to the Lebesgue measure on
its affine support, and the logarithm off the support is :math:`-\infty`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError
from lorae.linalg.moments import Moments
from lorae.nn.autoencoder import Autoencoder


class Density(ABC):
    """A probability measure on codes. Fitted state has names that end in an underscore."""

    @abstractmethod
    def fit(self, codes: Float[Tensor, "n l"]) -> Self:
        """Fit to codes, and return self.

        Raises:
            InputError: The codes are too few, not finite, or no matrix.
        """

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n l"]:
        """Return n independent codes, of the type and device of those that were fitted.

        Args:
            n: how many, 0 or more.
            generator: where the randomness comes from; PyTorch's global generator by default.
        """

    @abstractmethod
    def log_prob(self, codes: Float[Tensor, "n l"]) -> Float[Tensor, " n"]:
        """Return the logarithm of the density at each code, in nats and in float64."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return the fitted state.

        Raises:
            InputError: There was no fit.
        """

    @abstractmethod
    def restore(self, tensors: Mapping[str, Tensor]) -> Self:
        """Take up a state that :meth:`tensors` gave, and return self."""


class Gaussian(Density):
    r"""The multivariate normal with the mean and the unbiased covariance of the codes.

    With the covariance :math:`C = V \operatorname{diag}(\lambda) V^\top` and the :math:`r` pairs
    that are kept,

    .. math::
        z = \mu + V_r \operatorname{diag}(\lambda_r)^{1/2} g, \quad g \sim N(0, I_r), \qquad
        \log p(z) = -\tfrac12 \sum_{i \le r} \Big(
            \frac{(v_i^\top (z - \mu))^2}{\lambda_i} + \log 2 \pi \lambda_i \Big),

    where a direction with :math:`\lambda_i \le \text{threshold} \cdot \lambda_1`, or with a
    deviation :math:`\lambda_i^{1/2} \le 4 \epsilon \|\mu\|` that is but rounding of the codes
    (:math:`\epsilon` is the spacing at 1 of their type), has variance exactly 0. No sample leaves
    the support :math:`\mu + \text{span} V_r`, and :math:`\log p = -\infty` at a distance from it
    of more than tolerance times :math:`\lambda_1^{1/2}`, plus :math:`8 \epsilon \|\mu\|`. Codes
    that are all the same have :math:`r = 0` and :math:`\log p = 0` at that point. Everything is
    computed in float64.

    Reference: Rao, Linear statistical inference and its applications, 2nd edition, 1973, section
    8a.4, for the density of a singular normal distribution.

    Args:
        threshold: relative to the largest variance, in [0, 1). The default drops deviations below
            1e-5 of the largest, about the rounding of codes that a network computes in float32.
        tolerance: relative to the largest standard deviation, 0 or more.

    Attributes:
        mean_: :math:`\mu`, float64.
        variances_: :math:`\lambda`, float64, descending, the dropped ones 0.
        directions_: :math:`V`, one direction a column, float64.

    Raises:
        InputError: The threshold or the tolerance is out of range.

    Example:
        >>> plane = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
        >>> gaussian = Gaussian().fit(torch.cat([plane, plane.sum(1, keepdim=True)], 1))
        >>> gaussian.rank, gaussian.sample(7).shape
        (2, torch.Size([7, 3]))
        >>> gaussian.log_prob(torch.tensor([[1.0, 1.0, 2.0], [1.0, 1.0, 0.0]]))
        tensor([-3.3, -inf], dtype=torch.float64)
    """

    mean_: Float[Tensor, " l"]
    variances_: Float[Tensor, " l"]
    directions_: Float[Tensor, "l l"]

    def __init__(self, *, threshold: float = 1e-10, tolerance: float = 1e-3) -> None:
        if not 0 <= threshold < 1:
            raise InputError(f"threshold must be in [0, 1), and was {threshold}")
        if not 0 <= tolerance < math.inf:
            raise InputError(f"tolerance must be a finite number of 0 or more, and was {tolerance}")
        self.threshold = threshold
        self.tolerance = tolerance
        self._dtype: torch.dtype | None = None
        self._device = torch.device("cpu")

    @property
    def rank(self) -> int:
        """The dimension of the support, the number of variances that are not 0."""
        self._require_fit()
        return int((self.variances_ > 0).sum())

    def fit(self, codes: Float[Tensor, "n l"]) -> Self:
        """Fit to n >= 2 codes, and return self.

        Raises:
            InputError: There are fewer than 2 codes, or they are not finite, or no matrix.
        """
        if codes.ndim != 2 or codes.shape[1] < 1:
            raise InputError(f"codes must have shape (n, l), and had {tuple(codes.shape)}")
        if not bool(codes.isfinite().all()):
            raise InputError("codes must be finite, and some were NaN or infinite")
        moments = Moments(codes.shape[1])
        for part in torch.split(codes, 10_000):
            moments.update(part)
        ascending, vectors = torch.linalg.eigh(moments.covariance)
        variances = ascending.flip(-1).clamp(min=0)
        rounding = (4 * torch.finfo(codes.dtype).eps * moments.mean.norm()).square()
        kept = variances > (self.threshold * variances[0]).maximum(rounding)
        self._dtype, self._device = codes.dtype, codes.device
        self.mean_ = moments.mean
        self.variances_ = variances.where(kept, 0.0)
        self.directions_ = vectors.flip(-1)
        return self

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n l"]:
        """Return n independent codes, of the type and device of those that were fitted.

        Raises:
            InputError: n is negative, or there was no fit.
        """
        rank = self.rank
        if n < 0:
            raise InputError(f"n must be 0 or more, and was {n}")
        where = self.mean_.device if generator is None else generator.device
        g = torch.randn(n, rank, generator=generator, device=where, dtype=torch.float64)
        spread = self.directions_[:, :rank] * self.variances_[:rank].sqrt()
        return (self.mean_ + g.to(self.mean_.device) @ spread.mT).to(self._device, self._dtype)

    def log_prob(self, codes: Float[Tensor, "n l"]) -> Float[Tensor, " n"]:
        """Return the log-density at each code, in nats, float64; -inf off the support.

        Raises:
            InputError: The codes are of another dimension, or there was no fit.
        """
        rank = self.rank
        if codes.ndim != 2 or codes.shape[1] != len(self.mean_):
            shape = tuple(codes.shape)
            raise InputError(f"codes must have shape (n, {len(self.mean_)}), and had {shape}")
        rounding = 8 * torch.finfo(codes.dtype).eps * self.mean_.norm()
        centred = codes.to(self.mean_.device, torch.float64) - self.mean_
        along, variances = centred @ self.directions_[:, :rank], self.variances_[:rank]
        off = (centred - along @ self.directions_[:, :rank].mT).norm(dim=1)
        logarithm = -0.5 * (along.square() / variances + (2 * math.pi * variances).log()).sum(1)
        allowed = self.tolerance * self.variances_[0].sqrt() + rounding
        return logarithm.where(off <= allowed, -math.inf).to(codes.device)

    def tensors(self) -> dict[str, Tensor]:
        """Return mean, variances and directions, and an empty code of the type that was fitted.

        Raises:
            InputError: There was no fit.
        """
        self._require_fit()
        return {
            "mean": self.mean_,
            "variances": self.variances_,
            "directions": self.directions_,
            "empty": self.sample(0),
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> Self:
        """Take up a state that :meth:`tensors` gave, and return self."""
        self.mean_, self.variances_ = tensors["mean"], tensors["variances"]
        self.directions_ = tensors["directions"]
        self._dtype, self._device = tensors["empty"].dtype, tensors["empty"].device
        return self

    def _require_fit(self) -> None:
        if self._dtype is None:
            raise InputError("the Gaussian has not been fitted yet: call fit first")


class Prior(Density):
    r"""N(0, V V^T), which training has made the codes follow; nothing of it is fitted.

    .. math:: z = V g, \quad g \sim N(0, I_r), \qquad
        \log p(z) = -\tfrac12 \|z\|^2 - \tfrac r2 \log 2 \pi,

    with orthonormal columns :math:`V`; off their span, at a distance of more than tolerance,
    :math:`\log p = -\infty`.

    Args:
        directions: :math:`V`; the identity for a prior that fills the space.
        tolerance: a distance, 0 or more.

    Example:
        >>> prior = Prior(torch.eye(3)[:, :2])
        >>> prior.sample(5).shape, prior.log_prob(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
        (torch.Size([5, 3]), tensor([-1.8, -inf], dtype=torch.float64))
    """

    def __init__(self, directions: Float[Tensor, "l r"], *, tolerance: float = 1e-3) -> None:
        self.directions = directions
        self.tolerance = tolerance

    def fit(self, codes: Float[Tensor, "n l"]) -> Self:  # noqa: ARG002
        """Return self: a prior does not depend on codes."""
        return self

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n l"]:
        """Return n independent codes, of the type and device of the directions.

        Raises:
            InputError: n is negative.
        """
        if n < 0:
            raise InputError(f"n must be 0 or more, and was {n}")
        V = self.directions
        where = V.device if generator is None else generator.device
        g = torch.randn(n, V.shape[1], generator=generator, device=where, dtype=V.dtype)
        return g.to(V.device) @ V.mT

    def log_prob(self, codes: Float[Tensor, "n l"]) -> Float[Tensor, " n"]:
        """Return the log-density at each code, in nats, float64; -inf off the span."""
        V = self.directions.double().to(codes.device)
        along = codes.double() @ V
        off = (codes.double() - along @ V.mT).norm(dim=1)
        logarithm = -0.5 * (along.square() + math.log(2 * math.pi)).sum(1)
        return logarithm.where(off <= self.tolerance, -math.inf)

    def tensors(self) -> dict[str, Tensor]:
        """Return the directions."""
        return {"directions": self.directions}

    def restore(self, tensors: Mapping[str, Tensor]) -> Self:
        """Take up a state that :meth:`tensors` gave, and return self."""
        self.directions = tensors["directions"]
        return self


def density_for(model: Autoencoder) -> Density:
    """Return the density that new codes of a model are to be drawn from, not fitted yet.

    That is the prior where training made the codes follow one, and else a Gaussian.

    Args:
        model: any.

    Example:
        >>> from lorae.nn.autoencoder import Architecture, build
        >>> model = build(Architecture("mlp", (6,), 3)).eval()
        >>> density = density_for(model).fit(model.encode(torch.rand(50, 6)).detach())
        >>> model.decode(density.sample(4)).shape
        torch.Size([4, 6])
    """
    return Prior(model.bridge.directions().to(model.shift)) if model.prior else Gaussian()
