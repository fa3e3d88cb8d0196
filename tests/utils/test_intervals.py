"""Intervals of the mean against scipy."""

import numpy as np
import pytest
from scipy import stats

from lorae.utils.intervals import Interval


@pytest.mark.parametrize("n", [2, 3, 10])
def test_interval_is_students_t(n):
    values = np.random.default_rng(n).normal(size=n)
    found = Interval(tuple(values))
    low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.half_width == pytest.approx((high - low) / 2)


def test_one_value_has_no_interval():
    assert Interval((0.5,)).half_width is None
    assert str(Interval((0.5,))) == "0.5"
    assert str(Interval((1.0, 2.0, 3.0))) == "2 ± 2.5"
