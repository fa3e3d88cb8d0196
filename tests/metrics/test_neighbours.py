"""Distances to nearest neighbours against all distances."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from lorae.errors import InputError
from lorae.metrics.neighbours import neighbour_distances, pairwise_distances


@pytest.mark.parametrize(("n", "d", "k"), [(5, 3, 4), (60, 40, 7), (60, 1, 1)])
def test_distances_are_the_smallest_ones(n, d, k):
    x = torch.randn(n, d)
    expected = np.sort(cdist(x.double().numpy(), x.double().numpy()), 1)[:, 1 : k + 1]
    found = neighbour_distances(x, k)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def with_copies(offset: float) -> np.ndarray:
    """Return samples, two copies of each of some, and near copies at distances 1e-9 to 1e-3."""
    x = np.random.default_rng(0).normal(size=(40, 5)) + offset
    near = [x[k] + np.array([10.0**-k, 0, 0, 0, 0]) for k in range(3, 10)]
    return np.concatenate([x, x[:10], x[:10], near])


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_all_distances_are_those_of_differences(offset):
    x = with_copies(offset)
    wide = x.astype(np.longdouble)
    expected = np.sqrt(((wide[:, None] - wide) ** 2).sum(2))
    found = pairwise_distances(torch.from_numpy(x), torch.from_numpy(x)).numpy()
    assert (found[expected == 0] == 0).all()
    np.testing.assert_allclose(found, expected.astype(float), rtol=1e-10)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_neighbours_among_copies_are_the_nearest_ones(offset):
    x = with_copies(offset)
    expected = np.sort(cdist(x, x), 1)[:, 1:5]
    np.testing.assert_allclose(neighbour_distances(torch.from_numpy(x), 4), expected, rtol=1e-10)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(bad):
    x = torch.eye(4)
    x[0, 0] = bad
    for arguments in ((x, torch.eye(4)), (torch.eye(4), x)):
        with pytest.raises(InputError, match="samples must be finite, got NaN or infinite"):
            pairwise_distances(*arguments)
