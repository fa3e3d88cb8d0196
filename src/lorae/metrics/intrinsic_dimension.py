r"""The intrinsic dimension of data, by estimators that need no autoencoder.

Two kinds: from distances to nearest neighbours (on a manifold of dimension d they grow like the
d-th root of the neighbour's number), and from the spectrum of the covariance, which gives the
dimension of the linear space that contains the manifold. A circle has dimension 1 and lies in a
plane, of dimension 2.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError
from lorae.linalg.moments import Moments
from lorae.metrics.neighbours import distance_blocks, neighbour_distances
from lorae.utils.validation import check_finite, check_range


def pca_dimension(samples: Float[Tensor, "n d"], share: float = 0.95) -> int:
    """Return the smallest number of principal components that explain a share of the variance.

    Example:
        >>> pca_dimension(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.1], [0.0, -0.1]]))
        1
    """
    check_range("share", share, 0, 1, open_low=True)
    variances = Moments(samples.shape[1]).update(samples).spectrum()
    if not variances[0] > 0:
        raise InputError("samples must vary, got samples that are all the same")
    explained = variances.cumsum(0) / variances.sum()
    return int((explained < share - 1e-12).sum()) + 1


def two_nn(samples: Float[Tensor, "n d"], discard: float = 0.1) -> float:
    r"""Return the TwoNN estimate, from the distances to the two nearest neighbours.

    The empirical distribution function F of the ratios :math:`\mu = r_2 / r_1` satisfies
    :math:`-\log (1 - F(\mu)) = d \log \mu` in dimension d. The estimate is the slope of the line
    through the origin, fitted without the largest ratios.

    Reference:
        Facco et al., Estimating the intrinsic dimension of datasets by a minimal neighborhood
        information (Scientific Reports 7, 2017).

    Args:
        samples: n of them, at least 10 distinct ones; duplicates are left out.
        discard: the share of the largest ratios to leave out, at least 0 and below 1.

    Example:
        >>> plane = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
        >>> abs(two_nn(plane @ torch.randn(2, 10)) - 2) < 0.3
        True
    """
    check_range("discard", discard, 0, 1, open_high=True)
    distances = neighbour_distances(_distinct(samples, 10), 2)
    ratios = (distances[:, 1] / distances[:, 0]).log().sort().values
    n = len(ratios)
    kept = max(2, round((1 - discard) * n))
    share = torch.arange(1, n + 1, dtype=torch.float64) / n
    x, y = ratios[:kept], -torch.log1p(-share[:kept].clamp(max=1 - 0.5 / n))
    return float(x @ y / (x @ x))


def maximum_likelihood(samples: Float[Tensor, "n d"], k: int = 20) -> float:
    r"""Return the maximum likelihood estimate over k nearest neighbours.

    .. math:: \hat d^{-1} = \text{mean}_i \frac{1}{k - 1} \sum_{j < k} \log \frac{r_k}{r_j},

    where the mean over samples is that of the inverse, which has no bias.

    Reference:
        Levina and Bickel, Maximum Likelihood Estimation of Intrinsic Dimension (NIPS 2004); the
        mean of the inverse is that of MacKay and Ghahramani (2005).

    Example:
        >>> plane = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
        >>> abs(maximum_likelihood(plane @ torch.randn(2, 10)) - 2) < 0.3
        True
    """
    check_range("k", k, 3)
    distances = neighbour_distances(_distinct(samples, k + 1), k).log()
    inverse = (distances[:, -1:] - distances[:, :-1]).mean(1).mean()
    return 1 / float(inverse)


def scikit_dimension(samples: Float[Tensor, "n d"]) -> dict[str, float]:
    """Return the estimates of scikit-dimension: the correlation integral and method of moments.

    The result is empty without the package (`pip install 'lorae[dimension]'`), and lacks estimates
    that are not finite.

    Reference:
        Bac et al., Scikit-dimension: a Python package for intrinsic dimension estimation (Entropy
        23, 2021), with its defaults.
    """
    try:
        from skdim.id import MOM, CorrInt
    except ImportError:
        return {}
    points = _distinct(samples, 101).cpu().numpy()  # the method of moments uses 100 neighbours
    estimators = {"correlation integral": CorrInt, "method of moments": MOM}
    found = {name: float(kind().fit(points).dimension_) for name, kind in estimators.items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def relative_contrast(
    codes: Float[Tensor, "n l"], queries: Float[Tensor, "m l"]
) -> Float[Tensor, " m"]:
    r"""Return the min-max distance ratio of the paper's Theorem 2 for each query.

    .. math:: (d_\max - d_\min) / d_\min, \qquad d_j = \|z - z_j\|,

    over all codes at a positive distance. A common factor, such as the theorem's 1 / rank(M), does
    not change it.

    Reference:
        Mazumder et al. (WACV 2024), theorem 2; Beyer et al., When Is "Nearest Neighbor"
        Meaningful? (ICDT 1999).

    Example:
        >>> relative_contrast(torch.tensor([[1.0], [2.0], [4.0]]), torch.zeros(1, 1))
        tensor([3.], dtype=torch.float64)
    """
    ratios = []
    for _, distances in distance_blocks(queries, codes):
        nearest = distances.where(distances > 0, math.inf).min(1).values
        if bool(nearest.isinf().any()):
            raise InputError("queries must differ from some code, got one that equals all codes")
        ratios.append(distances.max(1).values / nearest - 1)
    return torch.cat(ratios)


def _distinct(samples: Tensor, least: int) -> Float[Tensor, "n d"]:
    """Return samples without duplicates, in float64, at least the given number."""
    check_finite("samples", samples)
    distinct: Tensor = torch.unique(samples.double().flatten(1), dim=0)
    if len(distinct) < least:
        raise InputError(f"samples must be at least {least} distinct ones, got {len(distinct)}")
    return distinct
