"""The start from Isomap's coordinates."""

import pytest
import torch

from lorae import LowRankAutoencoder
from lorae.estimator.networks import build_model
from lorae.estimator.unfolding import neighbour_error, start_unfolded, unfold


def roll(n: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a swiss roll, n x 3, and the two coordinates along it."""
    u, v = torch.rand(2, n, generator=torch.Generator().manual_seed(0))
    angle = 1.5 * torch.pi * (1 + 2 * u)
    samples = torch.stack([angle * angle.cos() / 5, 4 * v, angle * angle.sin() / 5], 1)
    return samples, torch.stack([angle.square() / 10, 4 * v], 1)


def sphere(n: int = 400) -> torch.Tensor:
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    return x / x.norm(dim=1, keepdim=True)


def flat(n: int = 400) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, 2, generator=generator) @ torch.randn(2, 3, generator=generator)


def test_coordinates_of_a_roll_are_those_along_it_up_to_rotation_and_scale():
    samples, along = roll(800)
    found = unfold(build_model(samples, 2), samples)
    assert found is not None
    wanted = (along - along.mean(0)).double()
    fitted = found @ torch.linalg.lstsq(found, wanted).solution
    assert float((fitted - wanted).square().sum() / wanted.square().sum()) < 0.05


@pytest.mark.parametrize("samples", [sphere(), flat()], ids=["sphere", "plane"])
def test_there_are_none_for_a_sphere_and_none_are_needed_for_a_plane(samples):
    model = build_model(samples, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert not start_unfolded(model, samples, 5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("latent", [1, 4])
def test_only_two_and_three_codes_are_tried(latent):
    assert unfold(build_model(torch.randn(100, 6), latent), torch.randn(100, 6)) is None


def test_a_roll_is_unrolled():
    samples, _ = roll(1000)
    fitted = LowRankAutoencoder(n_components=2, random_state=0).fit(samples[:800].numpy())
    assert fitted.score(samples[800:].numpy()) > 0.99


def test_the_error_of_neighbours_is_the_one_of_an_explicit_loop():
    samples = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)).double()
    coordinates = samples[:, :2]
    total = 0.0
    for i, sample in enumerate(samples):
        distances = (coordinates - coordinates[i]).norm(dim=1)
        nearest = distances.argsort()[1:8]
        total += float((sample - samples[nearest].mean(0)).square().sum())
    expected = total / float(samples.square().sum())
    assert neighbour_error(coordinates, samples) == pytest.approx(expected)
