"""Coordinates: codes with variances in data space; reconstructions do not change."""

import pytest
import torch
from torch import nn

from lorae.estimator.coordinates import mean_jacobian, principal_coordinates
from lorae.nn.autoencoder import Architecture, Autoencoder, build
from lorae.nn.bridges.base import NoBridge

X = torch.rand(60, 8)
IMAGES = torch.rand(40, 1, 9, 12)
MODELS = {
    "mlp": (Architecture("mlp", (8,), 4, value_range=None), X),
    "residual": (Architecture("residual", (8,), 4, value_range=None), X),
    "conv": (Architecture("conv", (1, 9, 12), 4, width=0.2), IMAGES),
}


@pytest.fixture(params=MODELS)
def case(request) -> tuple[Autoencoder, torch.Tensor]:
    plan, x = MODELS[request.param]
    torch.manual_seed(0)
    return build(plan).eval(), x


def test_jacobians_equal_those_of_reverse_mode(case):
    model, x = case
    codes = model.encode(x[:7]).detach()
    metric, mean = mean_jacobian(model.decoder, codes)
    each = [
        torch.autograd.functional.jacobian(lambda z: model.decoder(z[None]).flatten(), z)
        for z in codes
    ]
    J = torch.stack(each).double()  # n x d x l
    torch.testing.assert_close(metric, (J.mT @ J).mean(0), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(mean, J.mean(0).mT, rtol=1e-4, atol=1e-7)


def test_coordinates_are_centred_uncorrelated_and_of_unit_metric(case):
    model, x = case
    at = principal_coordinates(model, x)
    same = model.change_codes(at.transform, -at.transform @ at.mean, at.inverse, at.mean)
    with torch.no_grad():
        torch.testing.assert_close(same(x), model(x), rtol=1e-4, atol=1e-5)
        codes = same.encode(x).double()
    spread = float(at.variances[0].sqrt())
    assert codes.mean(0).abs().max() < 1e-4 * spread
    torch.testing.assert_close(codes.var(0), at.variances, rtol=1e-2, atol=1e-6 * spread**2)
    off = torch.cov(codes.T) - torch.cov(codes.T).diagonal().diag()
    assert off.abs().max() < 1e-4 * spread**2
    # A unit step along any coordinate moves the decoded samples by 1, in the root mean square.
    metric, mean = mean_jacobian(same.decoder, codes.float())
    torch.testing.assert_close(metric.diagonal(), torch.ones(4).double(), rtol=1e-2, atol=0)
    torch.testing.assert_close(mean, at.directions, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("training", [True, False])
def test_computing_coordinates_restores_the_mode_of_the_model(case, training):
    model, x = case
    principal_coordinates(model.train(training), x)
    assert model.training == training


def test_signs_do_not_depend_on_those_of_the_codes(case):
    model, x = case
    at = principal_coordinates(model, x)
    flip = torch.diag(torch.tensor([1.0, -1.0, 1.0, -1.0]))
    turned = Autoencoder(
        nn.Sequential(model.encoder, _linear(flip)),
        NoBridge(4),
        nn.Sequential(_linear(flip), model.decoder),
        shift=model.shift,
        scale=model.scale,
    ).eval()
    again = principal_coordinates(turned, x)
    torch.testing.assert_close(again.directions, at.directions, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(again.variances, at.variances, rtol=1e-4, atol=1e-8)


def _linear(matrix: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(4, 4, bias=False)
    layer.weight.data.copy_(matrix)
    return layer
