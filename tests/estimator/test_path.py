"""Paths over ranks: exact ranks, errors of their models, several seeds."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

import lorae
from lorae.estimator.path import RankPath, lorae_path, lorae_paths


def curved(n=400, seed=0):
    """Three dimensions in eight, a flat and a bent part of them."""
    generator = np.random.default_rng(seed)
    t = generator.normal(size=(n, 3))
    lift = generator.normal(size=(3, 8))
    return t @ lift + 0.01 * np.tanh(t @ lift)


@pytest.fixture(scope="module")
def path() -> RankPath:
    return lorae_path(curved(), ranks=[5, 3, 2, 1], steps=100)


def test_ranks_are_those_requested_and_exact(path):
    assert [point.rank for point in path.points] == [5, 3, 2, 1]
    x = torch.from_numpy(curved()).float()
    for point in path.points:
        assert point.model.encode(x).shape == (len(x), point.rank)


def test_errors_rise_below_the_dimension_of_the_data_and_stay_below_those_of_pca(path):
    errors = {point.rank: point.error for point in path.points}
    assert errors[2] > 10 * errors[3]
    assert errors[3] < errors[2] < errors[1] < 1
    assert path.knee.rank == 3
    assert all(p.error <= p.pca_error + 2 * p.standard_error for p in path.points)


def test_errors_of_pca_are_those_of_pca(path):
    kept, test = train_test_split(curved(), test_size=40, random_state=0)
    pca = PCA(2).fit(kept)
    lost = ((pca.inverse_transform(pca.transform(test)) - test) ** 2).sum()
    expected = lost / ((test - kept.mean(0)) ** 2).sum()
    assert path.points[2].pca_error == pytest.approx(expected, rel=1e-3)


def test_the_same_seed_gives_the_same_path():
    first, second = (lorae_path(curved(), ranks=[2], steps=60, random_state=3) for _ in range(2))
    assert [p.error for p in first.points] == [p.error for p in second.points]


def test_images_and_a_distance():
    path = lorae_path(
        load_digits().images[:300], ranks=[4], steps=20, width=0.2, distance=lambda _: 7.0
    )
    assert path.points[-1].distance == 7.0
    assert "7" in path.table()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ranks": [2, 3]}, "ranks must fall from at most 8 to at least 1"),
        ({"ranks": [9]}, "ranks must fall"),
        ({"ranks": [2, 0]}, "ranks must fall"),
        ({"ranks": [2], "steps": 0}, "steps must be"),
        ({"validation_fraction": 0.9}, "validation_fraction must be"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(lorae.InputError, match=message):
        lorae_path(curved(), **{"steps": 10} | arguments)


def test_paths_of_seeds_are_the_same_in_this_process_and_in_others():
    options = {"seeds": (0, 3), "ranks": [2, 1], "steps": 40}
    one, two = lorae_paths(curved(), **options), lorae_paths(curved(), n_jobs=2, **options)
    assert one.ranks == two.ranks == (2, 1)
    for path, other, seed in zip(one.paths, two.paths, one.seeds, strict=True):
        alone = lorae_path(curved(), ranks=[2, 1], steps=40, random_state=seed)
        errors = [point.error for point in path.points]
        assert errors == [point.error for point in other.points]
        assert errors == [point.error for point in alone.points]
    assert [error.mean for error in one.errors] == [error.mean for error in two.errors]
    x = torch.from_numpy(curved()).float()
    for a, b in zip(one.paths[1].points, two.paths[1].points, strict=True):
        assert torch.equal(a.model.encode(x), b.model.encode(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": ()}, "seeds must be at least one and all distinct"),
        ({"seeds": (1, 1)}, "seeds must be at least one and all distinct"),
        ({"seeds": (-1,)}, "seed must be"),
        ({"random_state": 1}, "random_state must not be given to lorae_paths"),
    ],
)
def test_bad_input_of_several_seeds(arguments, message):
    with pytest.raises(lorae.InputError, match=message):
        lorae_paths(curved(), steps=10, **arguments)


def test_a_path_of_samples_with_gaps():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 2)) @ rng.normal(size=(2, 8)) + 0.05 * rng.normal(size=(120, 8))
    gaps = np.where(rng.random(X.shape) < 0.15, np.nan, X)
    two, one = lorae_path(gaps, ranks=[2, 1], steps=50, validation_fraction=0.3).points
    assert two.error < 0.05 < one.error
    assert two.pca_error < 0.05 < one.pca_error
