"""Samples with gaps in the estimator: filled, scored and refused."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.decomposition import PCA

from lorae import LowRankAutoencoder
from lorae.errors import InputError

SETTINGS = {"n_components": 2, "steps": 60, "random_state": 0}


def samples(n: int = 200, seed: int = 0, noise: float = 0.05) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).normal(size=(2, 8))
    return rng.normal(size=(n, 2)) @ mixing + noise * rng.normal(size=(n, 8)) + 3


def with_gaps(X: np.ndarray, share: float = 0.25, seed: int = 1) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(X.shape) < share, np.nan, X)


@pytest.fixture(scope="module")
def fitted() -> LowRankAutoencoder:
    return LowRankAutoencoder(**SETTINGS).fit(with_gaps(samples()))


def test_gaps_are_filled_and_observed_values_are_not_changed(fitted):
    X, gaps = samples(seed=2), with_gaps(samples(seed=2))
    filled = fitted.impute(gaps)
    missing = np.isnan(gaps)
    np.testing.assert_array_equal(filled[~missing], X[~missing])
    spread = X.std()
    assert np.sqrt(np.mean((filled - X)[missing] ** 2)) < 0.1 * spread
    decoded = fitted.inverse_transform(fitted.transform(gaps))
    assert np.sqrt(np.mean((decoded - X)[missing] ** 2)) < 0.1 * spread


@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize("container", ["pandas", "polars", "tensor", "float32"])
def test_imputation_keeps_the_container(fitted, container):
    gaps = with_gaps(samples(30, seed=2))
    names = [f"c{k}" for k in range(8)]
    X = {
        "pandas": lambda: pd.DataFrame(gaps, index=range(5, 35), columns=names),
        "polars": lambda: pl.DataFrame(gaps, schema=names),
        "tensor": lambda: torch.from_numpy(gaps),
        "float32": lambda: gaps.astype(np.float32),
    }[container]()
    filled = fitted.impute(X)
    assert type(filled) is type(X)
    array = np.asarray(filled)
    assert array.dtype == np.asarray(X).dtype
    observed = ~np.isnan(gaps)
    np.testing.assert_array_equal(array[observed], np.asarray(X)[observed])
    assert np.isfinite(array).all()
    if container == "pandas":
        assert filled.index.equals(X.index)
        assert list(filled.columns) == names


def test_scores_count_observed_values(fitted):
    gaps = with_gaps(samples(50, seed=3))
    decoded = fitted.inverse_transform(fitted.transform(gaps))
    errors = [np.mean((a - b)[~np.isnan(b)] ** 2) for a, b in zip(decoded, gaps, strict=True)]
    around = [np.mean((fitted.mean_ - b)[~np.isnan(b)] ** 2) for b in gaps]
    np.testing.assert_allclose(-fitted.score_samples(gaps), errors, rtol=1e-4)
    assert fitted.score(gaps) == pytest.approx(1 - sum(errors) / sum(around), abs=1e-6)
    shares = fitted.anomaly_contributions(gaps)
    assert (shares[np.isnan(gaps)] == 0).all()


def test_the_linear_start_is_pca_where_samples_are_complete():
    X = samples(noise=0.2)
    gaps = X.copy()
    gaps[0, 0] = np.nan
    model = LowRankAutoencoder(n_components=2, steps=1, learning_rate=1e-9, random_state=0)
    codes, pca = model.fit(gaps).transform(X[1:]), PCA(2).fit(X)
    expected = pca.inverse_transform(pca.transform(X[1:]))
    # one gap among 1,600 values changes the axes by little
    np.testing.assert_allclose(model.inverse_transform(codes), expected, atol=0.02)


def test_complete_samples_need_no_gaps_in_the_model():
    model = LowRankAutoencoder(**SETTINGS).fit(samples())
    assert model.model_.gaps is None
    X, gaps = samples(50, seed=4), with_gaps(samples(50, seed=4))
    filled = model.impute(gaps)
    missing = np.isnan(gaps)
    assert np.abs(filled - X)[missing].mean() < 0.5 * np.abs(X.mean(0) - X)[missing].mean()
    assert np.isfinite(model.transform(gaps)).all()


def test_auto_counts_the_coordinates_of_samples_with_gaps():
    model = LowRankAutoencoder(steps=100, random_state=0).fit(with_gaps(samples(400, noise=0.3)))
    assert model.n_components_ in (2, 3)


def test_fields_with_gaps():
    rng = np.random.default_rng(0)
    grid = np.linspace(0, np.pi, 9)
    X = np.sin(grid[:, None] * rng.uniform(1, 2, (60, 1, 1))) * np.cos(grid)
    gaps = np.where(rng.random(X.shape) < 0.2, np.nan, X)
    filled = LowRankAutoencoder(**SETTINGS).fit(gaps).impute(gaps)
    missing = np.isnan(gaps)
    assert np.abs(filled - X)[missing].mean() < 0.2 * np.abs(X - X.mean(0))[missing].mean()
    np.testing.assert_array_equal(filled[~missing], X[~missing])


def test_a_fit_with_gaps_is_saved(fitted, tmp_path):
    fitted.save(tmp_path / "model.safetensors")
    gaps = with_gaps(samples(20, seed=5))
    again = LowRankAutoencoder.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.impute(gaps), fitted.impute(gaps))


def test_samples_and_columns_without_values_are_named():
    X = pd.DataFrame(samples(30), columns=list("abcdefgh"))
    no_column = X.assign(c=np.nan)
    with pytest.raises(InputError, match="every column, got only gaps in c;"):
        LowRankAutoencoder(**SETTINGS).fit(no_column)
    no_sample = X.to_numpy(copy=True)
    no_sample[[3, 7]] = np.nan
    with pytest.raises(InputError, match="every sample, got only gaps in sample 3, sample 7"):
        LowRankAutoencoder(**SETTINGS).fit(no_sample)


def test_own_networks_take_no_gaps():
    own = {"encoder": torch.nn.Linear(8, 2), "decoder": torch.nn.Linear(2, 8)}
    with pytest.raises(InputError, match="X must have no gaps"):
        LowRankAutoencoder(**SETTINGS, **own).fit(with_gaps(samples()))
