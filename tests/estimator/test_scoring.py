"""Scores of reconstructions, against their definitions in NumPy."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris

from lorae import LowRankAutoencoder

SAMPLES = {"table": load_iris().data, "images": load_digits().images}


@pytest.fixture(params=SAMPLES)
def samples(request) -> np.ndarray:
    return SAMPLES[request.param]


@pytest.fixture(params=[False, True], ids=["one scale", "standardized"])
def reducer(request, samples: np.ndarray) -> LowRankAutoencoder:
    settings = {"steps": 20, "random_state": 0, "standardize": request.param}
    return LowRankAutoencoder(3, **settings).fit(samples[::2])


def scaled_errors(reducer: LowRankAutoencoder, X: np.ndarray) -> np.ndarray:
    scale = reducer.model_.scale.double().numpy()
    errors = reducer.inverse_transform(reducer.transform(X)) - X
    return (errors / scale.reshape(scale.shape[-X.ndim + 1 :])).reshape(len(X), -1)


def test_score_is_one_minus_the_share_of_squares_that_is_lost(reducer, samples):
    test = samples[1::2].reshape(len(samples[1::2]), -1)
    scale = reducer.model_.scale.double().numpy().reshape(-1)
    deviations = (test - samples[::2].reshape(len(samples[::2]), -1).mean(0)) / scale
    lost = (scaled_errors(reducer, samples[1::2]) ** 2).sum() / (deviations**2).sum()
    assert reducer.score(samples[1::2]) == pytest.approx(1 - lost, abs=1e-6)


def test_residuals_are_reconstructions_minus_samples_in_scaled_units(reducer, samples):
    found = reducer.residuals(samples[1::2]).flatten(1).numpy()
    np.testing.assert_allclose(found, scaled_errors(reducer, samples[1::2]), atol=1e-5)
