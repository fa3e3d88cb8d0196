"""Data of known dimension: they have it, by estimators that know nothing of us."""

import numpy as np
import pytest
import torch
from _manifolds import MANIFOLDS, embedded, rotating, sphere

from lorae.errors import InputError
from lorae.metrics.intrinsic_dimension import two_nn

NAMES = pytest.mark.parametrize("name", MANIFOLDS)


def drawn(name, n=1500, seed=0):
    return MANIFOLDS[name].draw(n, np.random.default_rng(seed))


@NAMES
def test_two_nearest_neighbours_find_the_dimension(name):
    """Within a quarter, which 1,500 samples allow up to dimension 7."""
    found = two_nn(drawn(name).flatten(1))
    assert found == pytest.approx(MANIFOLDS[name].dimension, rel=0.25)


@NAMES
def test_samples_follow_the_seed(name):
    assert torch.equal(drawn(name, 50), drawn(name, 50))
    assert not torch.equal(drawn(name, 50), drawn(name, 50, seed=1))


@NAMES
def test_a_manifold_needs_its_dimension_at_least(name):
    assert MANIFOLDS[name].dimension <= MANIFOLDS[name].needs <= MANIFOLDS[name].dimension + 1


def test_an_embedding_keeps_points_apart():
    generator = np.random.default_rng(0)
    x = embedded(sphere(300, 2, generator), generator)
    assert x.shape == (300, 20)
    assert torch.linalg.matrix_rank(x) > 3
    assert torch.pdist(x).min() > 0


def test_a_turn_is_closed():
    """Images at angles that fill the circle: each has a neighbour on both sides."""
    images = rotating(400, np.random.default_rng(0)).flatten(1)
    assert (torch.cdist(images, images) + 9 * torch.eye(400)).min(1).values.max() < 0.5


def test_too_many_coordinates_are_refused():
    with pytest.raises(InputError, match="at most 10 coordinates, got 11"):
        embedded(torch.zeros(3, 11), np.random.default_rng(0))
