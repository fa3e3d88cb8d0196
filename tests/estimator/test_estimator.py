import os
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import lorae
from lorae import InputError, LowRankAutoencoder

IRIS = load_iris().data
DIGITS = (load_digits().images[:120] * 15).astype(np.uint8)


def quick(**arguments) -> LowRankAutoencoder:
    return LowRankAutoencoder(**{"n_components": 2, "steps": 30, "random_state": 0} | arguments)


def stacks() -> dict[str, object]:
    """Return a few images in every layout, dtype and container that an estimator accepts."""
    gray = DIGITS[:40].astype(np.float32) / 255
    colour = np.stack([gray, 1 - gray, gray**2], 1)
    return {
        "nhw": gray,
        "nhw bytes": DIGITS[:40],
        "nhwc": np.ascontiguousarray(colour.transpose(0, 2, 3, 1)),
        "nchw": colour,
        "nchw tensor": torch.from_numpy(colour),
        "nhw bytes tensor": torch.from_numpy(DIGITS[:40]),
        "nhw float64": gray.astype(np.float64),
        "nhw beyond [-1, 1]": gray * 300 - 20,
    }


# scikit-learn's contract


# The check of the array API is skipped here; it runs in the slow test below.
@parametrize_with_checks([quick(n_components=1, steps=4)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


CHECKS = """
import sys
from sklearn.utils.estimator_checks import check_estimator
from lorae import LowRankAutoencoder
found = [one for estimator in (
    LowRankAutoencoder(steps=20),
    LowRankAutoencoder(n_components=1, steps=20, whiten=True),
    LowRankAutoencoder(n_components=0.9, steps=20, standardize=False),
) for one in check_estimator(estimator, on_fail=None, on_skip=None)]
bad = [(one["check_name"], repr(one["exception"])) for one in found if one["status"] != "passed"]
print(len(found), bad)
sys.exit(bool(bad))
"""


@pytest.mark.slow
def test_check_estimator_passes_and_skips_nothing():
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHECKS], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) >= 120


def test_works_in_pipeline_grid_search_and_joblib():
    X, y = load_iris(return_X_y=True)
    whole = make_pipeline(quick(), LogisticRegression())
    search = GridSearchCV(
        whole, {"lowrankautoencoder__n_components": [1, 2]}, cv=2, error_score="raise"
    )
    search.fit(X, y)
    assert search.best_score_ > 0.8
    codes = joblib.Parallel(n_jobs=2, backend="threading")(
        joblib.delayed(lambda: quick().fit_transform(X))() for _ in range(2)
    )
    np.testing.assert_array_equal(codes[0], codes[1])


def test_pickling_keeps_the_fit_and_fitting_restores_the_global_generator():
    state = torch.get_rng_state()
    fitted = quick().fit(IRIS)
    assert torch.equal(state, torch.get_rng_state())
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(IRIS), fitted.transform(IRIS))


# Coordinates


@pytest.mark.parametrize("standardize", [False, True])
def test_linear_networks_give_principal_component_analysis(standardize: bool):
    """Up to the shrinkage by noise of the size of the error."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 5)) * [3, 2, 1, 0.1, 0.1] @ rng.normal(size=(5, 5)) + 7
    own = {"encoder": nn.Linear(5, 5), "decoder": nn.Linear(5, 5)}
    fitted = LowRankAutoencoder(
        n_components=3,
        steps=3000,
        learning_rate=2e-2,
        standardize=standardize,
        random_state=0,
        **own,
    ).fit(X)
    units = (X - X.mean(0)) / X.std(0) if standardize else X
    pca = PCA(3).fit(units)
    np.testing.assert_allclose(fitted.explained_variance_, pca.explained_variance_, rtol=0.1)
    np.testing.assert_allclose(
        fitted.explained_variance_ratio_, pca.explained_variance_ratio_, rtol=0.1
    )
    np.testing.assert_allclose(fitted.singular_values_, pca.singular_values_, rtol=0.1)
    components = fitted.components_ / (X.std(0) if standardize else 1)
    basis = np.linalg.qr(components.T)[0]
    cosines = np.linalg.svd(pca.components_ @ basis, compute_uv=False)
    np.testing.assert_allclose(cosines, 1, atol=1e-2)
    mean = np.abs(fitted.transform(X)) - np.abs(pca.transform(units))
    assert np.abs(mean).max() < 0.2 * np.sqrt(pca.explained_variance_[0])


def test_default_networks_of_vectors_start_from_principal_components():
    # A step with a tiny learning rate leaves the networks where they start.
    fitted = quick(steps=1, learning_rate=1e-9).fit(IRIS)
    pca = PCA(2).fit(IRIS)
    np.testing.assert_allclose(fitted.transform(IRIS), pca.transform(IRIS), atol=1e-4)
    np.testing.assert_allclose(fitted.components_, pca.components_, atol=1e-5)
    np.testing.assert_allclose(fitted.mean_, pca.mean_, rtol=1e-6)
    wrong = ((pca.inverse_transform(pca.transform(IRIS)) - IRIS) ** 2).mean()
    assert fitted.reconstruction_error_ == pytest.approx(wrong, rel=1e-5)


@pytest.mark.parametrize("X", [IRIS, DIGITS], ids=["table", "images"])
@pytest.mark.parametrize("whiten", [False, True])
def test_coordinates_are_centred_uncorrelated_ordered_and_of_the_stated_variance(X, whiten):
    fitted = quick(n_components=3, steps=60, whiten=whiten).fit(X)
    codes = fitted.transform(X).astype(np.float64)
    variances = np.ones(3) if whiten else fitted.explained_variance_
    largest = np.sqrt(fitted.explained_variance_[0])
    np.testing.assert_allclose(codes.mean(0), 0, atol=1e-5 * max(1, largest))
    np.testing.assert_allclose(codes.var(0, ddof=1), variances, rtol=1e-4)
    np.testing.assert_allclose(np.corrcoef(codes.T), np.eye(3), atol=1e-3)
    share = 1 + fitted.score_samples(X).sum() / ((scaled(fitted, X)) ** 2).mean(1).sum()
    assert fitted.explained_variance_ratio_.sum() == pytest.approx(share, abs=1e-4)
    assert fitted.score(X) == pytest.approx(share, abs=1e-4)


def scaled(fitted: LowRankAutoencoder, X: np.ndarray) -> np.ndarray:
    model = fitted.model_
    x = lorae.as_float(torch.from_numpy(X)).view(len(X), *fitted.input_format_.shape)
    flat = fitted.unit_ * model.scaled(x).flatten(1).double().numpy()
    return flat - flat.mean(0)


@pytest.mark.parametrize("standardize", [False, True])
def test_the_linear_part_has_the_units_of_the_samples(standardize):
    """For linear networks, mean_ + Z components_ is what is decoded."""
    X = IRIS * [1, 10, 100, 1000] + 5
    fitted = quick(steps=1, learning_rate=1e-9, standardize=standardize).fit(X)
    Z = fitted.transform(X)
    linear = fitted.mean_ + Z @ fitted.components_
    np.testing.assert_allclose(fitted.inverse_transform(Z), linear, rtol=1e-4, atol=1e-2)


def test_leading_coordinates_are_models_of_their_own():
    X = IRIS @ np.random.default_rng(0).normal(size=(4, 12))
    fitted = LowRankAutoencoder(n_components=4, steps=300, random_state=0).fit(X)
    codes = fitted.transform(X)
    errors = [((fitted.inverse_transform(codes[:, :k]) - X) ** 2).mean() for k in range(1, 5)]
    assert errors == sorted(errors, reverse=True)
    variance = ((X - X.mean(0)) ** 2).mean()
    added = -np.diff([variance, *errors]) * 12 * len(X) / (len(X) - 1)
    np.testing.assert_allclose(fitted.explained_variance_, added, rtol=1e-2, atol=1e-5)


def test_an_offset_of_a_billion_changes_nothing():
    rng = np.random.default_rng(0)
    X = np.round(rng.normal(size=(80, 5)) * 2**20) / 2**20
    near, far = quick(steps=60).fit(X), quick(steps=60).fit(X + 2.0**30)
    np.testing.assert_allclose(far.transform(X + 2.0**30), near.transform(X), atol=1e-4)
    np.testing.assert_allclose(far.mean_ - 2.0**30, near.mean_, atol=1e-6)
    back = far.inverse_transform(far.transform(X + 2.0**30)) - 2.0**30
    np.testing.assert_allclose(back, near.inverse_transform(near.transform(X)), atol=1e-4)
    assert far.score(X + 2.0**30) == pytest.approx(near.score(X), abs=1e-5)


def test_codes_of_a_sample_do_not_depend_on_the_others():
    fitted = quick().fit(IRIS)
    together = fitted.transform(IRIS)
    order = np.random.default_rng(0).permutation(len(IRIS))
    np.testing.assert_allclose(fitted.transform(IRIS[order]), together[order], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fitted.transform(IRIS[3:4]), together[3:4], rtol=1e-9, atol=1e-9)


# Containers


@pytest.mark.parametrize("kind", stacks())
def test_images_are_returned_as_they_were_given(kind: str):
    X = stacks()[kind]
    fitted = quick(width=0.1).fit(X)
    codes = fitted.transform(X)
    back = fitted.inverse_transform(codes)
    assert type(codes) is type(back) is type(X)
    assert codes.shape == (40, 2)
    assert tuple(back.shape) == tuple(X.shape)
    assert back.dtype == X.dtype
    assert fitted.n_features_in_ == np.prod(X.shape[1:])
    assert fitted.score_samples(X).shape == (40,)
    new = fitted.sample(3, random_state=0)
    assert type(new) is type(X)
    assert tuple(new.shape) == (3, *X.shape[1:])
    way = fitted.interpolate(X[:2], X[2:4], steps=5)
    assert tuple(way.shape) == (2, 5, *X.shape[1:])


def test_flat_images_are_the_same_as_stacked_ones():
    stacked = DIGITS.astype(np.float32) / 255
    flat = stacked.reshape(len(stacked), -1)
    one = quick(width=0.1).fit(stacked)
    other = quick(width=0.1, image_shape=(8, 8)).fit(flat)
    np.testing.assert_array_equal(one.transform(stacked), other.transform(flat))
    assert other.inverse_transform(other.transform(flat)).shape == flat.shape


@pytest.mark.parametrize("package", [pd, pl], ids=["pandas", "polars"])
def test_data_frames_in_and_out(package):
    names = ["a", "b", "c", "d"]
    frame = package.DataFrame({name: IRIS[:, k] for k, name in enumerate(names)})
    fitted = quick().fit(frame)
    assert list(fitted.feature_names_in_) == names
    back = fitted.inverse_transform(fitted.transform(frame))
    assert isinstance(back, package.DataFrame)
    assert list(back.columns) == names
    framed = fitted.set_output(transform=package.__name__).transform(frame)
    assert isinstance(framed, package.DataFrame)
    assert list(framed.columns) == list(fitted.get_feature_names_out())
    assert list(fitted.get_feature_names_out()) == ["lowrankautoencoder0", "lowrankautoencoder1"]


@pytest.mark.parametrize(
    ("earlier", "later", "message"),
    [
        (np.zeros((4, 9, 8)), np.zeros((4, 8, 9)), r"\(9, 8\).*\(8, 9\)"),
        (np.zeros((4, 9, 8, 3)), np.zeros((4, 3, 9, 8)), r"\(9, 8, 3\).*\(3, 9, 8\)"),
        (np.zeros((4, 9, 8)), np.zeros((4, 7)), r"\(9, 8\).*\(7,\)"),
        (np.zeros((4, 7)), np.zeros((4, 9, 8)), r"\(7,\).*\(9, 8\)"),
        (np.zeros((4, 7)), np.zeros((4, 6)), "6 features"),
    ],
)
def test_later_samples_must_have_the_format_of_the_first(earlier, later, message):
    estimator = quick()
    estimator._center(estimator._read(earlier, reset=True))
    estimator._read(earlier[:1])
    with pytest.raises(ValueError, match=message):
        estimator._read(later)


def test_names_of_columns_are_forgotten_with_their_data_frame():
    fitted = quick(steps=1).fit(pd.DataFrame(IRIS, columns=list("abcd")))
    assert list(fitted.feature_names_in_) == list("abcd")
    fitted.set_params(width=0.1).fit(DIGITS)
    assert not hasattr(fitted, "feature_names_in_")
    assert fitted.n_features_in_ == 64


def test_tensors_in_and_out():
    X = torch.from_numpy(IRIS)
    fitted = quick().fit(X)
    codes = fitted.transform(X)
    assert isinstance(codes, torch.Tensor)
    assert codes.dtype == torch.float64
    assert isinstance(fitted.inverse_transform(codes), torch.Tensor)


# Continued training, files


def test_a_batch_too_small_for_coordinates_is_refused():
    fitted = quick().partial_fit(IRIS)
    codes = fitted.transform(IRIS)
    with pytest.raises(InputError, match="X must have at least 10 samples to compute 2 coord"):
        fitted.partial_fit(IRIS[:9])
    np.testing.assert_array_equal(fitted.transform(IRIS), codes)


def test_partial_fit_continues_training_at_the_same_rank():
    fitted = quick().partial_fit(IRIS[::2])
    before = fitted.model_
    fitted.partial_fit(IRIS[1::2])
    assert fitted.model_ is not before
    assert fitted.n_components_ == 2
    assert np.abs(fitted.transform(IRIS[1::2]).mean(0)).max() < 1e-5
    assert fitted.history_[-1]["phase"] == "partial fit"


def test_warm_start_continues_and_lowers_the_rank():
    fitted = quick(n_components=3, warm_start=True).fit(IRIS)
    first = fitted.reconstruction_error_
    fitted.fit(IRIS)
    assert fitted.reconstruction_error_ < 1.05 * first
    fitted.set_params(n_components=2).fit(IRIS)
    assert fitted.n_components_ == 2
    fitted.set_params(n_components=3).fit(IRIS)  # more than before: new networks
    assert fitted.n_components_ == 3


@pytest.mark.parametrize("X", [IRIS, DIGITS], ids=["table", "images"])
def test_a_loaded_estimator_equals_the_saved_one(X, tmp_path: Path):
    fitted = quick(width=0.1, whiten=True).fit(X)
    fitted.save(tmp_path / "a.safetensors")
    again = LowRankAutoencoder.load(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))
    codes = fitted.transform(X)
    np.testing.assert_array_equal(again.inverse_transform(codes), fitted.inverse_transform(codes))
    np.testing.assert_array_equal(again.sample(3), fitted.sample(3))
    for name in ("explained_variance_", "components_", "mean_", "ranks_", "history_"):
        np.testing.assert_equal(getattr(again, name), getattr(fitted, name))
    assert str(again.get_params()) == str(fitted.get_params())
    again.partial_fit(X)


def test_warm_start_accepts_array_likes_and_other_shapes():
    class Wrapped:
        def __array__(self, dtype=None, copy=None):
            return np.asarray(IRIS, dtype)

    fitted = quick(warm_start=True).fit(Wrapped()).fit(Wrapped())
    assert fitted.fit(IRIS[:, :3]).n_features_in_ == 3


def test_modules_of_the_user(tmp_path: Path):
    encoder, decoder = nn.Sequential(nn.Linear(4, 6), nn.Tanh()), nn.Sequential(nn.Linear(6, 4))
    before = encoder[0].weight.clone()
    fitted = quick(encoder=encoder, decoder=decoder).fit(IRIS)
    assert torch.equal(encoder[0].weight, before)
    fitted.save(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="give encoder and decoder"):
        LowRankAutoencoder.load(tmp_path / "a.safetensors")
    again = LowRankAutoencoder.load(tmp_path / "a.safetensors", encoder=encoder, decoder=decoder)
    np.testing.assert_array_equal(again.transform(IRIS), fitted.transform(IRIS))
    assert clone(fitted).fit(IRIS).n_components_ == 2


# Bad input

BAD = {
    "n_components": [0, 5, -1, 1.0, 1.5, 0.0, "many", None, True, [2]],
    "max_components": [0, 1.5],
    "width": [0, -1, "wide"],
    "steps": [0, 2.5],
    "batch_size": [0, "all"],
    "learning_rate": [0, -1, 2, float("nan")],
    "validation_fraction": [0, 0.6],
    "image_shape": [(2, 2), (8, 8), (3,), (4,), 28, (2.0, 2.0), (-2, -2)],
    "device": ["nowhere"],
    "encoder": [nn.Linear(4, 2)],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_invalid_arguments_are_refused_by_name(name: str, value):
    with pytest.raises(InputError, match=name):
        quick(**{name: value}).fit(IRIS)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.full((9, 3), np.nan), "an observed value in every sample"),
        (np.full((9, 3), np.inf), "infinity"),
        (np.full((9, 3), 1e300) * np.arange(9)[:, None], "float32"),
        (np.zeros((1, 3)), "n_samples = 1"),
        (np.zeros((2, 3)), "n_components must be 1 to 2"),
        (np.zeros((9, 3, 3)), "sides of X must be at least 4"),
        (np.array([["a", "b"], ["c", "d"]]), "could not convert|float"),
    ],
)
def test_invalid_samples_are_refused(X, message: str):
    with pytest.raises(ValueError, match=message):
        quick(n_components=3).fit(X)


def test_constant_features_and_copies_of_one_sample_are_accepted():
    X = np.column_stack([IRIS, np.full(len(IRIS), 7.0)])
    back = (fitted := quick().fit(X)).inverse_transform(fitted.transform(X))
    assert np.abs(back[:, 4] - 7).max() < 0.5
    same = quick().fit(np.ones((9, 3)))
    assert np.isfinite(same.transform(np.ones((9, 3)))).all()


def test_invalid_use_of_a_fitted_estimator_is_refused():
    fitted = quick(width=0.1).fit(DIGITS)
    with pytest.raises(InputError, match=r"the fitted shape \(8, 8\), got \(16, 16\)"):
        fitted.transform(np.zeros((2, 16, 16), np.uint8))
    with pytest.raises(InputError, match=r"fitted shape \(8, 8\), got \(64,\)"):
        fitted.transform(np.zeros((2, 64)))
    with pytest.raises(ValueError, match="expecting 4 features"):
        quick().fit(IRIS).transform(IRIS[:, :3])
    with pytest.raises(InputError, match="at most 2 columns"):
        fitted.inverse_transform(np.zeros((2, 3)))
    with pytest.raises(InputError, match="n_samples must be"):
        fitted.sample(0)
    with pytest.raises(InputError, match="unknown density"):
        quick(density="round").fit(IRIS).sample()
    with pytest.raises(InputError, match="equal length, got 2 and 3"):
        fitted.interpolate(DIGITS[:2], DIGITS[:3])
    with pytest.raises(InputError, match="device"):
        fitted.to("nowhere")


NEED_NO_FIT = {
    "partial_fit",  # which is a fit
    "fit",
    "fit_transform",
    "get_metadata_routing",
    "get_params",
    "load",
    "set_output",
    "set_params",
}


def test_every_method_that_needs_a_fit_says_so():
    def public(name):
        if name.startswith("_") or name.endswith("_request"):  # of metadata routing
            return False
        return callable(getattr(LowRankAutoencoder, name))

    methods = sorted(
        name for name in dir(LowRankAutoencoder) if public(name) and name not in NEED_NO_FIT
    )
    assert {"transform", "inverse_transform", "sample", "save", "anomaly_score"} <= set(methods)
    arguments = {"sample": (), "interpolate": (IRIS, IRIS), "to": ("cpu",), "save": ("file",)}
    arguments |= {"get_feature_names_out": (), "plot": ()}
    for name in methods:
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(quick(), name)(*arguments.get(name, (IRIS,)))


# Selection of the number of components


@pytest.mark.parametrize("n_components", ["auto", 0.5, 0.9])
def test_the_selected_number_is_on_the_path_and_no_more_than_pca_needs(n_components):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 10)) + 0.01 * rng.normal(size=(300, 10))
    fitted = quick(n_components=n_components, steps=200).fit(X)
    ranks = [point.rank for point in fitted.path_]
    assert ranks == sorted(set(ranks))
    assert fitted.n_components_ in ranks
    if n_components == "auto":
        assert fitted.n_components_ == 3
    else:
        spectrum = PCA().fit(X).explained_variance_ratio_.cumsum()
        assert fitted.n_components_ <= (spectrum < n_components).sum() + 1
    low, high = fitted.n_components_interval_
    assert low <= fitted.n_components_ <= high


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_auto_counts_factors_and_not_noise(noise):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(600, 4)) @ rng.normal(size=(4, 16))
    X = X / X.std(0) + noise * rng.normal(size=X.shape)
    assert quick(n_components="auto", steps=200).fit(X).n_components_ == 4


def test_noise_is_called_noise():
    X = np.random.default_rng(0).normal(size=(400, 12))
    with pytest.warns(ConvergenceWarning, match="looks like noise"):
        assert quick(n_components="auto", steps=100).fit(X).n_components_ == 1


def test_progress_is_printed_on_request(capsys):
    quick(verbose=1).fit(IRIS)
    assert "training: step 30 of at most 30, loss" in capsys.readouterr().out


def test_n_components_may_be_given_by_position():
    assert LowRankAutoencoder(5).n_components == 5
