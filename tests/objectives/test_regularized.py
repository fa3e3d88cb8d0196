"""Penalties of deterministic autoencoders against independent computation."""

import math

import numpy as np
import pytest
import torch
from models import make_objective, train_on
from torch import nn

from lorae.errors import InputError
from lorae.linalg.kernels import mmd
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.blocks import add_spectral_norm
from lorae.nn.bridges.base import NoBridge
from lorae.objectives.regularized import RAEGP, LeastVolume, NestedDropout


def test_rae_penalises_codes_and_decoder():
    objective, x = make_objective("rae-l2", weight=0.3, smoothness=0.2)
    z = objective.model.encode(x).detach().double().numpy()
    squares = [
        float((p.detach().double() ** 2).sum()) for p in objective.model.decoder.parameters()
    ]
    terms = objective(x)
    assert terms["codes"].item() == pytest.approx(0.3 * (z**2).mean(), rel=1e-5)
    assert terms["decoder"].item() == pytest.approx(0.2 * sum(squares), rel=1e-5)


def test_wae_has_the_loss_of_its_authors_for_mnist():
    """Their code: 0.05 times the summed squared error plus 10 MMD^2, 0.05 d times ours."""
    objective, x = make_objective("wae", "image")
    torch.manual_seed(5)
    found = sum(objective(x).values()).item()
    torch.manual_seed(5)
    z = objective.model.encode(x)
    summed = (objective.model.decode(z) - x).square().flatten(1).sum(1).mean()
    theirs = 0.05 * summed + 10 * mmd(z, torch.randn(len(x), 6))
    assert found == pytest.approx(theirs.item() / (0.05 * x[0].numel()), rel=1e-5)


def jacobians(decoder: nn.Module, z: torch.Tensor, step: float = 1e-5) -> np.ndarray:
    """Return d D / d z for each code, by central differences, n x d x l."""
    columns = []
    for unit in torch.eye(z.shape[1], dtype=z.dtype):
        with torch.no_grad():
            difference = decoder(z + step * unit) - decoder(z - step * unit)
        columns.append((difference / (2 * step)).flatten(1).numpy())
    return np.stack(columns, -1)


class Fixed(nn.Module):
    """A smooth decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 5)).double()

    def forward(self, z):
        return self.map(z)


def over(decoder: nn.Module) -> RAEGP:
    return RAEGP(Autoencoder(nn.Linear(5, 3).double(), NoBridge(3), decoder))


def test_the_slope_is_that_of_finite_differences():
    decoder = Fixed()
    objective, z = over(decoder), torch.randn(400, 3, dtype=torch.float64)
    expected = (jacobians(decoder, z) ** 2).sum((1, 2)).mean()
    drawn = np.array([objective.roughness(z).item() for _ in range(300)])
    error = drawn.std() / math.sqrt(len(drawn))
    assert abs(drawn.mean() - expected) < 4 * error < 0.02 * expected


def test_the_slope_of_one_output_needs_no_luck():
    decoder = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    z = torch.randn(20, 3, dtype=torch.float64)
    expected = (jacobians(decoder, z) ** 2).sum((1, 2)).mean()
    objective = RAEGP(Autoencoder(nn.Linear(1, 3).double(), NoBridge(3), decoder))
    assert objective.roughness(z).item() == pytest.approx(expected, rel=1e-6)


def test_the_slope_pulls_on_the_decoder():
    objective, x = make_objective("rae-gp", smoothness=1.0)
    objective(x)["decoder"].backward()
    weights = [m.weight for m in objective.model.decoder.modules() if isinstance(m, nn.Linear)]
    assert all(w.grad.abs().sum() > 0 for w in weights)


def test_the_slope_is_measured_without_a_gradient():
    objective, x = make_objective("rae-gp")
    with torch.no_grad():
        assert objective(x)["decoder"].isfinite()


@pytest.mark.parametrize("weight", [0.0, 10.0])
def test_wae_penalises_the_distance_of_its_codes_from_the_prior(weight):
    objective, x = make_objective("wae", weight=weight)
    torch.manual_seed(5)
    found = objective(x)["discrepancy"].item()
    torch.manual_seed(5)
    expected = mmd(objective.model.encode(x), torch.randn(len(x), 6)).item()
    assert found == pytest.approx(weight / x[0].numel() * expected, rel=1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_volume_is_the_geometric_mean_of_the_deviations(eta):
    objective, _ = make_objective("least-volume", eta=eta)
    z = torch.randn(50, 4, dtype=torch.float64) * torch.tensor([3.0, 1.0, 0.2, 0.01])
    expected = np.exp(np.mean(np.log(z.numpy().std(0, ddof=1) + eta)))
    assert objective.volume(z).item() == pytest.approx(expected, rel=1e-6)


def test_the_volume_has_a_finite_gradient_where_nothing_varies():
    decoder = add_spectral_norm(nn.Sequential(nn.Linear(3, 5)), torch.zeros(1, 3))
    objective = LeastVolume(Autoencoder(nn.Linear(5, 3), NoBridge(3), decoder), eta=0.0)
    z = torch.zeros(6, 3, requires_grad=True)
    objective.volume(z).backward()
    assert z.grad.isfinite().all()
    with pytest.raises(InputError, match="batch must have at least 2 samples, got 1"):
        objective.volume(z[:1])


class Kept(nn.Module):
    """A decoder that gives back its codes and remembers them."""

    def forward(self, z):
        self.z = z.detach()
        return z


@pytest.mark.parametrize("rho", [0.2, 0.8, 0.95])
def test_nested_dropout_cuts_at_geometric_lengths(rho):
    latent, n = 12, 20_000
    decoder = Kept()
    model = Autoencoder(nn.Identity(), NoBridge(latent), decoder)
    NestedDropout(model, rho)(torch.ones(n, latent))
    kept = decoder.z
    assert torch.equal(kept, kept.cummin(1).values)  # ones, then zeros
    lengths = kept.sum(1).long()
    assert lengths.min() >= 1
    found = torch.bincount(lengths, minlength=latent + 1)[1:].double() / n
    expected = torch.tensor([(1 - rho) * rho ** (b - 1) for b in range(1, latent + 1)]).double()
    expected[-1] += rho**latent  # from l on, nothing is cut
    torch.testing.assert_close(found, expected, atol=5 * math.sqrt(0.25 / n), rtol=0)


def test_nested_dropout_orders_the_coordinates():
    objective, x = make_objective("nested-dropout", rho=0.6)
    train_on(objective, x, steps=300)
    model = objective.model.eval()
    z = model.encode(x).detach()

    def error(first: int, last: int) -> float:
        """Return the error of the coordinates from first up to last alone."""
        kept = torch.zeros_like(z)
        kept[:, first:last] = z[:, first:last]
        return (model.decode(kept) - x).square().mean().item()

    assert error(0, 1) > error(0, 2) > error(0, 3)
    assert error(0, 2) < error(2, 4) < error(4, 6)
