"""Mixtures of normal distributions, fitted to latent codes."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
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

    fitted by scikit-learn's expectation maximisation (EM). EM finds a maximum near its start, and
    the starts are clusters of k-means, alternately of the codes and of the whitened codes: in the
    codes the clusters follow the directions of large variance, in the whitened codes all
    directions count the same, a hundred that carry only noise included. A fifth of the codes is
    held out, and

    - of the starts, the one with the highest likelihood of the held-out codes is used;
    - of several k, the smallest one whose held-out likelihood is within one standard error (of the
      difference, sample by sample) of the highest; ever larger k are tried until it has fallen
      twice in succession.

    EM is then continued on all codes. With too few codes to hold out a fifth, the likelihood is
    that of all codes.

    Reference:
        Dempster, Laird and Rubin, Maximum likelihood from incomplete data via the EM algorithm
        (1977); the rule of one standard error is that of Breiman et al., Classification and
        Regression Trees (1984). The paper has k = 4 for MNIST and 10 for CelebA.

    Args:
        components: k, or several to choose from; those that are not below the number of codes that
            EM is fitted to are left out.
        starts: number of starts for each k.
        seed: of the clusters and of the held-out fifth.
        regularization: added to the diagonal of every covariance of whitened codes, above 0.

    Attributes:
        components_: the k that was chosen.
        held_out_: mean log-density of the held-out codes, in nats, by the mixture that was fitted
            to the others.
        weights_: of the components, float64.
        means_: of the components, in whitened coordinates, float64.
        covariances_: likewise.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> ends = torch.randn(400, 1, generator=draw)
        >>> ends += 10 * torch.randint(2, (400, 1), generator=draw)
        >>> mixture = GaussianMixture((1, 2, 4)).fit(ends)
        >>> mixture.components_, mixture.sample(3, draw).shape
        (2, torch.Size([3, 1]))
    """

    components_: int
    held_out_: float
    weights_: Float[Tensor, " k"]
    means_: Float[Tensor, "k r"]
    covariances_: Float[Tensor, "k r r"]

    def __init__(
        self,
        components: int | Sequence[int] = 10,
        *,
        starts: int = 4,
        seed: int = 0,
        regularization: float = 1e-6,
    ) -> None:
        super().__init__()
        self.components = [components] if isinstance(components, int) else sorted(components)
        if not self.components or min(self.components) < 1:
            raise InputError(f"components must be at least 1, got {components}")
        check_range("starts", starts, 1)
        check_range("regularization", regularization, 0, open_low=True)
        self.starts = starts
        self.seed = seed
        self.regularization = regularization

    def _fit(self, u: Float[Tensor, "n r"]) -> None:
        least = min(self.components)
        if len(u) <= least:
            raise InputError(
                f"components must be fewer than the codes, got {least} for {len(u)} codes"
            )
        samples = u.cpu().numpy()
        kept, held_out = self._split(samples, least)
        found = self._select(kept, held_out)
        self.held_out_ = float(found.score(held_out)) - float(self._deviations().log().sum())
        mixture = self._run(samples, found)
        self.components_ = mixture.n_components
        self.weights_ = torch.from_numpy(mixture.weights_)
        self.means_ = torch.from_numpy(mixture.means_)
        self.covariances_ = torch.from_numpy(mixture.covariances_)

    def _split(self, samples: Any, least: int) -> tuple[Any, Any]:
        """Return the samples to fit to and the held-out ones; all as both if they are few."""
        order = np.random.default_rng(self.seed).permutation(len(samples))
        held_out, kept = np.split(order, [len(samples) // 5])
        if len(kept) <= least or not len(held_out):
            return samples, samples
        return samples[kept], samples[held_out]

    def _select(self, kept: Any, held_out: Any) -> Any:
        """Return the fitted mixture of the smallest k that is as good as the best."""
        found, scores, fallen = [], [], 0
        for k in (k for k in self.components if k < len(kept)):
            starts = [self._run(kept, self._start(kept, k, s)) for s in range(self.starts)]
            found.append(max(starts, key=lambda mixture: mixture.score(held_out)))
            scores.append(found[-1].score_samples(held_out))
            means = [score.mean() for score in scores]
            fallen = fallen + 1 if means[-1] < max(means) else 0
            if fallen == 2:
                break
        lost = [scores[int(np.argmax(means))] - score for score in scores]
        errors = [loss.std() / np.sqrt(len(loss)) for loss in lost]
        good = [loss.mean() <= error for loss, error in zip(lost, errors, strict=True)]
        return found[good.index(True)]

    def _start(self, u: Any, k: int, start: int) -> Any:
        """Return a mixture with the moments of k clusters of the codes, or of whitened ones."""
        from sklearn.cluster import KMeans
        from sklearn.mixture import GaussianMixture as Mixture

        codes = u if start % 2 else u * self._deviations().cpu().numpy()
        with warnings.catch_warnings():  # fewer distinct codes than clusters
            warnings.simplefilter("ignore")
            labels = KMeans(k, n_init=1, random_state=self.seed + start).fit_predict(codes)
        clusters = [u[labels == j] if (labels == j).any() else u for j in range(k)]
        mixture = Mixture(k)
        mixture.weights_ = np.array([len(cluster) for cluster in clusters], dtype=float)
        mixture.weights_ /= mixture.weights_.sum()
        mixture.means_ = np.stack([cluster.mean(0) for cluster in clusters])
        mixture.covariances_ = np.stack(
            [
                np.cov(cluster.T, bias=True).reshape(u.shape[1], -1)
                + self.regularization * np.eye(u.shape[1])
                for cluster in clusters
            ]
        )
        return mixture

    def _run(self, samples: Any, start: Any) -> Any:
        """Return the mixture that EM finds from a start."""
        from sklearn.mixture import GaussianMixture as Mixture

        precisions = np.linalg.inv(start.covariances_)
        mixture = Mixture(
            start.n_components,
            reg_covar=self.regularization,
            random_state=self.seed,
            weights_init=start.weights_,
            means_init=start.means_,
            precisions_init=(precisions + precisions.swapaxes(1, 2)) / 2,
        )
        with warnings.catch_warnings():  # not converged after 100 iterations, which is near enough
            warnings.simplefilter("ignore")
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
        normals = MultivariateNormal(self.means_, scale_tril=roots, validate_args=False)
        logarithm = normals.log_prob(u.cpu()[:, None])  # type: ignore[no-untyped-call]
        total: Tensor = (logarithm + self.weights_.log()).logsumexp(1)
        return total
