"""Held-out rows are a uniform random part of the samples."""

import numpy as np
import pytest

from lorae.data.splits import split_rows


@pytest.mark.parametrize(("n", "fraction", "count"), [(2, 0.01, 1), (2, 0.99, 1), (100, 0.1, 10)])
def test_held_out_rows_are_a_partition(n, fraction, count):
    train, test = split_rows(n, fraction, seed=0)
    assert sorted([*train, *test]) == list(range(n))
    assert len(test) == count


def test_held_out_rows_are_uniform():
    hits = np.zeros(20)
    for seed in range(2000):
        hits[split_rows(20, 0.25, seed)[1]] += 1
    deviation = np.sqrt(2000 * 0.25 * 0.75)
    assert np.abs(hits - 500).max() < 4.5 * deviation
