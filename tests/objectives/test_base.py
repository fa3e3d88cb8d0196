"""Penalties check their weight, and weight decay is that of its formula."""

import pytest
import torch
from models import make_objective, train_on
from torch import nn

from lorae.errors import InputError
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.bridges.low_rank import LowRank
from lorae.objectives.base import DecayedAE
from lorae.objectives.lorae import FactoredLoRAE, LoRAE, ProximalLoRAE


@pytest.mark.parametrize("weight", [-1e-9, -1.0, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("objective", [LoRAE, ProximalLoRAE, DecayedAE, FactoredLoRAE])
def test_a_weight_out_of_range_is_refused(objective, weight):
    model = Autoencoder(nn.Linear(5, 3), LowRank(3), nn.Linear(3, 5))
    with pytest.raises(InputError, match="weight must be finite, at least 0, got"):
        objective(model, weight)


@pytest.mark.parametrize("weight", [0, 0.5])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_weight_decay_is_half_the_squared_norm_of_all_parameters(weight, strength):
    objective, x = make_objective("irmae-wd", weight=weight)
    objective.strength = strength
    flat = torch.cat([p.detach().double().flatten() for p in objective.model.parameters()])
    terms = objective(x)
    expected = strength * weight / 2 * float(flat.square().sum())
    assert terms["decay"].item() == pytest.approx(expected, rel=1e-5)


def test_weight_decay_shrinks_what_does_not_affect_the_error():
    objective, x = make_objective("irmae-wd", weight=1e-3)
    before = torch.linalg.svdvals(objective.model.bridge.matrix().detach())
    train_on(objective, x, steps=400)
    after = torch.linalg.svdvals(objective.model.bridge.matrix().detach())
    plain, _ = make_objective("irmae-wd", weight=0.0)
    train_on(plain, x, steps=400)
    without = torch.linalg.svdvals(plain.model.bridge.matrix().detach())
    assert after[-1] / after[0] < 0.1 * before[-1] / before[0]
    assert after[-1] / after[0] < 0.5 * without[-1] / without[0]
