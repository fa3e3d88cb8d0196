"""Mixtures against scipy and scikit-learn."""

import numpy as np
import pytest
import torch
from codes import clusters, generator
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture as Mixture

from lorae.errors import InputError
from lorae.sampling.densities import Gaussian
from lorae.sampling.flows import Flow
from lorae.sampling.mixtures import GaussianMixture


def test_one_component_is_the_gaussian():
    codes = clusters(500, 4, 3)
    mixture, gaussian = GaussianMixture(1).fit(codes), Gaussian().fit(codes)
    # scikit-learn divides by n, and adds 1e-6 to the variances of whitened codes
    np.testing.assert_allclose(mixture.log_prob(codes), gaussian.log_prob(codes), atol=3e-2)


def test_mixture_equals_scipys_in_the_space_of_the_codes():
    codes = clusters(600, 3, 3)
    found = GaussianMixture(3).fit(codes)
    mean, spread = found.mean_.numpy(), (found.directions_ * found.variances_.sqrt()).numpy()
    state, z = (found.weights_, found.means_, found.covariances_), codes.numpy()
    parts = [
        np.log(w) + multivariate_normal(mean + spread @ m, spread @ S @ spread.T).logpdf(z)
        for w, m, S in zip(*(x.numpy() for x in state), strict=True)
    ]
    np.testing.assert_allclose(found.log_prob(codes), logsumexp(parts, 0), rtol=1e-9)


def test_likelihood_is_close_to_scikit_learns():
    codes = clusters(600, 3, 3)
    other = Mixture(3, random_state=0).fit(codes.numpy())
    assert GaussianMixture(3).fit(codes).log_prob(codes).mean().item() == pytest.approx(
        other.score(codes.numpy()), abs=0.02
    )


def test_samples_have_the_moments_of_the_codes():
    codes = clusters(2000, 4, 2)
    drawn = GaussianMixture(3).fit(codes).sample(40_000, generator())
    scale = codes.std(0).max().item()
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=0.03 * scale, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), codes.T.cov(), atol=0.05 * scale**2, rtol=0)


def several(k: int, d: int, n: int) -> torch.Tensor:
    """Return codes of k normal distributions whose means are far apart."""
    draw = np.random.default_rng(10 * k + d)
    corners = draw.choice(4**2, size=k, replace=False)
    means = np.zeros((k, d))
    means[:, :2] = 6 * np.stack([corners // 4, corners % 4], 1)
    mixing = np.eye(d) + 0.2 * draw.normal(size=(d, d)) / d**0.5
    z = means[draw.integers(k, size=n)] + draw.normal(size=(n, d))
    return torch.from_numpy(z @ mixing)


@pytest.mark.parametrize(
    ("k", "d", "n"),
    [(1, 2, 600), (4, 2, 600), (8, 2, 900), (8, 10, 1500), (2, 20, 600), (8, 20, 3000)],
)
def test_the_number_of_components_is_found(k, d, n):
    found = GaussianMixture((1, 2, 4, 8, 16), starts=2).fit(several(k, d, n))
    assert found.components_ == k


def test_noise_in_many_directions_does_not_hide_the_clusters():
    """28 directions carry noise; a fit that merges clusters loses about 2 nats a code."""
    draw = np.random.default_rng(0)
    means = np.zeros((6, 30))
    means[:, :2] = 10 * draw.normal(size=(6, 2))
    labels = draw.integers(6, size=2000)
    scale = np.r_[1.0, 1.0, np.full(28, 0.05)]
    z = means[labels] + scale * draw.normal(size=(2000, 30))
    codes, fresh = torch.from_numpy(z[:1000]), torch.from_numpy(z[1000:])
    # EM from the true clusters, the best that can be fitted to so many codes
    best = Mixture(6, means_init=means).fit(codes.numpy()).score(fresh.numpy())
    found = GaussianMixture(6).fit(codes).log_prob(fresh).mean().item()
    assert found > best - 0.5
    whitened = Gaussian().fit(codes)
    u = (whitened._centred(codes) @ whitened._axes() / whitened._deviations()).numpy()
    one = Mixture(6, random_state=0).fit(u)
    v = (whitened._centred(fresh) @ whitened._axes() / whitened._deviations()).numpy()
    assert one.score(v) - whitened._deviations().log().sum().item() < best - 1


def test_the_start_with_the_highest_held_out_likelihood_is_used():
    codes = clusters(400, 3, 3, k=6)
    held_out = [GaussianMixture(6, starts=n).fit(codes).held_out_ for n in (1, 2, 3, 4, 5)]
    assert held_out == sorted(held_out)


@pytest.mark.parametrize("n", [2, 3, 9, 30])
def test_few_codes_have_a_mixture_of_fewer_components(n):
    codes = clusters(n, 3, 3)
    mixture = GaussianMixture((1, 2, 4, 8, 16, 32)).fit(codes)
    assert mixture.components_ < n
    assert mixture.sample(5, generator()).isfinite().all()
    repeated = codes[:2].repeat(20, 1)  # fewer distinct codes than components
    assert GaussianMixture(4).fit(repeated).sample(5, generator()).isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianMixture(0), "components must be at least 1, got 0"),
        (lambda: GaussianMixture(()), "components must be at least 1"),
        (lambda: GaussianMixture(2, starts=0), "starts must be at least 1, got 0"),
        (
            lambda: GaussianMixture(2, regularization=0.0),
            "must be greater than 0",
        ),
        (lambda: Flow(transforms=0), "transforms must be at least 1, got 0"),
        (lambda: GaussianMixture(30).fit(clusters(30, 2, 2)), "fewer than the codes, .* 30 for 30"),
    ],
)
def test_invalid_arguments_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
