"""The adaptive RRAE lowers its rank while the error holds, raises it once, and then stays."""

from itertools import pairwise

import pytest
import torch
from models import make_objective, train_on
from torch import nn

from lorae.nn.autoencoder import Autoencoder
from lorae.nn.bridges.truncated_svd import TruncatedSVD
from lorae.objectives.rrae import AdaptiveRRAE


def scripted(error_at, rank: int = 6, patience: int = 30, tolerance: float = 0.1, steps: int = 900):
    """Return the ranks of a run whose error is a given function of rank and step."""
    bridge = TruncatedSVD(6, rank)
    model = Autoencoder(nn.Identity(), bridge, nn.Identity())
    objective = AdaptiveRRAE(model, patience, tolerance)
    ranks = []
    for step in range(steps):
        objective._update_running(torch.tensor(float(error_at(bridge.rank, step))))
        objective.after_step(1e-3)
        ranks.append(bridge.rank)
    return ranks, objective


@pytest.mark.parametrize("true", [1, 2, 4, 6])
def test_it_finds_the_least_rank_that_holds_the_error(true):
    ranks, objective = scripted(lambda rank, step: 1.0 if rank >= true else 2.0)
    assert ranks[-1] == true
    assert ranks[0] == 6
    assert min(ranks) >= max(1, true - 1)
    assert all(abs(a - b) <= 1 for a, b in pairwise(ranks))
    if true > 1:
        assert objective.settled


def test_it_waits_until_the_error_has_settled():
    ranks, _ = scripted(lambda rank, step: 0.9 ** (step / 2) if step < 300 else 1e-7, steps=320)
    assert set(ranks) == {6}


def test_it_waits_to_see_what_a_change_has_done():
    ranks, _ = scripted(lambda rank, step: 1.0)
    changes = [k for k in range(1, len(ranks)) if ranks[k] != ranks[k - 1]]
    assert len(changes) == 5
    assert min(b - a for a, b in pairwise(changes)) >= 20


def test_it_never_has_more_than_it_started_with():
    ranks, _ = scripted(lambda rank, step: 1.0 + step, rank=3)
    assert max(ranks) == 3


def test_it_finds_two_directions_in_data_of_two():
    plane = torch.randn(64, 2) @ torch.randn(2, 13)
    objective, _ = make_objective(
        "rrae-adaptive", patience=60, tolerance=0.5
    )  # a goal with room below it
    train_on(objective, plane / plane.std(), steps=600)
    assert objective.settled
    assert objective.model.bridge.rank in (2, 3)
