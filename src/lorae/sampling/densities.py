r"""Densities fitted to latent codes, from which new codes are drawn.

A density is a probability measure :math:`p` on :math:`R^l` with three operations,

.. math::
    \text{fit}: \{z_i\} \mapsto p, \qquad
    \text{sample}: z \sim p, \qquad
    \text{log\_prob}: z \mapsto \log p(z).

It sees only codes; decoding them is left to the caller. The codes of a low-rank latent space lie in
a subspace, so a density may be singular: :math:`p` is then with respect to the Lebesgue measure on
its affine support, and the logarithm off the support is :math:`-\infty`.
"""

import math
from abc import ABC, abstractmethod
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError
from lorae.linalg.moments import Moments
from lorae.utils.validation import check_finite, check_range


class Density(ABC):
    """A probability measure on codes. Fitted state has names that end in an underscore."""

    @abstractmethod
    def fit(self, codes: Float[Tensor, "n l"]) -> Self:
        """Fit to codes, and return self."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n l"]:
        """Return n independent codes, of the type and device of the fitted ones."""

    @abstractmethod
    def log_prob(self, codes: Float[Tensor, "n l"]) -> Float[Tensor, " n"]:
        """Return the log-density at each code, in nats, float64; -inf off the support.

        It is NaN at a code that is NaN.
        """


class Whitened(Density):
    r"""A density of whitened codes, on the affine support of the codes.

    With the mean :math:`\mu`, the covariance :math:`C = V \operatorname{diag}(\lambda) V^\top` of
    the codes and the :math:`r` pairs of nonzero variance,

    .. math::
        u = \operatorname{diag}(\lambda_r)^{-1/2} V_r^\top (z - \mu), \qquad
        \log p(z) = \log q(u) - \tfrac12 \sum_{i \le r} \log \lambda_i,

    where q, which subclasses define, is the density of codes with mean 0 and covariance I in r
    dimensions. A direction counts as zero if :math:`\lambda_i \le \text{threshold} \cdot
    \lambda_1`, or if its deviation :math:`\lambda_i^{1/2} \le 4 \epsilon \|\mu\|` is rounding error
    of the codes (:math:`\epsilon` is the machine epsilon of their type). No sample leaves
    the support :math:`\mu + \text{span} V_r`, and :math:`\log p = -\infty` farther from it than
    tolerance times :math:`\lambda_1^{1/2}`, plus :math:`8 \epsilon \|\mu\|`. Identical codes have
    :math:`r = 0`, and :math:`\log p = 0` at that point. Everything is computed in float64.

    Args:
        threshold: relative to the largest variance, in [0, 1). The default drops deviations below
            1e-5 of the largest, about the rounding error of codes computed in float32.
        tolerance: relative to the largest standard deviation, at least 0.

    Attributes:
        mean_: :math:`\mu`, float64.
        variances_: :math:`\lambda`, float64, descending; 0 for dropped directions.
        directions_: :math:`V`, one direction per column, float64.
    """

    mean_: Float[Tensor, " l"]
    variances_: Float[Tensor, " l"]
    directions_: Float[Tensor, "l l"]

    def __init__(self, *, threshold: float = 1e-10, tolerance: float = 1e-3) -> None:
        check_range("threshold", threshold, 0, 1, open_high=True)
        check_range("tolerance", tolerance, 0)
        self.threshold = threshold
        self.tolerance = tolerance
        self._like: Tensor | None = None  # an empty tensor of the type and device of the codes

    @abstractmethod
    def _fit(self, u: Float[Tensor, "n r"]) -> None:
        """Fit q to whitened codes, float64, r >= 1."""

    @abstractmethod
    def _sample(self, n: int, generator: torch.Generator | None) -> Float[Tensor, "n r"]:
        """Return n >= 1 samples of q."""

    @abstractmethod
    def _log_prob(self, u: Float[Tensor, "n r"]) -> Float[Tensor, " n"]:
        """Return log q."""

    @property
    def rank(self) -> int:
        """The dimension of the support, the number of nonzero variances."""
        self._check_fitted()
        return int((self.variances_ > 0).sum())

    def fit(self, codes: Float[Tensor, "n l"]) -> Self:
        if codes.ndim != 2 or codes.shape[1] < 1:
            raise InputError(f"codes must have shape (n, l), got {tuple(codes.shape)}")
        check_finite("codes", codes)
        moments = Moments(codes.shape[1])
        for part in torch.split(codes, 10_000):
            moments.update(part)
        ascending, vectors = torch.linalg.eigh(moments.covariance)
        variances = ascending.flip(-1).clamp(min=0)
        rounding = (4 * torch.finfo(codes.dtype).eps * moments.mean.norm()).square()
        kept = variances > (self.threshold * variances[0]).maximum(rounding)
        self._like = codes.new_empty(0)
        self.mean_ = moments.mean
        self.variances_ = variances.where(kept, 0.0)
        self.directions_ = vectors.flip(-1)
        if self.rank:
            self._fit(self._centred(codes) @ self._axes() / self._deviations())
        return self

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n l"]:
        self._check_fitted()
        check_range("n", n, 0)
        u = self._sample(n, generator) if n and self.rank else self.mean_.new_empty(n, self.rank)
        spread = self._axes() * self._deviations()
        return (self.mean_ + u.to(self.mean_) @ spread.mT).to(self._like)

    def log_prob(self, codes: Float[Tensor, "n l"]) -> Float[Tensor, " n"]:
        self._check_fitted()
        if codes.ndim != 2 or codes.shape[1] != len(self.mean_):
            shape = tuple(codes.shape)
            raise InputError(f"codes must have shape (n, {len(self.mean_)}), got {shape}")
        centred, axes = self._centred(codes), self._axes()
        along = centred @ axes
        off = (centred - along @ axes.mT).norm(dim=1)
        rounding = 8 * torch.finfo(codes.dtype).eps * self.mean_.norm()
        allowed = self.tolerance * self.variances_[0].sqrt() + rounding
        logarithm = off.new_zeros(len(off))
        if self.rank:
            deviations = self._deviations()
            logarithm = self._log_prob(along / deviations).to(off) - deviations.log().sum()
        found: Tensor = logarithm.where(~(off > allowed), -math.inf).to(codes.device)
        return found

    def _centred(self, codes: Tensor) -> Float[Tensor, "n l"]:
        return codes.to(self.mean_) - self.mean_

    def _axes(self) -> Float[Tensor, "l r"]:
        return self.directions_[:, : self.rank]

    def _deviations(self) -> Float[Tensor, " r"]:
        return self.variances_[: self.rank].sqrt()

    def _check_fitted(self) -> None:
        if self._like is None:
            raise InputError(f"{type(self).__name__} has not been fitted yet: call fit first")


class Gaussian(Whitened):
    r"""The multivariate normal with the mean and the unbiased covariance of the codes.

    .. math::
        z = \mu + V_r \operatorname{diag}(\lambda_r)^{1/2} u, \quad u \sim N(0, I_r), \qquad
        \log p(z) = -\tfrac12 \sum_{i \le r} \big( u_i^2 + \log 2 \pi \lambda_i \big),

    with the support, arguments, attributes and errors of :class:`Whitened`.

    Reference: Rao, Linear statistical inference and its applications, 2nd edition, 1973, section
    8a.4, for the density of a singular normal distribution.

    Example:
        >>> plane = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
        >>> gaussian = Gaussian().fit(torch.cat([plane, plane.sum(1, keepdim=True)], 1))
        >>> gaussian.rank, gaussian.sample(7).shape
        (2, torch.Size([7, 3]))
        >>> gaussian.log_prob(torch.tensor([[1.0, 1.0, 2.0], [1.0, 1.0, 0.0]]))
        tensor([-3.3, -inf], dtype=torch.float64)
    """

    def _fit(self, u: Float[Tensor, "n r"]) -> None:
        """Do nothing: the support has the mean and the covariance."""

    def _sample(self, n: int, generator: torch.Generator | None) -> Float[Tensor, "n r"]:
        return standard_normal((n, self.rank), generator, torch.float64)

    def _log_prob(self, u: Float[Tensor, "n r"]) -> Float[Tensor, " n"]:
        return -0.5 * (u.square() + math.log(2 * math.pi)).sum(1)


class Prior(Density):
    r"""N(0, V V^T), the distribution that training has made the codes follow; nothing is fitted.

    .. math:: z = V g, \quad g \sim N(0, I_r), \qquad
        \log p(z) = -\tfrac12 \|z\|^2 - \tfrac r2 \log 2 \pi,

    with orthonormal columns :math:`V`; :math:`\log p = -\infty` farther from their span than the
    tolerance.

    Args:
        directions: :math:`V`; the identity for a prior of full rank.
        tolerance: a distance, at least 0.

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
        check_range("n", n, 0)
        V = self.directions
        return standard_normal((n, V.shape[1]), generator, V.dtype).to(V.device) @ V.mT

    def log_prob(self, codes: Float[Tensor, "n l"]) -> Float[Tensor, " n"]:
        V = self.directions.double().to(codes.device)
        along = codes.double() @ V
        off = (codes.double() - along @ V.mT).norm(dim=1)
        logarithm = -0.5 * (along.square() + math.log(2 * math.pi)).sum(1)
        return logarithm.where(~(off > self.tolerance), -math.inf)


def standard_normal(
    shape: tuple[int, ...], generator: torch.Generator | None, dtype: torch.dtype
) -> Tensor:
    """Return standard normal values, on the device of the generator (the CPU by default)."""
    device = "cpu" if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=device, dtype=dtype)
