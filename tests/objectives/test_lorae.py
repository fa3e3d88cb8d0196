"""LoRAE and its variants change the bridge as their formulas say."""

import numpy as np
import pytest
import torch
from models import LATENT, make_objective, train_on
from torch import nn

from lorae.errors import InputError
from lorae.linalg import spectral
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.bridges.base import NoBridge
from lorae.nn.bridges.low_rank import Factored, LowRank
from lorae.nn.bridges.scale_free import ScaleFree
from lorae.objectives.lorae import FactoredLoRAE, LoRAE, ProximalLoRAE


@pytest.mark.parametrize("name", ["lorae", "lorae-scale-free"])
@pytest.mark.parametrize("weight", [0, 1e-3, 2.5])
@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_the_penalty_is_the_weighted_sum_of_singular_values(name, weight, strength):
    objective, x = make_objective(name, weight=weight)
    objective.strength = strength
    matrix = objective.model.bridge.weight.detach().numpy()
    norm = np.linalg.svd(matrix, compute_uv=False).sum()
    if name == "lorae-scale-free":
        norm /= np.linalg.norm(matrix)
        assert 1 <= norm <= np.sqrt(LATENT)
    terms = objective(x)
    assert list(terms) == ["reconstruction", "nuclear_norm"]
    assert terms["nuclear_norm"].item() == pytest.approx(weight * strength * norm, rel=1e-5)


def test_the_subgradient_of_the_penalty_is_the_papers():
    objective, x = make_objective("lorae", weight=0.7)
    objective(x)["nuclear_norm"].backward()
    U, _, Vh = np.linalg.svd(objective.model.bridge.weight.detach().double().numpy())
    found = objective.model.bridge.weight.grad.numpy()
    np.testing.assert_allclose(found, 0.7 * U @ Vh, atol=1e-5)


@pytest.mark.parametrize("weight", [0, 0.5, 20])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_proximal_step_shrinks_each_singular_value_by_the_threshold(weight, strength):
    objective, x = make_objective("lorae-proximal", weight=weight)
    objective.strength = strength
    before = np.linalg.svd(objective.model.bridge.weight.detach().double().numpy())[1]
    assert list(objective(x)) == ["reconstruction"]
    objective.after_step(learning_rate=0.1)
    after = np.linalg.svd(objective.model.bridge.weight.detach().double().numpy())[1]
    expected = np.maximum(before - 0.1 * weight * strength, 0)
    np.testing.assert_allclose(after, expected, atol=1e-6)


def factor(objective):
    U, _, Vh = np.linalg.svd(objective.model.bridge.weight.detach().double().numpy())
    return U @ Vh


@pytest.mark.parametrize("name", ["lorae", "lorae-scale-free"])
def test_a_subgradient_may_be_used_for_several_steps(name):
    objective, x = make_objective(name, weight=0.7, every=3)
    bridge, exact = objective.model.bridge, make_objective(name, weight=0.7)[0]
    for step in range(7):
        if step % 3 == 0:
            served = factor(objective)
        np.testing.assert_allclose(objective.polar.numpy(), served, atol=1e-5)
        term, matrix = objective(x)["nuclear_norm"], bridge.matrix()
        assert term.item() == pytest.approx(0.7 * (objective.polar * matrix).sum().item())
        exact.model.load_state_dict(objective.model.state_dict())
        norm = exact(x)["nuclear_norm"].item()
        assert term.item() <= norm + 1e-6
        if step % 3 == 0:
            assert term.item() == pytest.approx(norm, rel=1e-5)
        with torch.no_grad():
            bridge.weight.add_(0.01 * torch.randn_like(bridge.weight))
        objective.after_step(0.1)


def test_proximal_steps_may_be_postponed():
    objective, _ = make_objective("lorae-proximal", weight=0.5, every=4)
    weight = objective.model.bridge.weight
    start = weight.detach().clone()
    for k, strength in enumerate((0.0, 0.5, 1.0)):
        objective.strength = strength
        objective.after_step(learning_rate=0.1 * k)
        assert torch.equal(weight, start)
    objective.after_step(learning_rate=0.1)
    due = 0.5 * (0.5 * 0.1 + 0.2 + 0.1)
    np.testing.assert_allclose(weight.detach(), spectral.soft_threshold(start, due), atol=1e-6)
    objective.after_step(learning_rate=0.1)
    objective.apply_pending()
    settled = weight.detach().clone()
    expected = spectral.soft_threshold(start, due + 0.05).detach()
    np.testing.assert_allclose(settled, expected, atol=1e-6)
    objective.apply_pending()
    assert torch.equal(weight, settled)


@pytest.mark.parametrize("objective", [LoRAE, ProximalLoRAE])
def test_an_interval_below_one_step_is_refused(objective):
    model = Autoencoder(nn.Linear(5, 3), LowRank(3), nn.Linear(3, 5))
    with pytest.raises(InputError, match="every must be finite, at least 1, got 0"):
        objective(model, every=0)


@pytest.mark.parametrize("weight", [0, 0.7])
@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_the_penalty_on_factors_starts_as_that_on_the_norm(weight, strength):
    objective, x = make_objective("lorae-factored", weight=weight)
    objective.strength = strength
    norm = np.linalg.svd(objective.model.bridge.matrix().detach().numpy(), compute_uv=False).sum()
    term = objective(x)["nuclear_norm"]
    assert term.item() == pytest.approx(weight * strength * norm, rel=1e-5)
    term.backward()
    for factor in objective.model.bridge.parameters():
        torch.testing.assert_close(factor.grad, weight * strength * factor.detach())


def test_the_penalty_on_factors_needs_a_factored_bridge():
    objective = FactoredLoRAE(Autoencoder(nn.Linear(5, 3), LowRank(3), nn.Linear(3, 5)))
    with pytest.raises(InputError, match=r"bridge must be factored .* got LowRank"):
        objective(torch.zeros(2, 5))


def test_the_proximal_step_works_on_factors_too():
    low, factored = LowRank(3), Factored(3)
    with torch.no_grad():
        low.weight.copy_(factored.matrix())
    for bridge in (low, factored):
        objective = ProximalLoRAE(Autoencoder(nn.Linear(5, 3), bridge, nn.Linear(3, 5)), 2.0)
        objective.after_step(0.1)
    torch.testing.assert_close(factored.matrix(), low.matrix(), atol=1e-6, rtol=0)


def test_the_proximal_form_finds_an_exact_rank():
    objective, x = make_objective("lorae-proximal", weight=3.0)
    train_on(objective, x, steps=150)
    sigma = torch.linalg.svdvals(objective.model.bridge.weight.detach().double())
    rank = int((sigma > 1e-6 * sigma[0]).sum())  # float32 leaves 1e-7 of the largest
    assert 1 <= rank < LATENT
    assert spectral.rank(sigma, 1e-2) == rank


@pytest.mark.parametrize("bridge", [NoBridge(3), ScaleFree(3)])
def test_the_proximal_step_needs_a_low_rank_bridge(bridge):
    objective = ProximalLoRAE(Autoencoder(nn.Linear(5, 3), bridge, nn.Linear(3, 5)))
    with pytest.raises(InputError, match=r"bridge must be low-rank .* got (NoBridge|ScaleFree)"):
        objective.after_step(0.1)


@pytest.mark.parametrize("factor", [1e-2, 7.0, 1e3])
def test_the_scale_free_loss_does_not_see_the_scale_of_encoder_or_matrix(factor):
    objective, x = make_objective("lorae-scale-free")
    model = objective.model
    model.bridge.epsilon = 0.0
    before = objective(x)
    sigma = torch.linalg.svdvals(model.bridge.matrix().detach())
    with torch.no_grad():
        model.encoder[-1].weight.mul_(factor)
        model.encoder[-1].bias.mul_(factor)
        model.bridge.weight.mul_(factor)
    for name, term in objective(x).items():
        torch.testing.assert_close(term, before[name], rtol=1e-4, atol=1e-6)
    found = torch.linalg.svdvals(model.bridge.matrix().detach())
    torch.testing.assert_close(found, sigma)


def test_the_penalty_of_the_paper_depends_on_the_scale_of_the_encoder():
    objective, x = make_objective("lorae")
    before = {name: term.item() for name, term in objective(x).items()}
    with torch.no_grad():
        objective.model.encoder[-1].weight.mul_(10)
        objective.model.encoder[-1].bias.mul_(10)
        objective.model.bridge.weight.div_(10)
    after = {name: term.item() for name, term in objective(x).items()}
    assert after["reconstruction"] == pytest.approx(before["reconstruction"], rel=1e-4)
    assert after["nuclear_norm"] == pytest.approx(before["nuclear_norm"] / 10, rel=1e-4)
