"""Mixtures and flows on the support of the codes, against scipy, scikit-learn and integrals."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture as Mixture

from lorae.errors import InputError
from lorae.sampling.densities import Density, Gaussian
from lorae.sampling.flows import Flow
from lorae.sampling.mixtures import GaussianMixture

DENSITIES = [
    GaussianMixture(1),
    GaussianMixture(4),
    GaussianMixture((1, 2, 5)),
    Flow(transforms=1, hidden=8, epochs=2),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clusters(n: int, latent: int, rank: int, k: int = 3) -> torch.Tensor:
    """Return codes in k clusters on an affine subspace, float64."""
    draw = generator(1)
    centres = 6 * torch.randn(k, rank, generator=draw, dtype=torch.float64)
    chosen = torch.randint(k, (n,), generator=draw)
    u = centres[chosen] + torch.randn(n, rank, generator=draw, dtype=torch.float64)
    mixing = torch.randn(rank, latent, generator=draw, dtype=torch.float64)
    return u @ mixing + torch.arange(latent)


@pytest.mark.parametrize("density", DENSITIES, ids=lambda d: type(d).__name__)
@pytest.mark.parametrize(("latent", "rank"), [(2, 2), (5, 2), (3, 1), (6, 3)])
class TestEveryDensity:
    def test_keeps_the_contract(self, density: Density, latent: int, rank: int):
        codes = clusters(300, latent, rank).float()
        assert density.fit(codes) is density
        found = density.sample(17, generator())
        assert found.shape == (17, latent)
        assert found.dtype == torch.float32
        assert torch.equal(found, density.sample(17, generator()))
        assert not torch.equal(found, density.sample(17, generator(1)))
        assert density.sample(0).shape == (0, latent)
        logarithm = density.log_prob(found)
        assert logarithm.dtype == torch.float64
        assert logarithm.isfinite().all()

    def test_does_not_leave_the_support(self, density: Density, latent: int, rank: int):
        codes = clusters(300, latent, rank)
        drawn = density.fit(codes).sample(50, generator())
        centred = torch.cat([codes, drawn]) - codes.mean(0)
        sigma = torch.linalg.svdvals(centred)
        assert int((sigma > 1e-6 * sigma[0]).sum()) == rank
        if rank < latent:
            off = drawn + 10 * torch.randn(latent, generator=generator(), dtype=torch.float64)
            assert (density.log_prob(off) == -torch.inf).all()

    def test_gives_the_same_from_the_global_generator(self, density, latent, rank):
        density.fit(clusters(300, latent, rank))
        drawn = []
        for _ in range(2):
            torch.manual_seed(7)
            drawn.append(density.sample(5))
        assert torch.equal(*drawn)


@pytest.mark.parametrize("density", DENSITIES, ids=lambda d: type(d).__name__)
def test_the_density_integrates_to_one(density: Density):
    codes = clusters(400, 1, 1)
    density.fit(codes)
    low, high = codes.min() - 60, codes.max() + 60
    axis = torch.linspace(float(low), float(high), 40_001, dtype=torch.float64)
    mass = density.log_prob(axis[:, None]).exp().sum() * (axis[1] - axis[0])
    assert mass.item() == pytest.approx(1, abs=2e-3)


def test_a_density_that_was_not_fitted_is_refused():
    for density in (Gaussian(), GaussianMixture(2), Flow()):
        with pytest.raises(InputError, match="has not been fitted"):
            density.sample(0)
        with pytest.raises(InputError, match="has not been fitted"):
            density.log_prob(torch.zeros(1, 2))


def test_one_component_is_the_gaussian():
    codes = clusters(500, 4, 3)
    mixture, gaussian = GaussianMixture(1).fit(codes), Gaussian().fit(codes)
    # scikit-learn divides by n, and adds 1e-6 to the variances of whitened codes
    np.testing.assert_allclose(mixture.log_prob(codes), gaussian.log_prob(codes), atol=3e-2)


def test_a_mixture_is_that_of_scipy_in_the_codes_own_space():
    codes = clusters(600, 3, 3)
    found = GaussianMixture(3).fit(codes)
    mean, spread = found.mean_.numpy(), (found.directions_ * found.variances_.sqrt()).numpy()
    state, z = (found.weights_, found.means_, found.covariances_), codes.numpy()
    parts = [
        np.log(w) + multivariate_normal(mean + spread @ m, spread @ S @ spread.T).logpdf(z)
        for w, m, S in zip(*(x.numpy() for x in state), strict=True)
    ]
    np.testing.assert_allclose(found.log_prob(codes), logsumexp(parts, 0), rtol=1e-9)


def test_a_mixture_is_about_as_likely_as_scikit_learns():
    codes = clusters(600, 3, 3)
    other = Mixture(3, random_state=0).fit(codes.numpy())
    assert GaussianMixture(3).fit(codes).log_prob(codes).mean().item() == pytest.approx(
        other.score(codes.numpy()), abs=0.02
    )


def test_samples_have_the_moments_of_the_codes():
    codes = clusters(2000, 4, 2)
    drawn = GaussianMixture(3).fit(codes).sample(40_000, generator())
    scale = codes.std(0).max().item()
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=0.03 * scale, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), codes.T.cov(), atol=0.05 * scale**2, rtol=0)


def test_the_number_of_components_is_chosen_on_held_out_codes():
    codes = clusters(900, 2, 2, k=3)
    assert GaussianMixture((1, 2, 3)).fit(codes).components_ == 3
    normal = torch.randn(300, 2, generator=generator(), dtype=torch.float64)
    assert GaussianMixture((1, 8)).fit(normal).components_ == 1


def test_codes_that_are_all_the_same_are_a_point():
    codes = torch.ones(30, 3)
    for density in (GaussianMixture(2), Flow()):
        density.fit(codes)
        assert torch.equal(density.sample(2), codes[:2])
        assert density.log_prob(codes[:1]).item() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianMixture(0), "components must be at least 1, got 0"),
        (lambda: GaussianMixture(()), "components must be at least 1"),
        (
            lambda: GaussianMixture(2, regularization=0.0),
            "must be finite, greater than 0",
        ),
        (lambda: Flow(transforms=0), "transforms must be finite, at least 1, got 0"),
        (lambda: GaussianMixture(30).fit(clusters(30, 2, 2)), "fewer than the codes, .* 30 for 30"),
    ],
)
def test_what_cannot_be_fitted_is_told(make, message):
    with pytest.raises(InputError, match=message):
        make()
