"""Bounds of numbers: inside they pass, outside the message states them."""

import math

import pytest

from lorae.errors import InputError
from lorae.utils.validation import check_range


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        *((value, {"high": 1}, None) for value in (None, 0, 0.5, 1)),
        (1e300, {}, None),
        *((x, {"high": 1}, "at least 0 and at most 1, got") for x in (-0.1, 1.1)),
        (math.nan, {"high": 1}, "finite, at least 0 and at most 1, got nan"),
        (0, {"open_low": True}, "greater than 0, got 0"),
        (1, {"high": 1, "open_high": True}, "at least 0 and below 1, got 1"),
        (math.inf, {}, "finite, at least 0, got inf"),
    ],
)
def test_values_beyond_the_bounds_are_refused(value, bounds, message):
    if message is None:
        check_range("ema", value, 0, **bounds)
        return
    with pytest.raises(InputError, match=f"ema must be {message}"):
        check_range("ema", value, 0, **bounds)
