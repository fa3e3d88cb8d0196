"""Distances to nearest neighbours against all distances."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from lorae.metrics.neighbours import neighbour_distances


@pytest.mark.parametrize(("n", "d", "k"), [(5, 3, 4), (60, 40, 7), (60, 1, 1)])
def test_distances_are_the_smallest_ones(n, d, k):
    x = torch.randn(n, d)
    expected = np.sort(cdist(x.double().numpy(), x.double().numpy()), 1)[:, 1 : k + 1]
    found = neighbour_distances(x, k)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_near_duplicates_are_resolved():
    x = 1e3 + torch.tensor([[0.0, 0.0], [1e-9, 0.0], [1.0, 1.0]], dtype=torch.float64)
    assert neighbour_distances(x, 1)[0].item() == pytest.approx(1e-9, rel=1e-3)
