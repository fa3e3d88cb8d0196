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


def test_the_number_of_components_is_chosen_on_held_out_codes():
    codes = clusters(900, 2, 2, k=3)
    assert GaussianMixture((1, 2, 3)).fit(codes).components_ == 3
    normal = torch.randn(300, 2, generator=generator(), dtype=torch.float64)
    assert GaussianMixture((1, 8)).fit(normal).components_ == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianMixture(0), "components must be at least 1, got 0"),
        (lambda: GaussianMixture(()), "components must be at least 1"),
        (
            lambda: GaussianMixture(2, regularization=0.0),
            "must be finite, greater than 0",
        ),
        (lambda: Flow(transforms=0), "transforms must be finite, at least 1, got 0"),
        (lambda: GaussianMixture(30).fit(clusters(30, 2, 2)), "fewer than the codes, .* 30 for 30"),
    ],
)
def test_invalid_arguments_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
