"""The way down to a rank: a schedule that is kept, a target that is met and never passed."""

import pytest
import torch

from lorae.autoencoder import Architecture, build
from lorae.descent import EVERY, RankDescent
from lorae.errors import InputError

LATENT = 12


def descent(rank=3, steps=100, weight=None):
    model = build(Architecture("mlp", (LATENT,), LATENT, "low-rank", width=0.1, value_range=None))
    with torch.no_grad():
        model.bridge.weight.copy_(torch.linspace(2, 0.1, LATENT).diag())
    return RankDescent(model, rank, steps, weight)


def walked(objective, steps, rate=1e-2, noise=1e-4):
    """Return the rank of M after each use of the threshold, the optimizer's part being noise."""
    generator = torch.Generator().manual_seed(0)
    ranks = []
    for _ in range(steps):
        M = objective.model.bridge.weight
        with torch.no_grad():
            M += noise * torch.randn(M.shape, generator=generator)
        objective.after_step(rate)
        if objective.step % EVERY == 0:
            ranks.append(objective.rank)
    return ranks


@pytest.mark.parametrize("rank", [1, 3, 7, 11])
@pytest.mark.parametrize("steps", [20, 100, 400])
def test_the_target_is_met_and_never_passed(rank, steps):
    objective = descent(rank, steps)
    ranks = walked(objective, steps)
    assert ranks[-1] == rank
    assert min(ranks) == rank
    assert ranks == sorted(ranks, reverse=True)
    sigma = torch.linalg.svdvals(objective.model.bridge.weight.detach())
    assert int((sigma > 1e-6 * sigma[0]).sum()) == rank


def test_the_rank_never_falls_below_the_schedule():
    objective = descent(2, 200)
    for _ in range(200):
        walked(objective, 1)
        if objective.step % EVERY == 0 and objective.step < 200:
            assert objective.rank >= objective.scheduled()


def test_nothing_is_shrunk_at_the_target():
    objective = descent(LATENT, 50)
    before = torch.linalg.svdvals(objective.model.bridge.weight.detach())
    walked(objective, 50, noise=0.0)
    after = torch.linalg.svdvals(objective.model.bridge.weight.detach())
    assert torch.allclose(before, after, atol=1e-6)
    assert objective.arrived == 0


def test_a_given_weight_stays_and_decides_the_rank():
    """Thresholds add up: what is above lambda * rate * steps stays."""
    objective = descent(1, 50, weight=1.0)
    walked(objective, 50, noise=0.0)
    expected = int((torch.linspace(2, 0.1, LATENT) > 1.0 * 1e-2 * 50).sum())
    assert objective.weight == 1.0
    assert objective.rank == expected


def test_weights_that_are_not_finite_are_left_to_the_loop():
    objective = descent()
    with torch.no_grad():
        objective.model.bridge.weight[0, 0] = float("nan")
    for _ in range(EVERY):
        objective.after_step(1e-3)
    assert not torch.isfinite(objective.model.bridge.weight).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"rank": 0}, "rank must be a finite number of at least 1, got 0"),
        ({"steps": 0}, "steps must be a finite number of at least 1, got 0"),
        ({"weight": -1.0}, "weight must be a finite number of at least 0, got -1"),
    ],
)
def test_bad_input(arguments, said):
    with pytest.raises(InputError, match=said):
        descent(**arguments)


def test_it_needs_a_matrix():
    model = build(Architecture("mlp", (LATENT,), LATENT, "none", width=0.1, value_range=None))
    with pytest.raises(InputError, match="a descent needs a low-rank bridge, got NoBridge"):
        RankDescent(model, 2, 10)
