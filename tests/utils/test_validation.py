"""Bounds of numbers: inside they pass, outside the message states them."""

import math

import pytest

from lorae.errors import InputError
from lorae.utils.validation import check_range


@pytest.mark.parametrize("value", [None, 0, 0.5, 1])
def test_values_within_the_bounds_pass(value):
    check_range("ema", value, 0, 1)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.inf, -math.inf, math.nan])
def test_values_outside_the_bounds_are_refused(value):
    with pytest.raises(InputError, match="ema must be finite, at least 0 and at most 1, got"):
        check_range("ema", value, 0, 1)


@pytest.mark.parametrize(("value", "open_low", "open_high"), [(0, True, False), (1, False, True)])
def test_open_bounds_exclude_themselves(value, open_low, open_high):
    with pytest.raises(InputError, match="greater than 0" if open_low else "below 1"):
        check_range("ema", value, 0, 1, open_low=open_low, open_high=open_high)


def test_without_a_largest_value_only_infinity_is_too_large():
    check_range("steps", 1e300, 1)
    with pytest.raises(InputError, match="steps must be finite, at least 1, got inf"):
        check_range("steps", math.inf, 1)
