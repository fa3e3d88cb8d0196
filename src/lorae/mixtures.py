r"""Mixtures of normal distributions, and normalizing flows, fitted to latent codes.

Both are fitted in the coordinates of the codes' own support. With the mean :math:`\mu`, the kept
directions :math:`V_r` and variances :math:`\lambda` of :class:`lorae.densities.Gaussian`,

.. math::
    u = \operatorname{diag}(\lambda)^{-1/2} V_r^\top (z - \mu), \qquad
    \log p(z) = \log q(u) - \tfrac12 \sum_{i \le r} \log \lambda_i,

where q is the density in r dimensions, of codes that have mean 0 and covariance I. So codes of low
rank, whose covariance is singular, need no care, and no sample leaves their support.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lorae.densities import Density, Gaussian
from lorae.errors import InputError


class Whitened(Density):
    """A density of whitened codes on the support of a Gaussian; what follows says which."""

    def __init__(self) -> None:
        self.support = Gaussian()

    @abstractmethod
    def _fit(self, u: Float[Tensor, "n r"]) -> None:
        """Fit q to whitened codes, float64."""

    @abstractmethod
    def _sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n r"]:
        """Return n samples of q, float64."""

    @abstractmethod
    def _log_prob(self, u: Float[Tensor, "n r"]) -> Float[Tensor, " n"]:
        """Return log q, float64."""

    def fit(self, codes: Float[Tensor, "n l"]) -> Self:
        """Fit to codes, and return self.

        Raises:
            InputError: The codes are too few, not finite, or no matrix.
        """
        self.support.fit(codes)
        if self.support.rank:
            self._fit(self._whitened(codes))
        return self

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n l"]:
        """Return n independent codes, of the type and device of those that were fitted.

        Raises:
            InputError: n is negative, or there was no fit.
        """
        if not self.support.rank or n <= 0:
            return self.support.sample(n, generator)
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        s = self.support
        u = self._sample(n, generator).to(s.mean_)
        spread = s.directions_[:, : s.rank] * s.variances_[: s.rank].sqrt()
        return (s.mean_ + u @ spread.mT).to(s.sample(0))

    def log_prob(self, codes: Float[Tensor, "n l"]) -> Float[Tensor, " n"]:
        """Return the log-density at each code, in nats, float64; -inf off the support.

        Raises:
            InputError: The codes are of another dimension, or there was no fit.
        """
        s = self.support
        on = s.log_prob(codes).isfinite()
        if not s.rank:
            return s.log_prob(codes)
        scale = 0.5 * s.variances_[: s.rank].log().sum().to(codes.device)
        logarithm = self._log_prob(self._whitened(codes)).to(codes.device) - scale
        return logarithm.where(on, -torch.inf)

    def _whitened(self, codes: Tensor) -> Tensor:
        s = self.support
        along = (codes.to(s.mean_) - s.mean_) @ s.directions_[:, : s.rank]
        return along / s.variances_[: s.rank].sqrt()


class GaussianMixture(Whitened):
    r"""A mixture of k normal distributions with full covariances.

    .. math:: q(u) = \sum_{j \le k} w_j N(u; m_j, S_j),

    fitted by expectation maximisation from a k-means start, scikit-learn's. Where several k are
    given, the one with the greatest mean log-density of a fifth of the codes, held out, is taken,
    and fitted to all.

    Reference:
        Dempster, Laird and Rubin, Maximum likelihood from incomplete data via the EM algorithm
        (1977). The paper has k = 4 for MNIST and 10 for CelebA.

    Args:
        components: k, or several to choose from, each at least 1.
        seed: of the k-means start and the choice of what is held out.
        regularization: added to the diagonal of every covariance of whitened codes, above 0.

    Attributes:
        components_: the k that was taken.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> ends = torch.randn(400, 1, generator=draw) + 10 * torch.randint(2, (400, 1))
        >>> mixture = GaussianMixture((1, 2)).fit(ends)
        >>> mixture.components_, mixture.sample(3, draw).shape
        (2, torch.Size([3, 1]))
    """

    components_: int

    def __init__(
        self,
        components: int | Sequence[int] = 10,
        *,
        seed: int = 0,
        regularization: float = 1e-6,
    ) -> None:
        super().__init__()
        self.components = [components] if isinstance(components, int) else list(components)
        if not self.components or min(self.components) < 1:
            raise InputError(f"components must be at least 1, and were {components}")
        if not 0 < regularization < float("inf"):
            raise InputError(f"regularization must be above 0, and was {regularization:g}")
        self.seed = seed
        self.regularization = regularization

    def _fit(self, u: Float[Tensor, "n r"]) -> None:
        samples = u.cpu().numpy()
        most = max(self.components)
        if len(samples) <= most:
            raise InputError(
                f"components must be fewer than the codes, and were {most} for {len(samples)}"
            )
        self.components_ = self._chosen(samples)
        self.mixture_ = self._fitted(samples, self.components_)

    def _chosen(self, samples: np.ndarray[Any, Any]) -> int:
        if len(self.components) == 1:
            return self.components[0]
        order = np.random.default_rng(self.seed).permutation(len(samples))
        held_out, kept = np.split(order, [len(order) // 5])
        likelihood = {
            k: self._fitted(samples[kept], k).score(samples[held_out]) for k in self.components
        }
        return max(likelihood, key=lambda k: likelihood[k])

    def _fitted(self, samples: np.ndarray[Any, Any], k: int) -> Any:
        from sklearn.mixture import GaussianMixture as Mixture

        mixture = Mixture(k, reg_covar=self.regularization, random_state=self.seed)
        return mixture.fit(samples)

    def _sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n r"]:
        weights = torch.from_numpy(self.mixture_.weights_)
        means = torch.from_numpy(self.mixture_.means_)
        roots = torch.linalg.cholesky(torch.from_numpy(self.mixture_.covariances_))
        where = generator.device
        chosen = torch.multinomial(weights.to(where), n, replacement=True, generator=generator)
        g = torch.randn(n, means.shape[1], generator=generator, device=where, dtype=means.dtype)
        chosen, g = chosen.cpu(), g.cpu()
        u = torch.empty_like(g)
        for j in range(len(weights)):
            drawn = chosen == j
            u[drawn] = means[j] + g[drawn] @ roots[j].mT
        return u

    def _log_prob(self, u: Float[Tensor, "n r"]) -> Float[Tensor, " n"]:
        return torch.from_numpy(self.mixture_.score_samples(u.cpu().numpy()))


class Flow(Whitened):
    """A neural spline flow, fitted by maximum likelihood with early stopping.

    Reference:
        Durkan et al., Neural Spline Flows (NeurIPS 2019). It needs the package zuko
        (`pip install lorae[flows]`).

    Args:
        transforms: the number of autoregressive layers, at least 1.
        hidden: the width of the two hidden layers of each, at least 1.
        epochs: passes over the codes, at most; it stops after three without progress on a tenth of
            the codes, held out.
        seed: of the weights and the batches.

    Raises:
        InputError: A number is out of range, or zuko is missing.
    """

    def __init__(
        self, *, transforms: int = 3, hidden: int = 64, epochs: int = 30, seed: int = 0
    ) -> None:
        super().__init__()
        for name, value in (("transforms", transforms), ("hidden", hidden), ("epochs", epochs)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, and was {value}")
        self.transforms = transforms
        self.hidden = hidden
        self.epochs = epochs
        self.seed = seed

    def _fit(self, u: Float[Tensor, "n r"]) -> None:
        try:
            from zuko.flows import NSF
        except ImportError:
            raise InputError("a flow needs the package zuko: pip install lorae[flows]") from None
        u = u.float().cpu()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            widths = (self.hidden, self.hidden)
            self.flow_ = NSF(u.shape[1], transforms=self.transforms, hidden_features=widths)
            self._train(u[torch.randperm(len(u))])

    def _train(self, u: Tensor) -> None:
        held_out, kept = u.tensor_split([len(u) // 10])
        optimizer = torch.optim.Adam(self.flow_.parameters(), 1e-3)
        best, weights, stale = torch.inf, self._weights(), 0
        for _ in range(self.epochs):
            for batch in torch.split(kept[torch.randperm(len(kept))], 256):
                loss = -self.flow_().log_prob(batch).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                now = float(-self.flow_().log_prob(held_out if len(held_out) else kept).mean())
            stale += 1
            if now < best:
                best, weights, stale = now, self._weights(), 0
            if stale >= 3:
                break
        self.flow_.load_state_dict(weights)

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.flow_.state_dict().items()}

    @torch.no_grad()
    def _sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n r"]:
        g = torch.randn(n, self.support.rank, generator=generator, device=generator.device)
        drawn: Tensor = self.flow_().transform.inv(g.cpu())
        return drawn.double()

    @torch.no_grad()
    def _log_prob(self, u: Float[Tensor, "n r"]) -> Float[Tensor, " n"]:
        logarithm: Tensor = self.flow_().log_prob(u.float().cpu())
        return logarithm.double()
