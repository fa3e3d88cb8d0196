"""Samples and the round trip of codes."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

from lorae import InputError, LowRankAutoencoder

X = load_iris().data


@pytest.fixture(scope="module")
def fitted() -> LowRankAutoencoder:
    return LowRankAutoencoder(n_components=2, steps=100, random_state=0).fit(X)


def test_samples_resemble_the_data_and_depend_on_the_seed(fitted):
    new = fitted.sample(400, random_state=1)
    np.testing.assert_allclose(new.mean(0), X.mean(0), atol=3 * X.std(0).max() / 400**0.5)
    np.testing.assert_array_equal(new, fitted.sample(400, random_state=1))
    assert (new != fitted.sample(400, random_state=2)).any()


def test_interpolations_end_in_the_reconstructions(fitted):
    way = fitted.interpolate(X[:2], X[50:52], steps=4)
    back = fitted.inverse_transform(fitted.transform(X))
    np.testing.assert_allclose(way[:, 0], back[:2], rtol=1e-6)
    np.testing.assert_allclose(way[:, -1], back[50:52], rtol=1e-6)


def test_the_round_trip_is_nearly_exact_for_pca_and_measures_what_it_says():
    linear = LowRankAutoencoder(n_components=2, steps=1, learning_rate=1e-9, random_state=0).fit(X)
    assert linear.round_trip_error(linear.transform(X)).max() < 1e-4
    bent = LowRankAutoencoder(n_components=2, steps=200, random_state=0).fit(X)
    Z = bent.transform(X)
    again = bent.transform(bent.inverse_transform(Z))
    expected = np.linalg.norm((again - Z) / np.sqrt(bent.explained_variance_), axis=1)
    np.testing.assert_allclose(bent.round_trip_error(Z), expected, rtol=1e-3, atol=1e-5)


def test_codes_of_another_number_are_refused(fitted):
    with pytest.raises(InputError, match="codes must have 2 columns, got 1"):
        fitted.round_trip_error(np.zeros((3, 1)))
