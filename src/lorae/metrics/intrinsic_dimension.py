r"""How many dimensions data have, by estimators that know nothing of an autoencoder.

From distances to nearest neighbours, which on a manifold of dimension d grow like the d-th root
of their number, and from the spectrum of the covariance, which counts the dimensions of the
linear space that holds the manifold: a circle has one dimension, and needs two.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError
from lorae.linalg.moments import Moments


def principal_components(samples: Float[Tensor, "n d"], share: float = 0.95) -> int:
    """Return the least number of principal components that hold a share of the variance.

    Args:
        samples: n of them, at least 2.
        share: above 0 and at most 1.

    Raises:
        InputError: if the share is out of range, there are too few samples or nothing varies.

    Example:
        >>> principal_components(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.1], [0.0, -0.1]]))
        1
    """
    if not 0 < share <= 1:
        raise InputError(f"share must be above 0 and at most 1, got {share:g}")
    variances = Moments(samples.shape[1]).update(samples).spectrum()
    if not variances[0] > 0:
        raise InputError("the samples must vary, they are all the same")
    held = variances.cumsum(0) / variances.sum()
    return int((held < share - 1e-12).sum()) + 1


def two_nearest(samples: Float[Tensor, "n d"], discard: float = 0.1) -> float:
    r"""Return the dimension by the ratio of the distances to the two nearest neighbours, TwoNN.

    With :math:`\mu = r_2 / r_1`, the empirical distribution F of the ratios and the dimension d,
    :math:`-\log (1 - F(\mu)) = d \log \mu`: d is the slope of the line through the origin, fitted
    without the largest ratios.

    Reference:
        Facco et al., Estimating the intrinsic dimension of datasets by a minimal neighborhood
        information (Scientific Reports 7, 2017).

    Args:
        samples: n of them, at least 10 that differ; copies are left out.
        discard: the share of the largest ratios that is left out, 0 to below 1.

    Raises:
        InputError: if an argument is out of range or there are too few samples.

    Example:
        >>> plane = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
        >>> abs(two_nearest(plane @ torch.randn(2, 10)) - 2) < 0.3
        True
    """
    if not 0 <= discard < 1:
        raise InputError(f"discard must be at least 0 and below 1, got {discard:g}")
    near = _neighbours(samples, 2, 10)
    ratios = (near[:, 1] / near[:, 0]).log().sort().values
    n = len(ratios)
    kept = max(2, round((1 - discard) * n))
    share = torch.arange(1, n + 1, dtype=torch.float64) / n
    x, y = ratios[:kept], -torch.log1p(-share[:kept].clamp(max=1 - 0.5 / n))
    return float(x @ y / (x @ x))


def maximum_likelihood(samples: Float[Tensor, "n d"], k: int = 20) -> float:
    r"""Return the dimension by maximum likelihood over k nearest neighbours.

    .. math:: \hat d^{-1} = \text{mean}_i \frac{1}{k - 1} \sum_{j < k} \log \frac{r_k}{r_j},

    the mean over samples taken of the inverse, which has no bias.

    Reference:
        Levina and Bickel, Maximum Likelihood Estimation of Intrinsic Dimension (NIPS 2004); the
        mean of the inverse is that of MacKay and Ghahramani (2005).

    Args:
        samples: n of them, more than k that differ; copies are left out.
        k: at least 3.

    Raises:
        InputError: if k is too small or there are too few samples.

    Example:
        >>> plane = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
        >>> abs(maximum_likelihood(plane @ torch.randn(2, 10)) - 2) < 0.3
        True
    """
    if k < 3:
        raise InputError(f"k must be at least 3, got {k}")
    near = _neighbours(samples, k, k + 1).log()
    inverse = (near[:, -1:] - near[:, :-1]).mean(1).mean()
    return 1 / float(inverse)


def by_scikit_dimension(samples: Float[Tensor, "n d"]) -> dict[str, float]:
    """Return the dimension by more estimators, those of scikit-dimension, where it is installed.

    The correlation integral and the method of moments; nothing without the package
    (`pip install lorae[dimension]`), or where an estimator finds no finite number.

    Reference:
        Bac et al., Scikit-dimension: a Python package for intrinsic dimension estimation (Entropy
        23, 2021), whose defaults these are.

    Args:
        samples: n of them, at least 101 that differ; copies are left out.

    Raises:
        InputError: if there are too few samples.
    """
    try:
        from skdim.id import MOM, CorrInt
    except ImportError:
        return {}
    distinct = torch.unique(samples.double().flatten(1), dim=0)
    if len(distinct) < 101:  # the method of moments takes a hundred neighbours
        raise InputError(f"the estimates need 101 samples that differ, there are {len(distinct)}")
    points = distinct.cpu().numpy()
    named = {"correlation integral": CorrInt, "method of moments": MOM}
    found = {name: float(kind().fit(points).dimension_) for name, kind in named.items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def contrast(codes: Float[Tensor, "n l"], queries: Float[Tensor, "m l"]) -> Float[Tensor, " m"]:
    r"""Return the min-max distance ratio of the paper's Theorem 2 for each query.

    .. math:: (d_\max - d_\min) / d_\min, \qquad d_j = \|z - z_j\|,

    over all codes but those at no distance. A common factor, such as the theorem's
    1 / rank(M), has no effect on it.

    Reference:
        Mazumder et al. (WACV 2024), theorem 2; Beyer et al., When Is "Nearest Neighbor"
        Meaningful? (ICDT 1999).

    Args:
        codes: n of them, at least 1.
        queries: m of them.

    Raises:
        InputError: if a query is at no distance from every code.

    Example:
        >>> contrast(torch.tensor([[1.0], [2.0], [4.0]]), torch.zeros(1, 1))
        tensor([3.], dtype=torch.float64)
    """
    parts = []
    for query in torch.split(queries.double(), 1000):
        distances = torch.cdist(query, codes.double())
        least = distances.where(distances > 0, math.inf).min(1).values
        if bool(least.isinf().any()):
            raise InputError("a query must be at a distance from some code, one is at none")
        parts.append(distances.max(1).values / least - 1)
    return torch.cat(parts)


def _neighbours(samples: Tensor, k: int, least: int) -> Float[Tensor, "n k"]:
    """Return the distances to the k nearest others, copies of a sample left out."""
    distinct = torch.unique(samples.double().flatten(1), dim=0)
    if len(distinct) < max(least, k + 1):
        raise InputError(
            f"the estimate needs at least {max(least, k + 1)} samples that differ, there are "
            f"{len(distinct)}"
        )
    parts = []
    for part in torch.split(distinct, 1000):
        distances = torch.cdist(part, distinct, compute_mode="donot_use_mm_for_euclid_dist")
        parts.append(distances.topk(k + 1, largest=False).values[:, 1:])
    return torch.cat(parts)
