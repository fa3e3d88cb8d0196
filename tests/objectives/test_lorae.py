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
from lorae.objectives.lorae import FactoredLoRAE, LoRAE, ProximalLoRAE


@pytest.mark.parametrize("weight", [0, 1e-3, 2.5])
@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_the_penalty_is_the_weighted_sum_of_singular_values(weight, strength):
    objective, x = make_objective("lorae", weight=weight)
    objective.strength = strength
    matrix = objective.model.bridge.weight.detach().numpy()
    norm = np.linalg.svd(matrix, compute_uv=False).sum()
    terms = objective(x)
    assert list(terms) == ["reconstruction", "nuclear_norm"]
    assert terms["nuclear_norm"].item() == pytest.approx(weight * strength * norm, rel=1e-5)


def test_the_subgradient_of_the_penalty_is_the_papers():
    objective, x = make_objective("lorae", weight=0.7)
    objective(x)["nuclear_norm"].backward()
    U, _, Vh = np.linalg.svd(objective.model.bridge.weight.detach().double().numpy())
    found = objective.model.bridge.weight.grad.numpy()
    np.testing.assert_allclose(found, 0.7 * U @ Vh, atol=1e-5)


SIGMA = (5, 3, 2, 1, 0.5, 0.2, 0.1, 0.05)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_proximal_steps_find_the_minimiser_of_the_nuclear_norm(scale, noise):
    """Of 1/2 ||M - A||^2 + 0.8 ||M||_*: the singular values of A, lowered by 0.8.

    The loss, the weight and the noise are multiplied by `scale`. With noise, of standard deviation
    0.3 in every entry of the gradient, the last iterates are averaged; that the threshold acts on
    noise as well biases a value near it by less than 0.1.
    """
    torch.manual_seed(0)
    U, V = (torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q for _ in range(2))
    A = U * torch.tensor(SIGMA, dtype=torch.float64) @ V.mT
    model = Autoencoder(nn.Linear(8, 8), LowRank(8), nn.Linear(8, 8)).double()
    objective = ProximalLoRAE(model, weight=0.8 * scale).double()
    M, mean = model.bridge.weight, torch.zeros(8, 8, dtype=torch.float64)
    steps = 2000
    for step in range(steps):
        M.grad = scale * (M.detach() - A + noise * torch.randn_like(M))
        objective.after_step(0.04 * (1 - step / steps))
        mean += M.detach() * (step >= 0.9 * steps) / (0.1 * steps)
    expected = np.maximum(np.array(SIGMA) - 0.8, 0)
    found = np.linalg.svd((mean if noise else M.detach()).numpy(), compute_uv=False)
    np.testing.assert_allclose(found, expected, atol=0.1 if noise else 1e-4)
    assert np.linalg.matrix_rank(M.detach().numpy(), tol=1e-9) == 4


def test_the_optimizer_does_not_step_the_matrix_of_a_proximal_form():
    objective, _ = make_objective("lorae-proximal")
    (group,) = objective.parameter_groups(1e-3)
    stepped = {id(parameter) for parameter in group["params"]}
    left = [name for name, p in objective.named_parameters() if id(p) not in stepped]
    assert left == ["model.bridge.weight"]


def factor(objective):
    U, _, Vh = np.linalg.svd(objective.model.bridge.weight.detach().double().numpy())
    return U @ Vh


def test_a_subgradient_may_be_used_for_several_steps():
    objective, x = make_objective("lorae", weight=0.7, every=3)
    bridge, exact = objective.model.bridge, make_objective("lorae", weight=0.7)[0]
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


def test_proximal_steps_of_several_steps_use_their_mean_gradient():
    objective, _ = make_objective("lorae-proximal", weight=0.5, every=3)
    weight = objective.model.bridge.weight
    start, gradients = weight.detach().clone(), torch.randn(3, *weight.shape)
    objective.strength = 0.5
    for k in range(3):
        assert torch.equal(weight, start)
        weight.grad = gradients[k].clone()
        objective.after_step(learning_rate=0.1 * (k + 1))
        assert not weight.grad.any()
    mean = gradients.mean(0)
    length = 0.6 / mean.square().mean().sqrt()  # the first running means are the gradient itself
    U, sigma, Vh = np.linalg.svd((start - length * mean).double().numpy())
    expected = U * np.maximum(sigma - 0.25 * float(length), 0) @ Vh
    np.testing.assert_allclose(weight.detach(), expected, atol=1e-5)


@pytest.mark.parametrize("objective", [LoRAE, ProximalLoRAE])
def test_an_interval_below_one_step_is_refused(objective):
    model = Autoencoder(nn.Linear(5, 3), LowRank(3), nn.Linear(3, 5))
    with pytest.raises(InputError, match="every must be at least 1, got 0"):
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


def test_the_proximal_form_finds_an_exact_rank():
    objective, x = make_objective("lorae-proximal", weight=0.03)
    train_on(objective, x, steps=300)
    sigma = torch.linalg.svdvals(objective.model.bridge.weight.detach().double())
    rank = int((sigma > 1e-6 * sigma[0]).sum())  # float32 leaves 1e-7 of the largest
    assert 1 <= rank < LATENT
    assert spectral.rank(sigma, 1e-2) == rank


@pytest.mark.parametrize("bridge", [NoBridge(3), Factored(3)])
def test_the_proximal_step_needs_a_low_rank_bridge(bridge):
    with pytest.raises(InputError, match=r"bridge must be low-rank .* got (NoBridge|Factored)"):
        ProximalLoRAE(Autoencoder(nn.Linear(5, 3), bridge, nn.Linear(3, 5)))


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
