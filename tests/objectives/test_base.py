"""Penalties check their weight, and both forms of weight decay follow their formulas."""

import copy
import math

import pytest
import torch
from models import loss, make_objective
from torch import nn

from lorae.errors import InputError
from lorae.nn.autoencoder import Architecture, Autoencoder, build
from lorae.nn.bridges.base import NoBridge
from lorae.nn.bridges.low_rank import LowRank
from lorae.objectives.base import AE, DecayedAE, SquaredNormAE
from lorae.objectives.lorae import FactoredLoRAE, LoRAE, ProximalLoRAE
from lorae.objectives.registry import METHODS

PENALISED = [LoRAE, ProximalLoRAE, DecayedAE, SquaredNormAE, FactoredLoRAE]


@pytest.mark.parametrize("weight", [-1e-9, -1.0, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("objective", PENALISED)
def test_a_weight_out_of_range_is_refused(objective, weight):
    model = Autoencoder(nn.Linear(5, 3), LowRank(3), nn.Linear(3, 5))
    with pytest.raises(InputError, match=r"weight must be (finite, )?at least 0, got"):
        objective(model, weight)


@pytest.mark.parametrize("weight", [0, 0.5])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_an_l2_penalty_is_half_the_squared_norm_of_all_parameters(weight, strength):
    objective, x = make_objective("irmae-l2", weight=weight)
    objective.strength = strength
    flat = torch.cat([p.detach().double().flatten() for p in objective.model.parameters()])
    terms = objective(x)
    expected = strength * weight / 2 * float(flat.square().sum())
    assert terms["decay"].item() == pytest.approx(expected, rel=1e-5)


def test_decoupled_decay_is_that_of_adamw():
    ours, x = make_objective("irmae-wd", weight=0.3)
    theirs, _ = make_objective("ae")
    theirs.model = copy.deepcopy(ours.double().model)
    rate, x = 1e-3, x.double()
    adam = torch.optim.Adam(ours.parameter_groups(rate))
    adamw = torch.optim.AdamW(theirs.model.parameters(), rate, weight_decay=0.3)
    for _ in range(5):
        for objective, optimizer in ((ours, adam), (theirs, adamw)):
            optimizer.zero_grad()
            loss(objective, x).backward()
            optimizer.step()
            objective.after_step(rate)
    for p, q in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=2e-5)  # the order of decay and step


@pytest.mark.parametrize(
    ("name", "dtype", "least", "most"),
    [
        ("irmae-wd", torch.float64, 0.0999998, 0.09999995),
        ("irmae-wd", torch.float32, 0.1, 0.1),  # 1 - 1e-9 is 1
        ("irmae-l2", torch.float64, -1e-9, 1e-9),  # Adam makes full steps down to 0
    ],
)
def test_the_two_decays_treat_a_parameter_without_an_error_gradient(name, dtype, least, most):
    model = Autoencoder(nn.Linear(3, 2), NoBridge(2), nn.Linear(2, 3))
    model.register_parameter("idle", nn.Parameter(torch.tensor(0.1)))
    objective = METHODS[name].build_objective(model).to(dtype)
    x, idle = torch.rand(8, 3, dtype=dtype), model.get_parameter("idle")
    optimizer = torch.optim.Adam(objective.parameter_groups(1e-3))
    for _ in range(1000):
        optimizer.zero_grad()
        loss(objective, x).backward()
        optimizer.step()
        objective.after_step(1e-3)
    assert torch.tensor(least).to(idle) <= idle <= torch.tensor(most).to(idle)


def test_masked_error_is_that_of_an_explicit_loop_without_gradient_at_gaps():
    torch.manual_seed(0)
    objective = AE(build(Architecture("mlp", (4,), 2, factors=1)))
    decoded, target = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4)
    target[0, 1] = target[3, 2] = target[5, 0] = torch.nan
    error = objective.mean_error(decoded, target)
    total, count = 0.0, 0
    for row, wanted in zip(decoded.tolist(), target.tolist(), strict=True):
        for value, right in zip(row, wanted, strict=True):
            if not math.isnan(right):
                total, count = total + (value - right) ** 2, count + 1
    assert error.item() == pytest.approx(total / count, rel=1e-6)
    (gradient,) = torch.autograd.grad(error, decoded)
    assert torch.equal(gradient == 0, target.isnan())


def test_complete_samples_have_the_plain_mean_squared_error():
    objective = AE(build(Architecture("mlp", (4,), 2)))
    a, b = torch.randn(6, 4), torch.randn(6, 4)
    assert torch.equal(objective.mean_error(a, b), torch.nn.functional.mse_loss(a, b))
    assert objective.hide(b) is b
