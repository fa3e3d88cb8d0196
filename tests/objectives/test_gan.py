"""The games of GANs: what each player wants, gets, and what a person is told."""

import math

import numpy as np
import pytest
import torch
from models import make_objective, train_on
from scipy.special import expit

from lorae.linalg.kernels import mmd
from lorae.objectives.gan import GAN, LSGAN, NSGAN
from lorae.sampling.registry import density_for
from lorae.training.evaluation import evaluate

GAMES = {"gan": GAN, "ls-gan": LSGAN, "ns-gan": NSGAN}
REAL, MADE = np.array([2.0, -0.5, 0.0]), np.array([-3.0, 0.25, 1.0])
CLOSED = {  # of the logits above
    "gan": (
        -np.log(expit(REAL)).mean() - np.log(1 - expit(MADE)).mean(),
        np.log(1 - expit(MADE)).mean(),
    ),
    "ns-gan": (
        -np.log(expit(REAL)).mean() - np.log(1 - expit(MADE)).mean(),
        -np.log(expit(MADE)).mean(),
    ),
    "ls-gan": (
        ((REAL - 1) ** 2).mean() / 2 + (MADE**2).mean() / 2,
        ((MADE - 1) ** 2).mean() / 2,
    ),
}


@pytest.mark.parametrize("name", GAMES)
class TestEveryGame:
    def test_has_the_losses_of_its_paper(self, name):
        objective, _ = make_objective(name)
        critic, generator = CLOSED[name]
        real, fake = torch.tensor(REAL), torch.tensor(MADE)
        assert objective.critic_loss(real, fake).item() == pytest.approx(critic)
        assert objective.generator_loss(fake).item() == pytest.approx(generator)

    def test_has_finite_losses_at_any_logits(self, name):
        objective, _ = make_objective(name)
        logits = torch.tensor([-1e3, 1e3], requires_grad=True)
        (objective.critic_loss(logits, logits) + objective.generator_loss(logits)).backward()
        assert logits.grad.isfinite().all()

    def test_gives_each_player_the_gradient_of_its_own_loss(self, name):
        objective, x = make_objective(name, "image")
        critics = [*objective.model.encoder.parameters(), *objective.head.parameters()]
        generators = list(objective.model.decoder.parameters())
        for term, own, other in (
            ("critic", critics, generators),
            ("generator", generators, critics),
        ):
            objective.zero_grad()
            objective(x)[term].backward()
            assert all(p.grad is None or not p.grad.any() for p in other)
            assert all(p.grad.any() for p in own)

    @pytest.mark.parametrize("player", ["critic", "generator"])
    def test_is_won_by_the_player_who_alone_may_move(self, name, player):
        torch.manual_seed(0)
        objective, x = make_objective(name, "image")
        still = objective.model.decoder if player == "critic" else objective.model.encoder
        still.requires_grad_(False)
        if player == "generator":
            objective.head.requires_grad_(False)
        moving = [p for p in objective.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(moving, 3e-3)
        values = []
        for _ in range(60):
            value = objective(x)[player]
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            values.append(value.item())
        assert np.mean(values[-5:]) < np.mean(values[:5]) - 0.01

    def test_comes_near_the_data(self, name):
        objective, x = make_objective(name, "image")
        before = distance(objective, x)
        train_on(objective, x, steps=250)
        assert distance(objective, x) < before / 2

    def test_says_when_the_critic_has_won(self, name):
        objective, _ = make_objective(name)
        assert objective.warnings({"critic": 1.0, "generator": 1.0}) == []
        (told,) = objective.warnings({"critic": 0.001, "generator": 9.0})
        assert "the critic's loss is 0.001" in told

    def test_says_when_the_generator_makes_one_thing_only(self, name):
        objective, x = make_objective(name, "image")
        with torch.no_grad():
            objective.model.decoder[0].weight.zero_()
        found = evaluate(objective.model, x)
        assert found.spread < 1e-6
        assert "have 0.0% of the variance" in found.warnings[0]
        assert found.reconstruction is None

    def test_asks_for_a_rate_and_a_momentum_for_each_player(self, name):
        objective, _ = make_objective(name, momentum=0.3, critic_rate=0.25)
        generator, critic = objective.parameter_groups(1e-2)
        assert (generator["lr"], critic["lr"]) == (1e-2, 0.25e-2)
        assert generator["betas"] == critic["betas"] == (0.3, 0.999)
        every = {id(p) for group in (generator, critic) for p in group["params"]}
        assert every == {id(p) for p in objective.parameters()}


def distance(objective, x: torch.Tensor) -> float:
    """Return the discrepancy of generated samples from the data."""
    codes = density_for(objective.model).sample(500, torch.Generator().manual_seed(0))
    samples = objective.model.decode(codes).detach().flatten(1)
    return mmd(samples, x.flatten(1)).item()


def test_the_logits_are_those_of_probabilities():
    objective, _ = make_objective("gan")
    even = torch.zeros(4)
    assert objective.critic_loss(even, even).item() == pytest.approx(2 * math.log(2))
