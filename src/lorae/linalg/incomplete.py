r"""Low-rank Gaussian models of samples with gaps, fitted to the observed values alone.

Factor analysis models a sample as

.. math:: x = \mu + W z + \varepsilon, \qquad z \sim N(0, I_k), \quad
          \varepsilon \sim N(0, \operatorname{diag} \psi).

Given the observed values o of a sample, the factors have the posterior mean and covariance

.. math:: m = S W_o^\top \psi_o^{-1} (x_o - \mu_o), \qquad
          S = (I + W_o^\top \psi_o^{-1} W_o)^{-1},

and the expected sample is :math:`\mu + W m`. The expectation-maximization algorithm alternates
these with regressions of the observed values of each column on the factors. A ridge of
:math:`\lambda \psi_j / v_j` in the regression of column j, which has variance :math:`v_j`, is the
prior :math:`W_{jk} \sim N(0, v_j / \lambda)`.

Reference:
    Rubin and Thayer, EM algorithms for ML factor analysis (Psychometrika 1982); Ilin and Raiko,
    Practical approaches to principal component analysis in the presence of missing values (JMLR
    2010).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lorae.utils.samples import subsample

RIDGE = 1.0
_ITERATIONS = 50
_TOLERANCE = 1e-4
_FLOOR = 1e-4  # share of the variance of a column that its noise has at least
_ROWS = 1000  # whose posteriors are held at a time
_MAX_ROWS, _FITTED = 2000, 10_000  # over which the number of factors is chosen, and fitted
_MAX_FACTORS = 48
_HIDDEN = 0.05
_ALMOST = 1.005  # factor on the smallest error, up to which fewer factors are as good


@dataclass(frozen=True)
class Factors:
    """A factor model of d values.

    Attributes:
        mean: of the samples.
        loadings: W, d x k.
        noise: variances psi of the values, positive.
    """

    mean: Float[Tensor, " d"]
    loadings: Float[Tensor, "d k"]
    noise: Float[Tensor, " d"]

    def expect(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return the expected samples, given the values that are not NaN."""
        mean, W, psi = (part.to(x) for part in (self.mean, self.loadings, self.noise))
        m, _ = posterior(x - mean, W, psi)
        return mean + m @ W.mT

    def fill(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return samples whose gaps are filled with their expectation."""
        return torch.where(x.isnan(), self.expect(x), x)


def posterior(
    centred: Float[Tensor, "n d"], loadings: Float[Tensor, "d k"], noise: Float[Tensor, " d"]
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k k"]]:
    """Return means and covariances of the factors of samples, given the values that are not NaN."""
    observed = ~centred.isnan()
    scaled = loadings / noise[:, None]
    k = loadings.shape[1]
    outer = (scaled[:, :, None] * loadings[:, None, :]).flatten(1)
    precision = (observed.to(outer) @ outer).view(-1, k, k) + torch.eye(k).to(outer)
    covariance = torch.linalg.inv(precision)
    projected = centred.nan_to_num(0) @ scaled
    return (covariance @ projected[..., None]).squeeze(-1), covariance


def fit_factors(
    x: Float[Tensor, "n d"], count: int, *, ridge: float = RIDGE, iterations: int = _ITERATIONS
) -> Factors:
    """Return the factor model of samples, by expectation-maximization in float64.

    Args:
        x: n samples, NaN where a value is missing; every column has an observed value.
        count: number k of factors, 1 to d.
        ridge: the precision of the prior of W.
        iterations: at most; fewer once the fit changes by less than 1e-4 of the deviations.
    """
    x = x.double()
    n = (~x.isnan()).sum(0).clamp(min=1)
    mean = x.nansum(0) / n
    variance = (x - mean).square().nansum(0) / n
    variance = variance.clamp(min=max(_FLOOR * float(variance.mean()), 1e-30))
    W, psi = _start((x - mean).nan_to_num(0), variance, count)
    eye = torch.eye(W.shape[1], dtype=W.dtype)
    for _ in range(iterations):
        second, cross, first = 0 * W[:, :, None] * eye, 0 * W, 0 * W
        for part in torch.split(x - mean, _ROWS):
            m, S = posterior(part, W, psi)
            weight = (~part.isnan()).to(part)
            second += (weight.mT @ (S + m[:, :, None] * m[:, None, :]).flatten(1)).view_as(second)
            cross += part.nan_to_num(0).mT @ m
            first += weight.mT @ m
        old, prior = W, (ridge * psi / variance)[:, None, None] * eye
        W = torch.linalg.solve(second + prior, cross)
        squares = (x - mean).square().nansum(0) - 2 * (cross * W).sum(1)
        squares = squares + (W[:, None] @ second @ W[..., None]).flatten()
        psi = torch.maximum(squares / n, _FLOOR * variance)
        mean = mean + ((x - mean).nansum(0) - (first * W).sum(1)) / n
        if float((W - old).norm()) < _TOLERANCE * float(variance.sum().sqrt()):
            break
    return Factors(mean, W, psi)


def _start(
    centred: Float[Tensor, "n d"], variance: Float[Tensor, " d"], count: int
) -> tuple[Float[Tensor, "d k"], Float[Tensor, " d"]]:
    """Return the loadings and noise of the principal components of samples with gaps of 0."""
    _, sigma, Vh = torch.linalg.svd(torch.linalg.qr(centred, mode="r").R, full_matrices=False)
    W = Vh[:count].mT * sigma[:count] / len(centred) ** 0.5
    if W.shape[1] < count:
        W = torch.cat([W, W.new_zeros(len(W), count - W.shape[1])], 1)
    return W, torch.maximum(variance - W.square().sum(1), 0.1 * variance)


def hide_like_others(
    missing: Bool[Tensor, "n *shape"], generator: torch.Generator | None = None
) -> Bool[Tensor, "n *shape"]:
    """Return which observed values to hide: those that another sample, at random, lacks."""
    order = torch.randperm(len(missing), generator=generator).to(missing.device)
    return missing[order] & ~missing


def choose_factors(x: Float[Tensor, "n d"]) -> Factors:
    """Return the factor model with as many factors as predict hidden values best.

    In up to 2,000 samples the values are hidden that another one lacks, and others at random if
    these are less than a twentieth.
    """
    generator = torch.Generator().manual_seed(0)
    rows = x[torch.randperm(len(x), generator=generator)[:_MAX_ROWS]].double()
    hidden = hide_like_others(rows.isnan(), generator)
    if float(hidden.double().mean()) < _HIDDEN:
        also = torch.rand(rows.shape, generator=generator) < _HIDDEN
        hidden |= also & ~rows.isnan()
    part = rows.masked_fill(hidden, torch.nan)
    kept = (~part.isnan()).any(0)
    scale = (part - part.nanmean(0)).square().nanmean(0).sqrt()[kept].clamp(min=1e-15)
    target = rows[:, kept]

    def error(count: int) -> float:
        found = fit_factors(part[:, kept], count, iterations=20).expect(part[:, kept])
        missed = ((found - target) / scale)[hidden[:, kept]]
        return float(missed.square().mean()) if len(missed) else 0.0

    largest = max(1, min(_MAX_FACTORS, x.shape[1] - 1, len(rows) // 3))
    errors = {1: error(1)}
    while (best := min(errors, key=errors.__getitem__)) * 2 >= max(errors) < largest:
        count = max(errors)
        more = min(largest, count + max(1, count // 2))
        errors[more] = error(more)
    best = min(count for count, found in errors.items() if found <= _ALMOST * errors[best])
    return fit_factors(subsample(x, _FITTED), best)
