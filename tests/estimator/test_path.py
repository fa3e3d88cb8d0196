"""Paths over ranks: exact ranks, errors of their models, several seeds."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

import lorae
from lorae.estimator.path import RankPath, lorae_path, lorae_paths
from lorae.linalg.moments import Moments
from lorae.linalg.spectral import rank_profile
from lorae.nn.inference import squared_errors


def curved(n=400, seed=0):
    """Three dimensions in eight, a flat and a bent part of them."""
    generator = np.random.default_rng(seed)
    t = generator.normal(size=(n, 3))
    lift = generator.normal(size=(3, 8))
    return t @ lift + 0.01 * np.tanh(t @ lift)


@pytest.fixture(scope="module")
def path() -> RankPath:
    return lorae_path(curved(), ranks=[5, 3, 2, 1], steps=300)


def test_ranks_are_those_requested_and_exact(path):
    assert [point.rank for point in path.points] == [8, 5, 3, 2, 1]
    x = torch.from_numpy(curved()).float()
    for point in path.points[1:]:
        codes = point.model.encode(x).detach()
        assert codes.shape == (len(x), point.rank)
        spectrum = Moments(point.rank).update(codes).spectrum()
        if point.rank <= 3:  # beyond that there is next to nothing in the data
            assert set(rank_profile(spectrum).values()) == {point.rank}


def test_errors_rise_below_the_dimension_of_the_data(path):
    errors = {point.rank: point.error for point in path.points}
    assert errors[2] > 10 * errors[3]
    assert errors[3] < errors[2] < errors[1] < path.mean_error
    assert path.knee.rank == 3


def test_errors_are_those_of_the_models(path):
    """The error on all samples, most of them trained on, is close to the held-out error."""
    x = torch.from_numpy(curved()).float()
    for point in path.points:
        found = float(squared_errors(point.model, x, x.mean(0))[0].mean())
        assert found == pytest.approx(point.error, rel=0.6, abs=2e-3)


def test_larger_weights_reach_lower_ranks():
    path = lorae_path(curved(), weights=[1.0, 30.0, 1000.0], steps=240)
    ranks = [point.rank for point in path.points]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[-1] < ranks[0]
    assert [point.weight for point in path.points][1:] == [1.0, 30.0, 1000.0][: len(ranks) - 1]


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
        ({"ranks": [3], "weights": [1.0]}, "give ranks or weights, not both"),
        ({"ranks": [2, 3]}, "ranks must fall from below the latent size, 8, to 1 at least"),
        ({"ranks": [8]}, "ranks must fall"),
        ({"ranks": [2, 0]}, "ranks must fall"),
        ({"weights": [-1.0]}, "weights must be positive numbers"),
        ({"latent": 0}, "latent must be finite, at least 1"),
        ({"validation_fraction": 0.9}, "validation_fraction must be"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(lorae.InputError, match=message):
        lorae_path(curved(), steps=10, **arguments)


def test_paths_of_seeds_are_the_same_in_this_process_and_in_others():
    options = {"seeds": (0, 3), "ranks": [2, 1], "steps": 40}
    one, two = lorae_paths(curved(), **options), lorae_paths(curved(), n_jobs=2, **options)
    assert one.ranks == two.ranks == (8, 2, 1)
    for path, other, seed in zip(one.paths, two.paths, one.seeds, strict=True):
        alone = lorae_path(curved(), ranks=[2, 1], steps=40, random_state=seed)
        errors = [point.error for point in path.points]
        assert errors == [point.error for point in other.points]
        assert errors == [point.error for point in alone.points]
    assert [error.mean for error in one.errors] == [error.mean for error in two.errors]
    x = torch.from_numpy(curved()).float()
    for a, b in zip(one.paths[1].points, two.paths[1].points, strict=True):
        assert torch.equal(a.model.encode(x), b.model.encode(x))


def test_warnings_of_other_processes_are_shown():
    options = {"ranks": [4], "steps": 4, "width": 0.1, "learning_rate": 1e-9}
    with pytest.warns(ConvergenceWarning, match="explains"):
        lorae_paths(load_digits().images[:100], seeds=(0,), n_jobs=1, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": ()}, "seeds must be at least one and all distinct"),
        ({"seeds": (1, 1)}, "seeds must be at least one and all distinct"),
        ({"seeds": (-1,)}, "seed must be"),
        ({"weights": [1.0]}, "weights must not be given to lorae_paths"),
        ({"random_state": 1}, "random_state must not be given to lorae_paths"),
    ],
)
def test_bad_input_of_several_seeds(arguments, message):
    with pytest.raises(lorae.InputError, match=message):
        lorae_paths(curved(), steps=10, **arguments)
