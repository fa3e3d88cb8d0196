"""Times that are taken beside each other."""

import time

import pytest

from lorae.export.timing import LEAST_ROUNDS, interleaved, ratio


def test_each_is_called_once_a_round_and_no_place_is_favoured():
    order = []
    names = ("a", "b", "c")
    times = interleaved({name: lambda name=name: order.append(name) for name in names}, seconds=0)
    assert {name: len(found) for name, found in times.items()} == dict.fromkeys(names, LEAST_ROUNDS)
    assert order[:3] == list(names)  # before the clock starts
    rounds = ["".join(order[k : k + 3]) for k in range(3, len(order), 3)]
    assert rounds[:4] == ["abc", "bca", "cab", "abc"]


def test_times_are_those_of_the_calls():
    times = interleaved({"long": lambda: time.sleep(0.02), "short": lambda: None}, seconds=0.2)
    assert len(times["long"]) >= LEAST_ROUNDS
    assert min(times["long"]) >= 0.02
    assert ratio(times["long"], times["short"]) > 10


def test_the_ratio_is_taken_round_by_round():
    assert ratio([1.0, 20.0, 3.0], [2.0, 10.0, 6.0]) == pytest.approx(0.5)
