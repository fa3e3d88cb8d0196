"""Factor models of samples with gaps, against conditional expectations and an iterated SVD."""

import numpy as np
import pytest
import torch

from lorae.linalg.incomplete import Factors, choose_factors, fit_factors, hide_like_others


def low_rank(n: int, d: int, rank: int, noise: float, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d)) + 2
    return torch.from_numpy(x + noise * rng.normal(size=(n, d)))


def with_gaps(x: torch.Tensor, share: float, seed: int = 1) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return x.masked_fill(torch.from_numpy(rng.random(x.shape) < share), torch.nan)


def iterated_svd(x: np.ndarray, rank: int, rounds: int = 500) -> np.ndarray:
    """Return gaps filled by the best approximation of a rank to the filled matrix."""
    missing = np.isnan(x)
    filled = np.where(missing, np.nanmean(x, 0), x)
    for _ in range(rounds):
        mean = filled.mean(0)
        U, s, Vh = np.linalg.svd(filled - mean, full_matrices=False)
        filled = np.where(missing, mean + (U[:, :rank] * s[:rank]) @ Vh[:rank], x)
    return filled


def test_expectation_is_the_conditional_mean_of_a_gaussian():
    rng = np.random.default_rng(0)
    W, psi, mean = rng.normal(size=(6, 2)), rng.uniform(0.1, 1, 6), rng.normal(size=6)
    model = Factors(*(torch.from_numpy(part) for part in (mean, W, psi)))
    x = with_gaps(torch.from_numpy(rng.normal(size=(20, 6))), 0.4)
    filled = model.fill(x).numpy()
    covariance = W @ W.T + np.diag(psi)
    for row, got in zip(x.numpy(), filled, strict=True):
        o, m = ~np.isnan(row), np.isnan(row)
        weights = np.linalg.solve(covariance[np.ix_(o, o)], row[o] - mean[o])
        np.testing.assert_allclose(got[m], mean[m] + covariance[np.ix_(m, o)] @ weights, atol=1e-10)
        np.testing.assert_array_equal(got[o], row[o])


def test_gaps_of_low_rank_samples_are_those_of_an_iterated_svd():
    x = low_rank(300, 12, 2, noise=0.01)
    gaps = with_gaps(x, 0.2)
    ours, svd = fit_factors(gaps, 2, iterations=500).fill(gaps), iterated_svd(gaps.numpy(), 2)
    missing = gaps.isnan().numpy()
    # both differ from the truth by the noise, and from each other by less
    assert np.abs(svd - x.numpy())[missing].mean() < 0.015
    assert np.abs(ours.numpy() - svd)[missing].mean() < 0.005


def test_likelihood_of_observed_values_rises_with_iterations():
    x = with_gaps(low_rank(80, 6, 2, noise=0.5), 0.3)

    def log_likelihood(model: Factors) -> float:
        covariance = model.loadings @ model.loadings.mT + torch.diag(model.noise)
        total = 0.0
        for row in x:
            o = ~row.isnan()
            gaussian = torch.distributions.MultivariateNormal(model.mean[o], covariance[o][:, o])
            total += float(gaussian.log_prob(row[o]))
        return total

    values = [log_likelihood(fit_factors(x, 2, ridge=0, iterations=k)) for k in (1, 2, 5, 20)]
    assert values == sorted(values)


@pytest.mark.parametrize("rank", [1, 4])
def test_chosen_number_of_factors_fills_as_well_as_the_rank_of_the_samples(rank):
    x = low_rank(400, 12, rank, noise=0.3)
    gaps = with_gaps(x, 0.2)

    def error(model: Factors) -> float:
        return float((model.fill(gaps) - x)[gaps.isnan()].square().mean())

    assert error(choose_factors(gaps)) < 1.05 * error(fit_factors(gaps, rank))


def test_hidden_values_are_gaps_of_another_sample():
    missing = torch.rand(50, 7, generator=torch.Generator().manual_seed(0)) < 0.3
    hidden = hide_like_others(missing, torch.Generator().manual_seed(1))
    assert hidden.any()
    assert not (hidden & missing).any()
    patterns = {tuple(row.tolist()) for row in missing}
    for row, own in zip(hidden, missing, strict=True):
        assert any(torch.equal(torch.tensor(p) & ~own, row) for p in patterns)
