"""Nested models: the first codes, the change to coordinates, and the way back."""

import pytest
import torch
from torch import nn

from lorae.estimator.nested import NestedModel, to_coordinates
from lorae.estimator.networks import build_model
from lorae.objectives.nested import NestedDenoising

X = torch.randn(90, 7, generator=torch.Generator().manual_seed(0)) @ torch.diag(
    torch.arange(1.0, 8.0)
)


@pytest.fixture
def objective() -> NestedDenoising:
    torch.manual_seed(0)
    objective = NestedDenoising(build_model(X, 4))
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return objective.eval()


def by_hand(objective: NestedDenoising, count: int) -> torch.Tensor:
    """Reconstructions from the first codes, as they are trained."""
    model = objective.model
    assert isinstance(model.decoder, nn.Sequential)
    z = model.encoder(model.scaled(X)).clone()
    z[:, count:] = 0
    hidden = model.decoder[0](z) + objective.prefix_biases[count - 1] * (count < 4)
    return model.decoder[1:](hidden) * model.scale + model.shift


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@torch.no_grad()
def test_first_codes_decode_as_in_training_before_and_after_the_change(objective, count):
    expected = by_hand(objective, count)
    nested = NestedModel.from_objective(objective)
    torch.testing.assert_close(nested.first(count)(X), expected, rtol=1e-4, atol=1e-4)
    changed, _ = to_coordinates(nested, X, X.mean(0).double(), 1.0)
    small = changed.first(count)
    assert small.bridge.latent == count
    torch.testing.assert_close(small(X), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(small.encode(X), changed.model.encode(X)[:, :count])
    back = changed.to_objective().eval()
    torch.testing.assert_close(by_hand(back, count), expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_coordinates_are_white_up_to_the_variance_that_each_adds(objective):
    nested, effect = to_coordinates(
        NestedModel.from_objective(objective), X, X.mean(0).double(), 1.0
    )
    codes = nested.model.encode(X).double()
    covariance = torch.cov(codes.mT)
    torch.testing.assert_close(covariance, covariance.diagonal().diag(), rtol=0, atol=1e-4)
    errors = nested.errors(X, X.mean(0).double()).mean(1) * 7 * 90 / 89
    added = (-errors.diff()).clamp(min=0)
    torch.testing.assert_close(
        covariance.diagonal(), added / added.sum() * (errors[0] - errors[-1]), rtol=1e-3, atol=1e-6
    )
    assert bool((effect.gather(1, effect.abs().argmax(1, keepdim=True)) > 0).all())
