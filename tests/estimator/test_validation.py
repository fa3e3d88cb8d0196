"""Checks of arguments that the estimator and the path share."""

import warnings

import numpy as np
import pandas as pd
import pytest
from torch import nn

from lorae import LowRankAutoencoder
from lorae.errors import DataWarning, InputError
from lorae.estimator.validation import check_n_components, check_rule, check_training

OPTIONS = {
    "max_components": None,
    "steps": None,
    "batch_size": 100,
    "width": 1.0,
    "learning_rate": 1e-3,
    "validation_fraction": 0.1,
}


def test_valid_options_pass():
    numpy = {"max_components": np.int64(3), "steps": np.int32(1), "width": np.float32(0.5)}
    check_training(OPTIONS, 2)
    check_training(OPTIONS | numpy | {"encoder": None, "decoder": None, "whiten": "ignored"}, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 2.0}, "steps must be an integer, got 2.0"),
        ({"batch_size": None}, "batch_size must be an integer, got None"),
        ({"max_components": True}, "max_components must be an integer, got True"),
        ({"width": "wide"}, "width must be a number, got 'wide'"),
        ({"width": True}, "width must be a number, got True"),
        ({"validation_fraction": 0.6}, "validation_fraction must be greater than 0"),
        ({"encoder": nn.Identity()}, "encoder and decoder must be given both or not at all"),
    ],
)
def test_invalid_options_are_refused_by_name(changes, message):
    with pytest.raises(InputError, match=message):
        check_training(OPTIONS | changes, 10)


@pytest.mark.parametrize(
    ("value", "n_samples", "message"),
    [
        (4, 9, "n_components must be 1 to 3"),
        (3, 2, "n_components must be 1 to 2"),
        (0.9, 9, "at least 10 samples"),
        (1.0, 10, "n_components must be an integer"),
    ],
)
def test_invalid_numbers_of_components_are_refused(value, n_samples, message):
    with pytest.raises(InputError, match=message):
        check_n_components(value, n_samples, 3)


def test_one_sample_is_too_few():
    with pytest.raises(InputError, match="at least 2 samples, got n_samples = 1"):
        check_training(OPTIONS, 1)


def fit(X, **arguments):
    asked = {"n_components": 1, "steps": 3, "random_state": 0} | arguments
    return LowRankAutoencoder(**asked).fit(X)


NORMAL = np.random.default_rng(0).normal(size=(60, 4))
FLAT = np.concatenate([NORMAL[:, :2], NORMAL[:, :2] @ [[1.0, 2.0], [3.0, 4.0]]], axis=1)


@pytest.mark.parametrize(
    ("X", "arguments", "message"),
    [
        (NORMAL[:9], {}, "X has 9 samples, fewer than 10"),
        (NORMAL, {"validation_fraction": 0.02}, "holds out 1, .*; give at least 0.033"),
        (np.ones((30, 4)), {}, "X has 30 identical samples"),
        (NORMAL[:10].repeat(6, 0), {}, "X has 10 distinct samples among 60"),
        (NORMAL * (1, 100, 1, 1), {}, r"X has 99.\d+ % of its variance in the column number 2"),
        (
            pd.DataFrame(NORMAL * (1, 1, 100, 1), columns=list("abcd")),
            {},
            "in the column c, .* give standardize=True",
        ),
        (FLAT, {"n_components": 4}, "X has variance for 2 coordinates, got n_components = 4"),
    ],
)
def test_samples_that_say_little_are_warned_about(X, arguments, message):
    with pytest.warns(DataWarning, match=message):
        fit(X, **arguments)


@pytest.mark.parametrize(
    ("X", "arguments"),
    [
        (NORMAL, {"n_components": 4}),
        (NORMAL, {"validation_fraction": 0.034}),
        (NORMAL[:31].repeat(2, 0)[:61], {}),
        (NORMAL * (1, 100, 1, 1), {"standardize": True}),
        (FLAT, {"n_components": 2}),
    ],
)
def test_other_samples_are_not(X, arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        fit(X, **arguments)


@pytest.mark.parametrize("bad", [0.0, 1.0, 1.5, -0.1, "most", None])
def test_bad_rules(bad):
    with pytest.raises(InputError, match="n_components must be"):
        check_rule(bad)
