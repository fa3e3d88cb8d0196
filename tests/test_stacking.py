"""A member of a stack is trained as it would be alone."""

import math

import pytest
import torch
from models import PAIRS, made
from torch import nn

from lorae.autoencoder import Architecture, build
from lorae.methods import METHODS
from lorae.objectives import AE, LoRAE, Objective, ProximalLoRAE
from lorae.spectral import soft_threshold
from lorae.stacking import APART, Stack, pays

SEEDS = range(2)
RATE = 1e-2


def member(name: str, kind: str, seed: int) -> tuple[Objective, torch.Tensor, torch.Generator]:
    """Return an objective in float64, its batch and its generator; seed and weight are its own."""
    torch.manual_seed(seed)
    weight = METHODS[name].weight
    objective, x = made(name, kind, **({} if weight is None else {"weight": weight * (1 + seed)}))
    generator = torch.Generator()
    generator.set_state(torch.get_rng_state())
    return objective.double(), x[seed : seed + 40].double(), generator


def alone(objective: Objective, x: torch.Tensor, steps: int) -> list[dict[str, float]]:
    """Return the terms of a plain training loop."""
    optimizer = torch.optim.Adam(objective.groups(RATE))
    found = []
    for _ in range(steps):
        terms = objective(x)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        objective.after_step(RATE)
        found.append({name: term.item() for name, term in terms.items()})
    return found


IN_TURN = ("lorae", "lorae-proximal", "lorae-scale-free", "vae")


@pytest.mark.parametrize(
    ("name", "kind", "at_once"),
    [(*pair, True) for pair in PAIRS if pair[0] not in APART]
    + [(name, "image", False) for name in IN_TURN],
)
def test_a_member_equals_itself_alone(name, kind, at_once):
    objectives, batches, generators = zip(*(member(name, kind, s) for s in SEEDS), strict=True)
    stack = Stack(objectives, generators, at_once=at_once)
    optimizer = torch.optim.Adam(stack.together.groups(RATE), fused=True)
    found = []
    for _ in range(5):
        found.append(stack.backward(torch.stack(batches)))
        optimizer.step()
        stack.together.after_step(RATE)
    for seed in SEEDS:
        one, x, _ = member(name, kind, seed)
        for terms, expected in zip(found, alone(one, x, steps=5), strict=True):
            for key, value in expected.items():
                assert terms[key][seed].item() == pytest.approx(value, rel=1e-9)
        # Rounding of float64, which Adam enlarges where a gradient is all but 0.
        own = objectives[seed].model.state_dict()
        torch.testing.assert_close(own, one.model.state_dict(), rtol=0, atol=1e-9)
        stacked = stack.together.model.state_dict().values()
        assert all(map(torch.equal, own.values(), (tensor[seed] for tensor in stacked)))


@pytest.mark.parametrize("name", sorted(APART))
def test_what_is_said_to_be_unfit_does_fail(name):
    objectives, batches, generators = zip(*(member(name, "vector", s) for s in SEEDS), strict=True)
    with pytest.raises((RuntimeError, ValueError)):
        Stack(objectives, generators, at_once=True).backward(torch.stack(batches))


def pair(*weights: float, kind=LoRAE, bridge="low-rank") -> tuple[Stack, torch.Tensor]:
    """Return a stack of small members in float32 and a batch for each."""
    members = [kind(build(Architecture("conv", (1, 8, 8), 4, bridge)), w) for w in weights]
    return Stack(members, [torch.Generator() for _ in weights]), torch.rand(
        len(weights), 9, 1, 8, 8
    )


def test_the_proximal_step_of_a_stack_is_that_of_each():
    stack, _ = pair(0.0, 1.0, 5.0, kind=ProximalLoRAE)
    before = [member.model.bridge.matrix().detach().clone() for member in stack.members]
    stack.set_strength(0.5)
    stack.together.after_step(0.1)
    for member, matrix in zip(stack.members, before, strict=True):
        expected = soft_threshold(matrix, 0.1 * 0.5 * member.weight)
        torch.testing.assert_close(member.model.bridge.matrix().detach(), expected)
    assert stack.members[2].model.bridge.matrix().abs().max() < before[2].abs().max()


def test_a_warm_up_reaches_every_member():
    stack, x = pair(1e-2, 1.0)
    for at_once in (True, False):
        stack.at_once = at_once
        stack.set_strength(1.0)
        whole = stack.backward(x)["nuclear_norm"]
        stack.set_strength(0.25)
        torch.testing.assert_close(stack.backward(x)["nuclear_norm"], whole / 4)
        assert whole[1] > 50 * whole[0]


@pytest.mark.parametrize("limit", [1e-3, 1e3])
def test_a_gradient_is_clipped_as_pytorch_clips_it(limit):
    stack, x = pair(1e-3, 10.0)
    stack.backward(x)
    whole = [[p.grad.clone() for p in member.parameters()] for member in stack.members]
    stack.clip(limit)
    for member, gradients in zip(stack.members, whole, strict=True):
        parameters = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(parameters, limit)
        for own, parameter in zip(member.parameters(), parameters, strict=True):
            torch.testing.assert_close(own.grad, parameter.grad)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_member_that_is_not_finite_harms_no_other(at_once):
    found = []
    for bad in (1.0, math.inf):
        torch.manual_seed(0)
        stack, x = pair(1e-2, 1.0, kind=ProximalLoRAE)
        stack.at_once = at_once
        optimizer = torch.optim.Adam(stack.together.parameters(), 1e-2, fused=True)
        x[1, 0] *= bad
        for _ in range(3):
            terms = stack.backward(x)
            stack.contain()
            optimizer.step()
        found.append([terms["reconstruction"], *stack.members[0].state_dict().values()])
        assert all(p.isfinite().all() for p in stack.together.parameters())
    assert not found[1][0][1].isfinite()
    assert found[0][0][0] == found[1][0][0]
    assert all(map(torch.equal, found[0][1:], found[1][1:]))


@pytest.mark.parametrize(
    ("network", "shape", "width", "expected"),
    [
        ("mlp", (13,), 1.0, True),
        ("conv", (1, 8, 8), 0.25, True),
        ("mnist", (1, 32, 32), 1.0, False),
        ("celeba", (3, 64, 64), 1 / 32, False),
    ],
)
def test_large_convolutions_go_in_turn_on_a_cpu(network, shape, width, expected):
    model = build(Architecture(network, shape, 4, width=width))
    assert pays(model, 8) is expected
    assert not pays(model, 2)
    assert model.training


def test_members_keep_the_layout_that_fast_convolutions_want():
    stack, x = pair(0.1, 0.2)
    stack.at_once = False
    stack.backward(x)
    weight = stack.members[1].model.encoder[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert weight.grad.stride() == weight.stride()


def test_a_member_without_a_weight_needs_none():
    members = [AE(build(Architecture("mlp", (6,), latent=3))) for _ in range(2)]
    terms = Stack(members, [torch.Generator()] * 2).backward(torch.rand(2, 5, 6))
    assert terms["reconstruction"].shape == (2,)
