"""The densities by name, and what a model's codes are drawn from by default."""

import pytest
import torch

from lorae.errors import InputError
from lorae.nn.autoencoder import Architecture, Autoencoder, build
from lorae.sampling.densities import Gaussian, Prior
from lorae.sampling.mixtures import GaussianMixture
from lorae.sampling.registry import DENSITIES, density_for, fit_density


def model() -> Autoencoder:
    return build(Architecture("mlp", (6,), 4)).eval()


@pytest.fixture
def vae() -> Autoencoder:
    found = model()
    found.prior = True
    return found


def test_the_densities_are_what_their_names_say(vae):
    assert isinstance(density_for(vae, "gaussian"), Gaussian)
    for name, components in (("mixture-4", [4]), ("mixture-10", [10])):
        density = density_for(vae, name)
        assert isinstance(density, GaussianMixture)
        assert density.components == components
    assert density_for(vae, "prior").directions.shape == (4, 4)


def test_the_default_is_the_prior_where_there_is_one(vae):
    assert isinstance(density_for(model()), Gaussian)
    assert isinstance(density_for(vae), Prior)


@pytest.mark.parametrize("name", DENSITIES)
def test_only_a_prior_asks_for_no_codes(name, vae):
    codes = torch.randn(80, 4, generator=torch.Generator().manual_seed(0))
    asked = []
    density = fit_density(vae, lambda: asked.append(name) or codes, name)
    assert density.sample(3).shape == (3, 4)
    assert asked == ([] if name == "prior" else [name])


def test_names_that_are_refused():
    with pytest.raises(InputError, match=r"unknown density 'gausian' \(did you mean 'gaussian'"):
        density_for(model(), "gausian")
    with pytest.raises(InputError, match="not trained to a prior"):
        density_for(model(), "prior")
