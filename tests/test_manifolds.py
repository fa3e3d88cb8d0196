"""The manifolds of the benchmarks have the dimension that they claim."""

import numpy as np
import pytest
import torch
from _manifolds import MANIFOLDS, embed, rotating_object, sphere

from lorae.errors import InputError
from lorae.metrics.intrinsic_dimension import two_nn

NAMES = pytest.mark.parametrize("name", MANIFOLDS)


def draw(name, n=1500, seed=0):
    return MANIFOLDS[name].draw(n, np.random.default_rng(seed))


@NAMES
def test_two_nearest_neighbours_find_the_dimension(name):
    """Within a quarter, which 1,500 samples allow up to dimension 7."""
    found = two_nn(draw(name).flatten(1))
    assert found == pytest.approx(MANIFOLDS[name].dimension, rel=0.25)


@NAMES
def test_samples_depend_on_the_seed(name):
    assert torch.equal(draw(name, 50), draw(name, 50))
    assert not torch.equal(draw(name, 50), draw(name, 50, seed=1))


@NAMES
def test_the_number_of_codes_is_the_dimension_or_one_more(name):
    assert MANIFOLDS[name].dimension <= MANIFOLDS[name].needs <= MANIFOLDS[name].dimension + 1


def test_an_embedding_keeps_points_distinct():
    generator = np.random.default_rng(0)
    x = embed(sphere(300, 2, generator), generator)
    assert x.shape == (300, 20)
    assert torch.linalg.matrix_rank(x) > 3
    assert torch.pdist(x).min() > 0


def test_a_rotation_is_a_closed_loop():
    """Each of many images at random angles has a close neighbour."""
    images = rotating_object(400, np.random.default_rng(0)).flatten(1)
    assert (torch.cdist(images, images) + 9 * torch.eye(400)).min(1).values.max() < 0.5


def test_too_many_coordinates_are_refused():
    with pytest.raises(InputError, match="at most 10 coordinates, got 11"):
        embed(torch.zeros(3, 11), np.random.default_rng(0))
