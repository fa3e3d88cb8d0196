r"""Mixtures of normal distributions, and normalizing flows, fitted to latent codes.

Both are fitted in the coordinates of the codes' own support. With the mean :math:`\mu`, the kept
directions :math:`V_r` and variances :math:`\lambda` of :class:`lorae.sampling.densities.Gaussian`,

.. math::
    u = \operatorname{diag}(\lambda)^{-1/2} V_r^\top (z - \mu), \qquad
    \log p(z) = \log q(u) - \tfrac12 \sum_{i \le r} \log \lambda_i,

where q is the density in r dimensions, of codes that have mean 0 and covariance I. So codes of low
rank, whose covariance is singular, need no care, and no sample leaves their support.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import MultivariateNormal

from lorae.errors import InputError, unknown
from lorae.sampling.densities import Density, Gaussian, Prior
from lorae.utils.files import load_tensors, save_tensors


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

    def tensors(self) -> dict[str, Tensor]:
        """Return the state of the support and of q.

        Raises:
            InputError: There was no fit.
        """
        support = {f"support.{name}": value for name, value in self.support.tensors().items()}
        return support | (self._state() if self.support.rank else {})

    def restore(self, tensors: Mapping[str, Tensor]) -> Self:
        """Take up a state that :meth:`tensors` gave, and return self."""
        start = "support."
        own = {n.removeprefix(start): v for n, v in tensors.items() if n.startswith(start)}
        self.support.restore(own)
        if self.support.rank:
            self._restore({n: v for n, v in tensors.items() if not n.startswith(start)})
        return self

    @abstractmethod
    def _state(self) -> dict[str, Tensor]:
        """Return the state of q."""

    @abstractmethod
    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up the state of q, for a support of known rank."""

    def _whitened(self, codes: Tensor) -> Tensor:
        s = self.support
        along = (codes.to(s.mean_) - s.mean_) @ s.directions_[:, : s.rank]
        return along / s.variances_[: s.rank].sqrt()


class GaussianMixture(Whitened):
    r"""A mixture of k normal distributions with full covariances.

    .. math:: q(u) = \sum_{j \le k} w_j N(u; m_j, S_j),

    fitted by expectation maximisation from a k-means start, scikit-learn's. Where several k are
    given, all are fitted to four fifths of the codes, and the one of least

    .. math:: \mathrm{BIC}(k) = -2 \sum_i \log q_k(u_i) + p_k \log m

    on the m codes of the fifth that is held out, with :math:`p_k` free parameters, is taken, and
    fitted to all.

    Reference:
        Dempster, Laird and Rubin, Maximum likelihood from incomplete data via the EM algorithm
        (1977); Schwarz, Estimating the dimension of a model (Annals of Statistics 6, 1978). The
        paper has k = 4 for MNIST and 10 for CelebA.

    Args:
        components: k, or several to choose from, each at least 1.
        seed: of the k-means start and the choice of what is held out.
        regularization: added to the diagonal of every covariance of whitened codes, above 0.

    Attributes:
        components_: the k that was taken.
        weights_: of the components, float64.
        means_: of the components, in whitened coordinates, float64.
        covariances_: likewise.

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
    weights_: Tensor
    means_: Tensor
    covariances_: Tensor

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
        found = self._fitted(samples, self.components_)
        self.weights_ = torch.from_numpy(found.weights_)
        self.means_ = torch.from_numpy(found.means_)
        self.covariances_ = torch.from_numpy(found.covariances_)

    def _chosen(self, samples: np.ndarray[Any, Any]) -> int:
        if len(self.components) == 1:
            return self.components[0]
        order = np.random.default_rng(self.seed).permutation(len(samples))
        held_out, kept = np.split(order, [len(order) // 5])
        criterion = {
            k: float(self._fitted(samples[kept], k).bic(samples[held_out])) for k in self.components
        }
        return min(criterion, key=lambda k: criterion[k])

    def _fitted(self, samples: np.ndarray[Any, Any], k: int) -> Any:
        from sklearn.mixture import GaussianMixture as Mixture

        mixture = Mixture(k, reg_covar=self.regularization, random_state=self.seed)
        return mixture.fit(samples)

    def _sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n r"]:
        weights, means = self.weights_, self.means_
        roots = torch.linalg.cholesky(self.covariances_)
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
        normals = MultivariateNormal(
            self.means_, scale_tril=torch.linalg.cholesky(self.covariances_)
        )
        logarithm = normals.log_prob(u.cpu()[:, None])  # type: ignore[no-untyped-call]
        total: Tensor = (logarithm + self.weights_.log()).logsumexp(1)
        return total

    def _state(self) -> dict[str, Tensor]:
        return {
            "weights": self.weights_,
            "means": self.means_,
            "covariances": self.covariances_,
        }

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.weights_, self.means_ = tensors["weights"], tensors["means"]
        self.covariances_ = tensors["covariances"]
        self.components_ = len(self.weights_)


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
        u = u.float().cpu()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.flow_ = self._new(u.shape[1])
            self._train(u[torch.randperm(len(u))])

    def _new(self, rank: int) -> Any:
        try:
            from zuko.flows import NSF
        except ImportError:
            raise InputError("a flow needs the package zuko: pip install lorae[flows]") from None
        widths = (self.hidden, self.hidden)
        return NSF(rank, transforms=self.transforms, hidden_features=widths)

    def _state(self) -> dict[str, Tensor]:
        return self._weights()

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.flow_ = self._new(self.support.rank)
        self.flow_.load_state_dict(dict(tensors))

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


KINDS: dict[str, type[Density]] = {
    kind.__name__: kind for kind in (Gaussian, Prior, GaussianMixture, Flow)
}
"""The densities that a file can hold, by name."""


def save_density(path: Path, density: Density) -> None:
    """Write a fitted density to one safetensors file, atomically.

    Args:
        path: of the file; one that is there is replaced.
        density: one of `KINDS`.

    Raises:
        InputError: There was no fit.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "density.safetensors"
        >>> save_density(path, GaussianMixture(2).fit(torch.randn(50, 3)))
        >>> load_density(path).sample(7).shape
        torch.Size([7, 3])
    """
    arguments = {
        name: value
        for name, value in vars(density).items()
        if not name.endswith("_") and isinstance(value, int | float | list)
    }
    about = {"density": type(density).__name__, "arguments": arguments}
    save_tensors(path, density.tensors(), about)


def load_density(path: Path) -> Density:
    """Return the density of a file that :func:`save_density` wrote.

    Args:
        path: of the file.

    Raises:
        InputError: There is no such file, it is cut short or altered, or holds something else.
    """
    tensors, about = load_tensors(path)
    name = about.get("density") if isinstance(about, dict) else None
    if name not in KINDS:
        raise unknown("density", str(name), KINDS)
    arguments = about["arguments"]
    if name == "Prior":
        arguments = arguments | {"directions": tensors["directions"]}
    return KINDS[name](**arguments).restore(tensors)
