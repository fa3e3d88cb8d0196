"""The loss of a variational autoencoder is its negative evidence lower bound, by torch's own."""

import math

import pytest
import torch
from models import make_objective
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from lorae.objectives.vae import VAE

WEIGHTS = [0.0, 1.0, 4.0]


def bound(objective: VAE, x: torch.Tensor, likelihood) -> torch.Tensor:
    """Return the mean bound per element, estimated with the draw that the seed gives."""
    model = objective.model
    target = model.scaled(x)
    e = model.encoder(target)
    mean, log_variance = e.chunk(2, 1)
    q = Independent(Normal(mean, (log_variance / 2).exp()), 1)
    p = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    torch.manual_seed(0)
    z, _ = model.bridge.draw(e)
    log_likelihood = likelihood(model.decoder(z)).log_prob(target).flatten(1).sum(1)
    divergence = objective.weight * kl_divergence(q, p)
    return (divergence - log_likelihood).mean() / target[0].numel()


@pytest.mark.parametrize("kind", ["vector", "image"])
@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_vae_is_the_bound_of_a_normal_of_variance_one_half(kind, weight):
    objective, x = make_objective("vae", kind, weight=weight)
    torch.manual_seed(0)
    terms = objective(x)
    expected = bound(objective, x, lambda output: Normal(output, math.sqrt(0.5)))
    constant = 0.5 * math.log(math.pi)  # of the normal density, for each element
    found = sum(terms.values()) + constant
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_bernoulli_vae_is_the_bound_of_coins(weight):
    objective, x = make_objective("vae-bernoulli", "image", weight=weight)
    torch.manual_seed(0)
    terms = objective(x)
    expected = bound(objective, x, lambda output: Bernoulli(output, validate_args=False))
    torch.testing.assert_close(sum(terms.values()), expected, rtol=1e-5, atol=1e-5)


def test_a_weight_of_a_fifth_of_d_over_l_is_the_vae_of_lorae_s_authors():
    """Their code: mean cross-entropy - 0.1 mean (1 + log_variance - mu^2 - exp(log_variance))."""
    objective, x = make_objective("vae-bernoulli", "image")
    objective.weight = 0.2 * x[0].numel() / 6
    torch.manual_seed(0)
    found = sum(objective(x).values()).item()
    mean, log_variance = objective.model.encoder(objective.model.scaled(x)).chunk(2, 1)
    torch.manual_seed(0)
    z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
    entropy = torch.nn.functional.binary_cross_entropy(objective.model.decoder(z), x)
    theirs = entropy - 0.1 * (1 + log_variance - mean**2 - log_variance.exp()).mean()
    assert found == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["vae", "vae-flow", "vrrae"])
@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_a_warmup_holds_back_the_divergence_alone(name, strength):
    objective, x = make_objective(name, weight=2.0)
    torch.manual_seed(0)
    whole = objective(x)
    objective.strength = strength
    torch.manual_seed(0)
    part = objective(x)
    assert torch.equal(part["reconstruction"], whole["reconstruction"])
    torch.testing.assert_close(part["divergence"], strength * whole["divergence"])


def test_an_encoder_that_gives_the_prior_costs_nothing():
    objective, x = make_objective("vae")
    for parameter in objective.model.encoder.parameters():
        parameter.data.zero_()
    assert objective(x)["divergence"].item() == 0
