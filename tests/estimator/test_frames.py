"""Data frames with categories in the estimator: types, labels, unseen and unusable columns."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from lorae import LowRankAutoencoder
from lorae.errors import InputError

SETTINGS = {"n_components": 3, "steps": 150, "random_state": 0}
KINDS = np.array(["ash", "elm", "oak"])


def table(n: int = 240, seed: int = 0) -> pd.DataFrame:
    """Return columns of all types that follow one hidden kind."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(3, size=n)
    return pd.DataFrame(
        {
            "height": kind * 2.0 + 0.1 * rng.normal(size=n),
            "kind": KINDS[kind],
            "tall": kind == 2,
            "rings": (kind * 10 + rng.integers(3, size=n)).astype(np.int64),
            "grade": pd.Categorical.from_codes(kind, ["low", "mid", "high"], ordered=True),
        },
        index=np.arange(100, 100 + n),
    )


def polars_table() -> pl.DataFrame:
    X = table()
    return pl.DataFrame(
        {
            "height": X["height"].to_numpy(),
            "kind": list(X["kind"]),
            "tall": list(X["tall"]),
            "rings": X["rings"].to_numpy(),
            "grade": pl.Series(list(X["grade"]), dtype=pl.Enum(["low", "mid", "high"])),
        }
    )


@pytest.fixture(scope="module")
def fitted() -> LowRankAutoencoder:
    return LowRankAutoencoder(**SETTINGS).set_output(transform="pandas").fit(table())


def test_a_round_trip_keeps_types_labels_and_index(fitted):
    X = table(50, seed=1)
    back = fitted.inverse_transform(fitted.transform(X))
    assert list(back.columns) == list(X.columns)
    assert (back.dtypes == X.dtypes).all()
    assert back.index.equals(X.index)
    for name in ("kind", "tall", "grade"):
        assert (back[name] == X[name]).mean() > 0.95
        assert fitted.accuracy(X)[name] == pytest.approx((back[name] == X[name]).mean())
    assert list(back["grade"].cat.categories) == ["low", "mid", "high"]
    numbers = ["height", "rings"]
    lost = ((back[numbers] - X[numbers]) ** 2).mean() / X[numbers].var()
    assert lost.max() < 0.05
    assert fitted.score(X) == pytest.approx(1 - lost.mean(), abs=0.02)


def test_samples_have_categories_that_belong_together(fitted):
    made = fitted.sample(300)
    assert (made.dtypes == table().dtypes).all()
    assert set(made["kind"]) == {*KINDS}
    assert ((made["kind"] == "oak") == made["tall"]).mean() > 0.9
    np.testing.assert_allclose(made["kind"].value_counts(normalize=True), 1 / 3, atol=0.15)


def test_the_plot_of_coordinates_names_categories(fitted):
    svg = fitted.plot("coordinates").decode()
    assert "height" in svg
    assert "kind" in svg


def test_polars_frames():
    X = polars_table()
    model = LowRankAutoencoder(**SETTINGS).fit(X)
    back = model.inverse_transform(model.transform(X))
    assert back.schema == X.schema
    assert (back["kind"] == X["kind"]).mean() > 0.95
    gaps = X.with_columns(pl.when(pl.arange(pl.len()) % 4 > 0).then("kind").alias("kind"))
    filled = LowRankAutoencoder(**SETTINGS).fit(gaps).impute(gaps)
    assert (filled["kind"] == X["kind"]).mean() > 0.95
    assert filled.drop("kind").equals(X.drop("kind"))


def test_missing_categories_are_imputed():
    X = table()
    gaps = X.copy()
    rng = np.random.default_rng(0)
    for name in X.columns[[0, 1, 2, 4]]:
        gaps[name] = gaps[name].astype(object if name == "tall" else gaps[name].dtype)
        gaps.loc[rng.random(len(X)) < 0.2, name] = None
    filled = LowRankAutoencoder(**SETTINGS).fit(gaps).impute(gaps)
    assert not filled.isna().any().any()
    assert filled.index.equals(X.index)
    for name in X:
        observed = gaps[name].notna()
        assert (filled[name] == X[name])[observed].all()
        if name in ("kind", "tall", "grade"):
            assert (filled[name] == X[name])[~observed].mean() > 0.8


def test_a_saved_model_takes_and_returns_frames(fitted, tmp_path):
    fitted.save(tmp_path / "model.safetensors")
    again = LowRankAutoencoder.load(tmp_path / "model.safetensors")
    X = table(10, seed=2)
    expected = fitted.inverse_transform(fitted.transform(X)).reset_index(drop=True)
    pd.testing.assert_frame_equal(again.inverse_transform(again.transform(X)), expected)


def test_unseen_categories_are_named(fitted):
    X = table(20)
    X.loc[X.index[0], "kind"] = "yew"
    with pytest.raises(InputError, match=r"column 'kind' must hold .*'ash'.* got unseen 'yew'"):
        fitted.transform(X)


UNUSABLE = {
    "must have 1 to 1,000 categories, got 10,000": [f"id {k}" for k in range(10_000)],
    "must hold only numbers, only text or only booleans, got int, str": [1, "a"] * 5000,
    "must hold only numbers, only text or only booleans, got Timestamp": pd.date_range(
        "2020", periods=10_000
    ),
    "observed value in every column, got only gaps in": [None] * 10_000,
}


@pytest.mark.parametrize("message", UNUSABLE)
def test_columns_that_cannot_be_used_are_refused(message):
    X = pd.DataFrame(
        {"a": np.arange(10_000) % 7, "odd": UNUSABLE[message], "b": [True, False] * 5000}
    )
    with pytest.raises(InputError, match=message):
        LowRankAutoencoder(**SETTINGS).fit(X)


def test_arrays_are_refused_after_a_frame(fitted):
    with pytest.raises(InputError, match="X must be a data frame"):
        fitted.transform(np.zeros((3, 5)))
