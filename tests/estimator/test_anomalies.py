"""Anomaly scores: false alarms at the stated rate, and the values that cause a score."""

import numpy as np
import pytest

from lorae import LowRankAutoencoder


def samples(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(3, 10))
    return rng.normal(size=(n, 3)) @ mixing + 0.1 * rng.normal(size=(n, 10))


@pytest.fixture(scope="module")
def fitted() -> LowRankAutoencoder:
    reducer = LowRankAutoencoder(n_components=3, steps=50, validation_fraction=0.4, random_state=0)
    return reducer.fit(samples(1000, 1))


def test_false_alarms_have_the_nominal_rate(fitted):
    scores = fitted.anomaly_score(samples(4000, 2))
    assert scores.min() >= 0
    assert scores.max() < 1
    for alpha in (0.05, 0.2):
        # of 400 calibration errors the rate is known to about sqrt(alpha (1 - alpha) / 400)
        assert np.mean(scores >= 1 - alpha) == pytest.approx(alpha, abs=3 * (alpha / 400) ** 0.5)


def test_a_changed_value_is_found_and_named(fitted):
    X = samples(200, 3)
    X[:, 4] += 5
    assert np.mean(fitted.anomaly_score(X) >= 0.95) > 0.95
    shares = fitted.anomaly_contributions(X)
    np.testing.assert_allclose(shares.sum(1), 1)
    assert np.mean(shares.argmax(1) == 4) > 0.9
    assert fitted.score_samples(X).mean() < fitted.score_samples(samples(200, 3)).mean()
