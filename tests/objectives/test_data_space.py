"""The penalty in data space: the closed solution of linear networks, and its invariances."""

import math

import numpy as np
import pytest
import torch
from models import make_objective, train_on
from sklearn.datasets import load_digits
from torch import nn

from lorae.errors import InputError
from lorae.nn.autoencoder import Architecture, Autoencoder, build
from lorae.nn.bridges.data_space import DataSpace
from lorae.nn.bridges.low_rank import LowRank
from lorae.objectives.data_space import (
    GROWTH,
    DataSpaceLoRAE,
    default_interval,
    mean_metric,
    proximal_step,
)

LINEAR = [(1e-2, 1.0, 1), (1e-3, 1e6, 1)]  # lambda, gamma, seed
MORE = [(weight, 1.0) for weight in (1e-3, 3e-3, 6e-3, 1e-2, 1.4e-2, 3e-2, 6e-2)] + [(1e-3, 1e6)]
LINEAR_SLOW = sorted({(*case, seed) for case in MORE for seed in (1, 2, 3)} - {*LINEAR})
DEVIATIONS = (3.0, 2.0, 1.5, 1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05)


def samples(n=600):
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(10, 10, generator=generator)).Q
    x = torch.randn(n, 10, generator=generator) * torch.tensor(DEVIATIONS) @ rotation.mT
    return x + 3.0


def linear_model(latent=7, seed=1):
    torch.manual_seed(seed)
    return Autoencoder(nn.Linear(10, latent), DataSpace(latent), nn.Linear(latent, 10))


def train(objective, x, steps=1600, learning_rate=1e-2):
    """Train with a learning rate that falls to zero along a cosine, on batches of 100."""
    optimizer = torch.optim.Adam(objective.parameter_groups(learning_rate))
    for step in range(steps):
        rate = learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.param_groups[0]["lr"] = rate
        batch = x[torch.arange(100 * step, 100 * step + 100) % len(x)]
        loss = sum(objective(batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step(rate)


def output_deviations(model, x):
    """Return the standard deviations of the reconstructions along their principal axes."""
    with torch.no_grad():
        y = model(x).double().numpy()
    return np.linalg.svd(y - y.mean(0), compute_uv=False) / math.sqrt(len(x) - 1)


def closed_solution(x, weight, gamma):
    """Return the first 7 standard deviations of PCA, thresholded, by NumPy."""
    centred = (x - x.mean(0)).double().numpy()
    sigma = np.linalg.svd(centred, compute_uv=False)[:7] / math.sqrt(len(x) - 1)
    tau = math.sqrt(weight * centred.var(0, ddof=1).sum())
    return np.where(sigma > tau, sigma, 0) if gamma == 1 else np.maximum(sigma - tau, 0)


def check_closed_solution(weight, gamma, seed, steps=5000):
    x = samples()
    expected = closed_solution(x, weight, gamma)
    objective = DataSpaceLoRAE(linear_model(seed=seed), weight, every=10, ramp=200, gamma=gamma)
    train(objective, x, steps=steps)
    model = objective.model.eval()
    tolerance = (0.01 if gamma == 1 else 0.02) * expected[0]
    np.testing.assert_allclose(output_deviations(model, x)[:7], expected, atol=tolerance)
    matrix = torch.linalg.svdvals(model.bridge.matrix().detach()).numpy()
    np.testing.assert_allclose(matrix, expected, atol=tolerance)
    assert (matrix > 1e-6).sum() == (expected > 0).sum()


@pytest.mark.parametrize(("weight", "gamma", "seed"), LINEAR)
def test_linear_networks_find_the_closed_solution(weight, gamma, seed):
    """Principal component analysis with thresholded standard deviations.

    With gamma = 1 those above tau stay as they are; with a large gamma all are lowered by tau. The
    tolerance is a share of the largest: that of the learning rate's last steps, in which the
    networks undo a part of each lowering. The standard deviations nearest to tau are 0.92 tau,
    which is removed at lambda = 6e-3, and 1.13 tau, which stays at 1e-2.
    """
    check_closed_solution(weight, gamma, seed)


@pytest.mark.slow
@pytest.mark.parametrize(("weight", "gamma", "seed"), LINEAR_SLOW)
def test_linear_networks_find_the_closed_solution_at_more_weights(weight, gamma, seed):
    """The weakest of the directions that stay need more steps than in the test above."""
    check_closed_solution(weight, gamma, seed, steps=10_000)


def test_a_change_of_basis_between_encoder_and_decoder_changes_nothing():
    """Mixed and rescaled codes, with the inverse on the other side: the same steps of M."""
    torch.manual_seed(0)
    mixing = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q * torch.logspace(
        -0.5, 0.5, 4
    )
    found = []
    for R in (torch.eye(4, dtype=torch.float64), mixing):
        model = linear_model(latent=4).double()
        with torch.no_grad():
            model.encoder.weight.copy_(R @ model.encoder.weight)
            model.encoder.bias.copy_(R @ model.encoder.bias)
            model.decoder.weight.copy_(model.decoder.weight @ torch.linalg.inv(R))
        objective = DataSpaceLoRAE(model, 0.01, every=2, ramp=0).double()
        for batch in samples(200).double().split(50) * 5:  # ten steps of M, with fixed networks
            sum(objective(batch).values()).backward()
            objective.after_step(0.0)
        x = samples(50).double()
        sigma = torch.linalg.svdvals(model.bridge.training_matrix().detach())
        found.append((sigma, model(x).detach()))
    (plain, outputs), (mixed, other) = found
    torch.testing.assert_close(mixed, plain, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(other, outputs, rtol=1e-6, atol=1e-6)
    assert plain[0] > 2 * plain[-1]  # some are at the least that training leaves them


def test_no_direction_of_the_encoder_is_small_beside_a_step_of_adam():
    """Its outputs stay white, so that the last layer needs many steps to cross their spread.

    Otherwise the directions that training removes keep what spread they had at the start, a
    thousandth of the largest, and one that returned was thrown about by every step.
    """
    torch.manual_seed(0)
    x = torch.tensor(load_digits().images[:1600, None] / 16, dtype=torch.float32)
    architecture = Architecture("conv", (1, 8, 8), 16, "data-space", width=0.25)
    objective = DataSpaceLoRAE(build(architecture), 1e-2, ramp=100)
    train(objective, x, steps=400, learning_rate=1e-3)
    e = objective.model.encoder(x).detach().double().numpy()
    spreads = np.linalg.eigvalsh(np.cov(e.T)) ** 0.5
    assert spreads[0] > 0.3
    assert spreads[-1] < 3


def test_the_rank_is_the_same_at_every_threshold():
    objective, x = make_objective("lorae-data-space", "image", weight=0.1, every=5, ramp=20)
    train_on(objective, x, steps=200)
    sigma = torch.linalg.svdvals(objective.model.bridge.matrix().detach().double())
    ranks = {int((sigma > threshold * sigma[0]).sum()) for threshold in (1e-3, 1e-4, 1e-5, 1e-6)}
    assert len(ranks) == 1
    assert 1 <= ranks.pop() < len(sigma)


def test_the_cut_model_has_codes_with_the_deviations_of_the_matrix():
    x = samples()
    objective = DataSpaceLoRAE(linear_model(), 1e-2, every=5, ramp=100)
    train(objective, x, steps=400)
    model = objective.model.eval()
    cut = model.cut()
    sigma = torch.linalg.svdvals(model.bridge.matrix().detach())
    codes = cut.encode(x).detach()
    assert codes.shape[1] == int((sigma > 1e-3 * sigma[0]).sum()) < 7
    torch.testing.assert_close(cut(x), model(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(codes.std(0), sigma[: codes.shape[1]], rtol=0.1, atol=0.02)


def test_the_threshold_rises_to_the_share_of_the_variance():
    x = samples()
    objective = DataSpaceLoRAE(linear_model(), 0.04, every=100, ramp=10)
    for k in range(20):
        objective(x)
        full = math.sqrt(0.04 * float(x.var(0).sum()))
        assert objective.threshold == pytest.approx(min(1, k / 10) * full, rel=1e-5)
        objective.after_step(0.0)
    objective.strength = 0.25
    assert objective.threshold == pytest.approx(full / 2, rel=1e-5)


def test_running_statistics_are_those_of_equal_batches():
    """Of the first 20 batches all count the same."""
    torch.manual_seed(0)
    x = samples(400)
    objective = DataSpaceLoRAE(linear_model(), every=100)
    for batch in x.split(40):
        objective(batch)
        objective.after_step(0.0)
    e = objective.model.encoder(x).detach()
    torch.testing.assert_close(objective.statistics.mean, e.mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        objective.statistics.covariance, e.mT.cov(correction=0), rtol=1e-3, atol=1e-3
    )


def test_the_metric_is_that_of_exact_derivatives():
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 6)).double()
    codes = torch.randn(5, 4, dtype=torch.float64)
    J = torch.stack([torch.autograd.functional.jacobian(decoder, z) for z in codes])
    expected = (J.mT @ J).mean(0)
    steps = 1e-6 * (torch.eye(4) + 0.3 * torch.randn(4, 4)).double()
    torch.testing.assert_close(mean_metric(decoder, codes, steps), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gamma", [1.0, 1.5, 2.0, math.inf])
@pytest.mark.parametrize("length", [0.1, 0.5])
def test_proximal_steps_minimise_their_quadratic(gamma, length):
    """Against the least 1/2 (s - sigma)^2 + P(s) over a grid, with P' = max(tau - s / gamma, 0)."""
    sigma, tau = np.array([5, 3, 2, 1, 0.5, 0.2, 0.1, 0.05]), 0.8
    target = torch.tensor(sigma)
    found = target.clone()
    for _ in range(400):
        found = proximal_step(found, found - target, tau, length, gamma)
    s = np.linspace(0, 6, 60001)
    knee = np.minimum(s, gamma * tau)
    penalty = tau * knee - knee**2 / (2 * gamma)
    expected = [s[np.argmin((s - a) ** 2 / 2 + penalty)] for a in sigma]
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)


def test_a_direction_is_stretched_slowly_and_does_not_vanish_in_training():
    objective = DataSpaceLoRAE(linear_model(), 0.01, every=5, ramp=0).eval()
    x, bridge = samples(), objective.model.bridge
    objective.train()
    for step in range(30):
        before = torch.linalg.svdvals(bridge.training_matrix().detach())
        objective(x)["reconstruction"].backward()
        objective.after_step(0.0)
        after = torch.linalg.svdvals(bridge.training_matrix().detach())
        if step > 5:  # the networks and their statistics are fixed
            assert (after <= GROWTH * before + 1e-5).all()
    sigma = torch.linalg.svdvals(bridge.matrix().detach())
    assert (sigma[-1] < 1e-6) & (after[-1] > 1e-4)


def test_a_direction_returns_once_it_could_carry_enough():
    """Data with three directions at first, of which training leaves one, and then with three."""
    x = samples()
    first = x.mean(0) + (x - x.mean(0)) @ projection(x, 1)
    objective = DataSpaceLoRAE(linear_model(), 2e-2, every=5, ramp=0)
    train(objective, first, steps=400)
    assert rank(objective) == 1
    train(objective, x.mean(0) + (x - x.mean(0)) @ projection(x, 3), steps=1200)
    assert rank(objective) == 3


def projection(x, k):
    V = torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:k]
    return V.mT @ V


def rank(objective):
    return int(torch.linalg.matrix_rank(objective.model.bridge.matrix().detach(), rtol=1e-4))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_rank_does_not_fall_to_zero_before_the_networks_learn(seed):
    """A ramp of 100 steps, when a deep network has hardly left the mean of the digits."""
    torch.manual_seed(seed)
    x = torch.tensor(load_digits().images[:1600, None] / 16, dtype=torch.float32)
    model = build(Architecture("mlp", (1, 8, 8), 16, "data-space", width=0.25, value_range=(0, 1)))
    objective = DataSpaceLoRAE(model, 1e-2, ramp=100)
    train(objective, x, steps=800, learning_rate=1e-3)
    tau = 0.1 * math.sqrt(float(x.var(0).sum()))
    sigma = torch.linalg.svdvals(model.bridge.matrix().detach())
    assert rank(objective) >= 2
    assert (sigma[:2] > tau).all()


def test_the_interval_grows_with_the_latent_dimension():
    assert [default_interval(latent) for latent in (2, 80, 128, 1024)] == [20, 20, 32, 256]


def test_another_bridge_or_a_number_out_of_range_is_refused():
    other = Autoencoder(nn.Linear(5, 3), LowRank(3), nn.Linear(3, 5))
    with pytest.raises(InputError, match="bridge must be data-space, got LowRank"):
        DataSpaceLoRAE(other)
    for wrong in ({"every": 0}, {"ramp": -1}, {"gamma": 0.9}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))} must be"):
            DataSpaceLoRAE(linear_model(), **wrong)
