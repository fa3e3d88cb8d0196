"""Protocols of an evaluation."""

import pytest

from lorae.errors import InputError
from lorae.metrics.protocol import Protocol


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 19}, "samples must be .*at least 20, got 19"),
        ({"repeats": 0}, "repeats must be .*at least 1, got 0"),
        ({"densities": ("gausian",)}, r"unknown density 'gausian' \(did you mean 'gaussian'\?\)"),
        ({"probes": ("heads",)}, r"unknown probe 'heads' \(did you mean 'head'\?\)"),
    ],
)
def test_invalid_protocols_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        Protocol(**change)
