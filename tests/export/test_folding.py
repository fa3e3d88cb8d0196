"""What a cut keeps, and times taken side by side."""

import time

import pytest
import torch

from lorae.export.folding import ROUNDS, Cut, median_ratio, time_interleaved
from lorae.linalg import spectral
from lorae.nn.autoencoder import Architecture, build


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_a_cut_is_exact_where_what_it_cuts_is_rounding(rank):
    model = build(Architecture("mlp", (8,), 6, "low-rank"))
    with torch.no_grad():
        model.bridge.weight.copy_(spectral.truncate(model.bridge.weight, rank))
    sigma = torch.linalg.svdvals(model.bridge.weight.detach().double())
    assert Cut.of(model, 1e-3, rank).exact
    if rank > 1:
        cut = Cut.of(model, 0.5, rank - 1)
        assert not cut.exact
        assert cut.largest == pytest.approx(float(sigma[rank - 1] / sigma[0]))


def test_each_call_is_made_once_a_round_in_rotating_order():
    order = []
    names = ("a", "b", "c")
    times = time_interleaved(
        {name: lambda name=name: order.append(name) for name in names}, seconds=0
    )
    assert {name: len(found) for name, found in times.items()} == dict.fromkeys(names, ROUNDS)
    assert order[:3] == list(names)  # before the clock starts
    rounds = ["".join(order[k : k + 3]) for k in range(3, len(order), 3)]
    assert rounds[:4] == ["abc", "bca", "cab", "abc"]


def test_times_are_those_of_the_calls():
    times = time_interleaved({"long": lambda: time.sleep(0.02), "short": lambda: None}, seconds=0.2)
    assert len(times["long"]) >= ROUNDS
    assert min(times["long"]) >= 0.02
    assert median_ratio(times["long"], times["short"]) > 10


def test_the_ratio_is_taken_round_by_round():
    assert median_ratio([1.0, 20.0, 3.0], [2.0, 10.0, 6.0]) == pytest.approx(0.5)
