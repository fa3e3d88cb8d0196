"""Networks of the space that samples span have the reconstructions of the whole networks."""

import pytest
import torch

from lorae import LowRankAutoencoder
from lorae.estimator.networks import build_model
from lorae.estimator.span import Span
from lorae.nn.inference import squared_errors
from lorae.objectives.nested import NestedDenoising


def samples_of(rank: int, n: int, shape: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    values = torch.Size(shape).numel()
    codes = torch.randn(n, rank, generator=generator, dtype=torch.float64)
    x = codes @ torch.randn(rank, values, generator=generator, dtype=torch.float64)
    return x.view(n, *shape)


def perturbed(samples: torch.Tensor, **settings: bool) -> NestedDenoising:
    """Return an objective of default networks whose weights are no longer those of PCA."""
    torch.manual_seed(0)
    objective = NestedDenoising(build_model(samples, 4, **settings))
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return objective.eval()


CASES = [
    (12, 90, (3, 8, 8), {}),
    (12, 90, (100,), {"standardize": True}),
    (1000, 30, (64,), {}),  # fewer samples than values: the rank is at most 30
]


@pytest.mark.parametrize(("rank", "n", "shape", "settings"), CASES)
def test_networks_of_the_space_have_the_errors_of_the_whole_networks(rank, n, shape, settings):
    samples = samples_of(rank, n, shape)
    objective = perturbed(samples, **settings)
    span = Span.of(objective.model, samples)
    assert span.basis is not None
    assert span.basis.shape == (min(rank, n - 1), samples[0].numel())
    small, inside = span.narrow(objective), span.project(samples)
    scaled = objective.model.scaled(samples)
    torch.testing.assert_close(inside.square().mean(), scaled.square().mean())
    torch.testing.assert_close(small.model.encode(inside), objective.model.encode(samples))
    whole = span.widen(small)
    torch.testing.assert_close(
        squared_errors(whole.model, samples, samples[0])[0],
        squared_errors(small.model, inside, inside[0])[0],
        rtol=1e-4,
        atol=1e-6,
    )
    torch.testing.assert_close(
        whole.prefix_errors(samples, [1, 3]), small.prefix_errors(inside, [1, 3])
    )
    for a, b in zip(span.narrow(whole).parameters(), small.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_noise_has_the_same_size_in_both():
    samples = samples_of(12, 90, (100,))
    objective = perturbed(samples)
    span = Span.of(objective.model, samples)
    noise = (
        span.narrow(objective).noise
        * torch.randn(1000, 12)
        @ torch.linalg.pinv(span.basis).mT.float()
    )
    along = torch.linalg.qr(span.basis.mT).Q.float()
    torch.testing.assert_close((noise @ along).std(), torch.tensor(1.0), rtol=0.05, atol=0)


def test_the_whole_space_is_used_where_nothing_is_gained():
    for samples in (samples_of(60, 200, (64,)), samples_of(3, 40, (20,)), torch.ones(20, 100)):
        objective = perturbed(samples)
        span = Span.of(objective.model, samples)
        assert span.basis is None
        assert span.narrow(objective) is objective
        assert span.project(samples) is samples


def test_an_estimator_of_few_directions_reproduces_samples_of_many_values():
    samples = samples_of(6, 90, (3, 8, 8)).numpy()
    fitted = LowRankAutoencoder(n_components=6, steps=50, random_state=0).fit(samples)
    assert fitted.model_.architecture.shape == (3, 8, 8)
    assert fitted.score(samples) > 0.999
