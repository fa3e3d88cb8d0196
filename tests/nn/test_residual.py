"""Laws of the linear path: it is PCA to start with, and training can leave it."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris, load_wine
from sklearn.decomposition import PCA
from torch import Tensor, nn

from lorae.errors import InputError
from lorae.nn import networks
from lorae.nn.residual import (
    AddCorrection,
    AppendFeatures,
    decoder,
    encoder,
    principal_axes,
    start_from_components,
)

HIDDEN = 8
SAMPLES = {
    "iris": load_iris().data,
    "wine": load_wine().data,
    "fewer than values": load_wine().data[:6],
    "of rank 2": np.random.default_rng(0).normal(size=(40, 2)) @ np.ones((2, 5)) + 3,
    "with a constant column": np.pad(load_iris().data, [(0, 0), (0, 1)], constant_values=7.0),
    "two": load_iris().data[:2],
}


def started(samples: Tensor, latent: int) -> tuple[nn.Sequential, nn.Sequential]:
    d = samples.shape[1]
    pair = encoder((d,), HIDDEN, latent).double(), decoder(latent, HIDDEN, (d,)).double()
    start_from_components(*pair, principal_axes(samples - samples.mean(0), latent)[0])
    return pair


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("latent", [1, 2, 4])
def test_it_starts_as_principal_component_analysis(name, latent):
    x = torch.from_numpy(SAMPLES[name])
    x = x - x.mean(0)
    to, back = started(x, latent)
    z = to(x)
    # What scikit-learn can fit: no more components than samples or values.
    pca = PCA(min(latent, *x.shape)).fit(x.numpy())
    scale = float(x.abs().max())  # float64 of numbers up to this
    expected = pca.inverse_transform(pca.transform(x.numpy()))
    np.testing.assert_allclose(back(z).detach().numpy(), expected, rtol=0, atol=1e-12 * scale)
    variances = principal_axes(x, latent)[1].square().numpy()
    found = np.pad(pca.singular_values_**2 / len(x), (0, latent - len(pca.singular_values_)))
    np.testing.assert_allclose(variances, found, rtol=1e-10, atol=1e-12 * scale**2)
    np.testing.assert_allclose(
        z.var(0, correction=0).detach().numpy(), found, rtol=1e-10, atol=1e-12 * scale**2
    )


@pytest.mark.parametrize("name", ["iris", "two", "one"])
def test_with_as_many_codes_as_values_any_sample_comes_back(name):
    to, back = started(torch.from_numpy(SAMPLES["iris"][: {"two": 2, "one": 1}.get(name)]), 4)
    x = 10 * torch.randn(20, 4, dtype=torch.float64)
    torch.testing.assert_close(back(to(x)), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SAMPLES)
def test_its_axes_are_orthonormal_where_samples_have_fewer_too(name):
    to, _ = started(torch.from_numpy(SAMPLES[name]), 4)
    axes = to[1].weight[:, : SAMPLES[name].shape[1]]
    torch.testing.assert_close(axes @ axes.mT, torch.eye(4).double(), rtol=0, atol=1e-12)


def test_its_memory_grows_with_the_samples_and_not_with_their_square():
    x = torch.randn(3000, 3, dtype=torch.float64)
    with torch.profiler.profile(profile_memory=True) as profile:
        started(x, 2)
    taken = max(event.cpu_memory_usage for event in profile.events())
    assert taken <= 10 * x.nbytes  # a square matrix of samples would be 1000 of them


def test_samples_of_any_shape_are_flattened_and_returned_in_their_shape():
    x = torch.randn(5, 2, 3, 4)
    to, back = encoder((2, 3, 4), HIDDEN, 3), decoder(3, HIDDEN, (2, 3, 4))
    assert to(x).shape == (5, 3)
    assert back(to(x)).shape == x.shape


def test_training_reaches_every_part_but_what_lies_behind_a_zero():
    """The layers before a zero weight start to move when that weight has."""
    x = torch.from_numpy(SAMPLES["iris"])
    to, back = started(x, 2)
    optimizer = torch.optim.SGD([*to.parameters(), *back.parameters()], lr=1e-3)
    moved = {}
    for step in range(2):
        optimizer.zero_grad()
        (back(to(x)) - x).square().mean().backward()
        for part, network in (("encoder", to), ("decoder", back)):
            for name, parameter in network.named_parameters():
                if parameter.grad is not None and bool(parameter.grad.any()):
                    moved.setdefault(f"{part}.{name}", step)
        optimizer.step()
    everything = {f"encoder.{n}" for n, _ in to.named_parameters()} | {
        f"decoder.{n}" for n, _ in back.named_parameters()
    }
    assert set(moved) == everything
    assert moved["decoder.1.correction.3.weight"] == 0
    assert moved["encoder.0.features.0.weight"] == moved["decoder.1.correction.1.weight"] == 1


def test_the_parts_are_what_their_formulas_say():
    x, v = torch.randn(5, 3), torch.randn(5, 4)
    f = nn.Linear(3, 4)
    torch.testing.assert_close(AppendFeatures(f)(x), torch.cat([x, f(x)], 1))
    g = nn.Linear(4, 3)
    torch.testing.assert_close(AddCorrection(3, g)(torch.cat([x, v], 1)), x + g(v))


def test_networks_without_a_linear_path_are_refused():
    for pair in (
        networks.fully_connected((4,), 2),
        (encoder((4,), HIDDEN, 2), networks.fully_connected((4,), 2).decoder),
    ):
        before = nn.utils.parameters_to_vector(pair[0].parameters()).clone()
        with pytest.raises(InputError, match="linear path"):
            start_from_components(*pair, principal_axes(torch.randn(9, 4), 2)[0].float())
        assert torch.equal(nn.utils.parameters_to_vector(pair[0].parameters()), before)


def test_the_start_leaves_what_is_not_its_own():
    """The layers of f and g keep the weights they were drawn with."""
    torch.manual_seed(0)
    fresh = encoder((4,), HIDDEN, 2), decoder(2, HIDDEN, (4,))
    torch.manual_seed(0)
    pair = encoder((4,), HIDDEN, 2), decoder(2, HIDDEN, (4,))
    start_from_components(*pair, principal_axes(torch.randn(9, 4), 2)[0].float())
    torch.testing.assert_close(pair[0][0].state_dict(), fresh[0][0].state_dict())
    last = math.prod(fresh[1][1].correction[3].weight.shape)
    assert torch.equal(pair[1][1].correction[1].weight, fresh[1][1].correction[1].weight)
    assert int((pair[1][1].correction[3].weight == 0).sum()) == last


def test_axes_of_a_single_sample_are_random_and_of_no_deviation():
    axes, deviations = principal_axes(torch.zeros(1, 3), 2)
    torch.testing.assert_close(axes @ axes.mT, torch.eye(2).double())
    assert deviations.tolist() == [0, 0]
