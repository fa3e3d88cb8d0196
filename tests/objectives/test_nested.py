"""Nested denoising: its terms by hand, and PCA as its minimum for linear networks."""

import pytest
import torch
from torch import nn

from lorae.errors import InputError
from lorae.nn.autoencoder import Architecture, Autoencoder, build
from lorae.nn.bridges.base import NoBridge
from lorae.objectives.nested import NestedDenoising

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))


def model(latent: int = 3) -> Autoencoder:
    torch.manual_seed(0)
    return build(Architecture("residual", (6,), latent, width=0.1, value_range=None))


def test_without_noise_the_first_term_is_the_error_of_all_codes():
    objective = NestedDenoising(model(), noise=0)
    with torch.no_grad():
        expected = (objective.model(X) - X).square().mean()
        torch.testing.assert_close(objective(X)["reconstruction"], expected)


def test_prefix_errors_are_those_of_zeroed_codes_with_the_bias_of_their_length():
    objective = NestedDenoising(model(), noise=0)
    with torch.no_grad():
        objective.prefix_biases.normal_()
        z = objective.model.encoder(X)
        z[:, 2:] = 0
        decoder = objective.model.decoder
        output = decoder[1:](decoder[0](z) + objective.prefix_biases[1])
        errors = objective.prefix_errors(X, [2, 3])
        torch.testing.assert_close(errors[0], (output - X).square().mean())
        torch.testing.assert_close(errors[1], (objective.model(X) - X).square().mean())


def test_the_noise_has_the_size_of_the_running_error():
    objective, seen = NestedDenoising(model()), []
    with torch.no_grad():
        first = float((objective.model(X) - X).square().mean())
        objective.model.encoder.register_forward_pre_hook(lambda _, x: seen.append(x[0] - X))
        for error in (first, 4.0):
            objective.error_ = None if error == first else torch.tensor(error)
            noise = []
            for _ in range(200):
                seen.clear()
                objective(X)
                noise.append(seen[-1])
                objective.error_ = torch.tensor(error)
            size = float(torch.stack(noise).square().mean())
            assert size == pytest.approx(error, rel=0.05)


def test_the_running_error_follows_the_batches():
    objective = NestedDenoising(model())
    with torch.no_grad():
        objective(X)
        before, term = objective.error_, objective(X)["reconstruction"]
        torch.testing.assert_close(objective.error_, 0.98 * before + 0.02 * term)


@pytest.mark.parametrize(("weight", "power"), [(0.1, 0.5), (0.4, 0.5), (1.0, 0), (2.0, 0)])
def test_the_second_term_is_scaled_by_the_root_of_the_ratio_of_errors(weight, power):
    objective = NestedDenoising(model(), weight)
    objective.error_, objective.prefix_error_ = torch.tensor(0.01), torch.tensor(4.0)
    with torch.no_grad():
        term = objective(X)["prefix"]
    error = (objective.prefix_error_ - 0.98 * 4.0) / 0.02  # of this batch
    ratio = objective.error_ / objective.prefix_error_
    torch.testing.assert_close(term, weight * ratio**power * error, rtol=1e-4, atol=0)


def test_one_code_has_no_prefix_and_another_decoder_is_refused():
    assert set(NestedDenoising(model(1))(X)) == {"reconstruction"}
    other = Autoencoder(nn.Linear(6, 2), NoBridge(2), nn.Linear(2, 6))
    with pytest.raises(InputError, match="decoder must begin with a Linear layer"):
        NestedDenoising(other)


def test_linear_networks_are_led_to_principal_components_in_order():
    """Training order of the coordinates, from a start that mixes them."""
    torch.manual_seed(0)
    X = torch.randn(2000, 4) * torch.tensor([3.0, 2.0, 1.0, 0.1])
    networks = nn.Sequential(nn.Linear(4, 2)), nn.Sequential(nn.Linear(2, 4))
    objective = NestedDenoising(Autoencoder(networks[0], NoBridge(2), networks[1]), 1.0, noise=0)
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    for _ in range(2000):
        optimizer.zero_grad()
        sum(objective(X).values()).backward()
        optimizer.step()
    with torch.no_grad():
        one, two = objective.prefix_errors(X, [1, 2]).tolist()
    assert two == pytest.approx((1.0 + 0.01) / 4, rel=0.1)
    assert one == pytest.approx((4.0 + 1.0 + 0.01) / 4, rel=0.1)
