"""The generated sets of the benchmarks have the dimension that they claim."""

import numpy as np
import pytest
from _manifolds import embed, factors, rotating_object, sphere
from _sets import SETS, TRUTHS
from scipy.spatial.distance import cdist, pdist

from lorae.errors import InputError
from lorae.metrics.intrinsic_dimension import two_nn

CURVED = ("circle", "sphere", "sphere of dimension 4", "sphere of dimension 7", "swiss roll",
          "s-curve", "torus", "rotating object", "moving spot")  # fmt: skip
NAMES = pytest.mark.parametrize("name", CURVED)


def draw(name, n=1500, seed=0):
    return TRUTHS[name].draw(n, np.random.default_rng(seed))


@NAMES
def test_two_nearest_neighbours_find_the_dimension(name):
    """Within a quarter, which 1,500 samples allow up to dimension 7."""
    import torch

    found = two_nn(torch.from_numpy(draw(name).reshape(1500, -1)))
    assert found == pytest.approx(TRUTHS[name].dimension, rel=0.25)


@NAMES
def test_samples_depend_on_the_seed(name):
    assert np.array_equal(draw(name, 50), draw(name, 50))
    assert not np.array_equal(draw(name, 50), draw(name, 50, seed=1))


def test_an_embedding_keeps_points_distinct():
    generator = np.random.default_rng(0)
    x = embed(sphere(300, 2, generator), generator)
    assert x.shape == (300, 20)
    assert np.linalg.matrix_rank(x) > 3
    assert pdist(x).min() > 0


def test_a_rotation_is_a_closed_loop():
    """Each of many images at random angles has a close neighbour."""
    images = rotating_object(400, np.random.default_rng(0)).reshape(400, -1)
    assert (cdist(images, images) + 9 * np.eye(400)).min(1).max() < 0.5


def test_too_many_coordinates_are_refused():
    with pytest.raises(InputError, match="at most 10 coordinates, got 11"):
        embed(np.zeros((3, 11)), np.random.default_rng(0))


def test_factors_have_their_rank_and_their_noise():
    clean = factors(2000, np.random.default_rng(0), noise=0)
    noisy = factors(2000, np.random.default_rng(0), noise=0.3)
    assert np.linalg.matrix_rank(clean) == 5
    assert (noisy - clean).std(0) / clean.std(0) == pytest.approx(np.full(20, 0.3), rel=0.1)


def test_halves_share_every_kind():
    kinds = {half: {row.kind for row in SETS.values() if row.half == half} for half in
             ("tuning", "held")}  # fmt: skip
    assert kinds["tuning"] == kinds["held"]
    assert len(SETS) >= 20
