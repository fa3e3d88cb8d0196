"""Rank descent: the rank falls smoothly to the target, and never rises."""

from itertools import pairwise

import pytest
import torch

from lorae.errors import InputError
from lorae.estimator.coordinates import insert_bridge, principal_coordinates
from lorae.linalg.spectral import rank, singular_values
from lorae.nn.autoencoder import Architecture, build
from lorae.objectives.rank_descent import EVERY, RankDescent

X = torch.randn(100, 12, generator=torch.Generator().manual_seed(1))


def descend(target: int, steps: int, weight: float | None = None):
    torch.manual_seed(0)
    model = build(Architecture("mlp", (12,), 12, width=0.3, value_range=None))
    objective = RankDescent(
        insert_bridge(model, principal_coordinates(model, X)), target, steps, weight
    )
    optimizer = torch.optim.Adam(objective.parameters(), 1e-3)
    ranks = []
    for _ in range(steps):
        loss = objective(X)["reconstruction"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step(1e-3)
        ranks.append(objective.rank)
    return objective, ranks


@pytest.mark.parametrize("target", [1, 3, 7, 11])
@pytest.mark.parametrize("steps", [1, 7, 100, 301])
def test_the_target_is_reached_exactly(target, steps):
    objective, ranks = descend(target, steps)
    assert ranks[-1] == objective.rank == target
    assert ranks == sorted(ranks, reverse=True)
    sigma = singular_values(objective.model.bridge.matrix().detach().double())
    assert {int(rank(sigma, t)) for t in (1e-4, 1e-5, 1e-6)} == {target}


def test_the_rank_falls_smoothly_and_arrives_before_the_end():
    """The hardest case: in an untrained model no direction matters less than another."""
    objective, ranks = descend(2, 400)
    assert objective.arrived is not None
    assert objective.arrived < 400
    assert max(a - b for a, b in pairwise(ranks)) <= 6
    assert len(set(ranks)) >= 5
    assert objective.applied > 0


def test_a_given_weight_is_constant_and_determines_the_rank():
    gentle, _ = descend(1, 100, weight=0.0)
    harsh, _ = descend(1, 100, weight=1e4)
    assert gentle.rank == 12
    assert harsh.rank == 1
    assert harsh.weight == 1e4


def test_nothing_happens_between_two_uses():
    objective, ranks = descend(1, EVERY * 4, weight=1e4)
    assert ranks[: EVERY - 1] == [12] * (EVERY - 1)
    assert ranks[EVERY - 1] == 1
    assert objective.arrived == EVERY


def test_nothing_shrinks_while_the_rank_is_on_its_schedule():
    torch.manual_seed(0)
    model = build(Architecture("mlp", (12,), 12, width=0.3, value_range=None))
    objective = RankDescent(insert_bridge(model, principal_coordinates(model, X)), 2, 400)
    shrunk = []
    for _ in range(400):
        before = singular_values(objective.model.bridge.matrix().detach())
        rank_ = objective.rank
        objective.after_step(1e-3)
        after = singular_values(objective.model.bridge.matrix().detach())
        if rank_ <= objective.scheduled():
            torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-6)
        elif objective.step % EVERY == 0:
            shrunk.append(float(before[0] - after[0]) > 0)
    assert any(shrunk)
    assert objective.rank == 2
    assert float(singular_values(objective.model.bridge.matrix().detach())[0]) > 0


def test_bad_input():
    model = build(Architecture("mlp", (12,), 4, value_range=None))
    with pytest.raises(InputError, match="bridge must be low-rank"):
        RankDescent(model, 2, 10)
    gauge = insert_bridge(model.eval(), principal_coordinates(model, X))
    for rank_, steps, weight in ((0, 10, None), (2, 0, None), (2, 10, -1.0)):
        with pytest.raises(InputError, match=r"rank|steps|weight"):
            RankDescent(gauge, rank_, steps, weight)
