"""Mixtures of normal distributions, fitted to latent codes."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import MultivariateNormal

from lorae.errors import InputError
from lorae.sampling.densities import Whitened, standard_normal
from lorae.utils.validation import check_range


class GaussianMixture(Whitened):
    r"""A mixture of k normal distributions with full covariances.

    .. math:: q(u) = \sum_{j \le k} w_j N(u; m_j, S_j),

    fitted by scikit-learn's expectation maximisation from a k-means start. Given several k, all are
    fitted to four fifths of the codes, and the one of least

    .. math:: \mathrm{BIC}(k) = -2 \sum_i \log q_k(u_i) + p_k \log m

    on the other fifth, m codes, with :math:`p_k` free parameters, is fitted to all codes.

    Reference:
        Dempster, Laird and Rubin, Maximum likelihood from incomplete data via the EM algorithm
        (1977); Schwarz, Estimating the dimension of a model (Annals of Statistics 6, 1978). The
        paper has k = 4 for MNIST and 10 for CelebA.

    Args:
        components: k, or several to choose from, each at least 1.
        seed: of the k-means start and of the held-out fifth.
        regularization: added to the diagonal of every covariance of whitened codes, above 0.

    Attributes:
        components_: the k that was chosen.
        weights_: of the components, float64.
        means_: of the components, in whitened coordinates, float64.
        covariances_: likewise.

    Raises:
        InputError: if a number is out of range.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> ends = torch.randn(400, 1, generator=draw) + 10 * torch.randint(2, (400, 1))
        >>> mixture = GaussianMixture((1, 2)).fit(ends)
        >>> mixture.components_, mixture.sample(3, draw).shape
        (2, torch.Size([3, 1]))
    """

    components_: int
    weights_: Float[Tensor, " k"]
    means_: Float[Tensor, "k r"]
    covariances_: Float[Tensor, "k r r"]

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
            raise InputError(f"components must be at least 1, got {components}")
        check_range("regularization", regularization, 0, open_low=True)
        self.seed = seed
        self.regularization = regularization

    def _fit(self, u: Float[Tensor, "n r"]) -> None:
        most = max(self.components)
        if len(u) <= most:
            raise InputError(
                f"components must be fewer than the codes, got {most} for {len(u)} codes"
            )
        samples = u.cpu().numpy()
        self.components_ = self._select_components(samples)
        mixture = self._fit_mixture(samples, self.components_)
        self.weights_ = torch.from_numpy(mixture.weights_)
        self.means_ = torch.from_numpy(mixture.means_)
        self.covariances_ = torch.from_numpy(mixture.covariances_)

    def _select_components(self, samples: Any) -> int:
        if len(self.components) == 1:
            return self.components[0]
        from sklearn.model_selection import train_test_split

        kept, held_out = train_test_split(samples, test_size=0.2, random_state=self.seed)
        criterion = {k: self._fit_mixture(kept, k).bic(held_out) for k in self.components}
        return min(self.components, key=criterion.__getitem__)

    def _fit_mixture(self, samples: Any, k: int) -> Any:
        from sklearn.mixture import GaussianMixture as Mixture

        mixture = Mixture(k, reg_covar=self.regularization, random_state=self.seed)
        return mixture.fit(samples)

    def _sample(self, n: int, generator: torch.Generator | None) -> Float[Tensor, "n r"]:
        device = "cpu" if generator is None else generator.device
        weights = self.weights_.to(device)
        component = torch.multinomial(weights, n, replacement=True, generator=generator).cpu()
        g = standard_normal((n, self.rank), generator, torch.float64).cpu()
        roots = torch.linalg.cholesky(self.covariances_)
        u = torch.empty_like(g)
        for j, (mean, root) in enumerate(zip(self.means_, roots, strict=True)):
            u[component == j] = mean + g[component == j] @ root.mT
        return u

    def _log_prob(self, u: Float[Tensor, "n r"]) -> Float[Tensor, " n"]:
        roots = torch.linalg.cholesky(self.covariances_)
        normals = MultivariateNormal(self.means_, scale_tril=roots)
        logarithm = normals.log_prob(u.cpu()[:, None])  # type: ignore[no-untyped-call]
        total: Tensor = (logarithm + self.weights_.log()).logsumexp(1)
        return total
