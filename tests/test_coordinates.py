"""Coordinates: a change of codes that changes nothing else, and is PCA for linear networks."""

import pytest
import torch
from sklearn.decomposition import PCA

from lorae.autoencoder import Architecture, build, encode_all
from lorae.coordinates import ROUGH, aligned, gauged, jacobians, principal, reduced
from lorae.moments import Moments

PLANS = {
    "mlp": Architecture("mlp", (9,), 5, width=0.1, value_range=None),
    "conv": Architecture("conv", (1, 8, 8), 4, width=0.25),
}
EVERY = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)


def drawn(plan, n=200):
    return torch.rand(n, *plan.shape, generator=torch.Generator().manual_seed(1))


@EVERY
def test_alignment_changes_codes_only(plan):
    model, x = build(plan).eval(), drawn(plan)
    same = aligned(model, principal(model, x))
    assert torch.allclose(same(x), model(x), atol=1e-4)  # two affine maps in float32
    assert not torch.allclose(same.encode(x), model.encode(x), atol=1e-2)


@EVERY
def test_coordinates_are_centred_uncorrelated_and_ordered(plan):
    model, x = build(plan).eval(), drawn(plan)
    codes = encode_all(aligned(model, principal(model, x)), x).double()
    moments = Moments(codes.shape[1]).update(codes)
    variances = moments.covariance.diagonal()
    deviations = variances.sqrt()
    correlation = moments.covariance / deviations / deviations[:, None]
    assert torch.allclose(correlation, torch.eye(len(variances)).double(), atol=1e-3)
    assert (moments.mean.abs() < 1e-3 * deviations).all()
    assert (variances.diff() <= 1e-6 * variances[0]).all()


def test_linear_networks_give_principal_components():
    plan = Architecture("mlp", (6,), 6, value_range=None)
    model = build(plan).eval()
    A = torch.linalg.qr(torch.randn(6, 6)).Q
    model.encoder = torch.nn.Sequential(torch.nn.Linear(6, 6, bias=False))
    model.decoder = torch.nn.Sequential(torch.nn.Linear(6, 6, bias=False))
    model.encoder[0].weight.data.copy_(3 * A)
    model.decoder[0].weight.data.copy_(A.T / 3)
    x = torch.randn(500, 6) @ torch.diag(torch.tensor([4.0, 3, 2, 1, 0.5, 0.2]))
    at, reference = principal(model, x), PCA().fit(x.double().numpy())
    assert at.variances.numpy() == pytest.approx(reference.explained_variance_, rel=1e-4)
    overlap = (at.directions @ torch.from_numpy(reference.components_).T).abs()
    assert torch.allclose(overlap, torch.eye(6).double(), atol=1e-3)


@EVERY
def test_a_gauge_has_deviations_for_singular_values(plan):
    model, x = build(plan).eval(), drawn(plan)
    at = principal(model, x, least=ROUGH)
    gauge = gauged(model, at)
    assert torch.allclose(gauge(x), model(x), atol=1e-4)
    M = gauge.bridge.matrix()
    floor = ROUGH * at.variances.max()
    assert torch.allclose(M.diagonal().double(), at.variances.clamp(min=floor).sqrt(), rtol=1e-5)
    whole = reduced(gauge, plan.latent)
    assert torch.allclose(whole(x), model(x), atol=1e-4)
    assert reduced(gauge, 2).encode(x).shape == (len(x), 2)


def test_jacobians_are_those_of_autograd():
    decoder = torch.nn.Sequential(torch.nn.Linear(3, 7), torch.nn.Tanh(), torch.nn.Linear(7, 4))
    codes = torch.randn(5, 3)
    each = torch.stack([torch.autograd.functional.jacobian(decoder, z) for z in codes]).double()
    metric, mean = jacobians(decoder, codes)
    assert torch.allclose(metric, (each.mT @ each).mean(0), atol=1e-6)
    assert torch.allclose(mean, each.mean(0).mT, atol=1e-6)
