"""The contract of every density, and the Gaussian against scipy and on codes of low rank.

Tolerances: scipy inverts the same float64 covariance by the same decomposition, so the log
densities differ only by rounding (1e-9 of terms of order ten). The moments of n samples err by
about n^(-1/2) of themselves, so 5e-2 for 20,000.
"""

import math

import numpy as np
import pytest
import torch
from codes import clusters, codes_of_rank, generator
from scipy.stats import multivariate_normal

from lorae.errors import InputError
from lorae.sampling.densities import Gaussian, Prior
from lorae.sampling.flows import Flow
from lorae.sampling.mixtures import GaussianMixture

DENSITIES = [
    Gaussian(),
    GaussianMixture(1),
    GaussianMixture(4),
    GaussianMixture((1, 2, 5)),
    Flow(transforms=1, hidden=8, epochs=2),
]
PRIORS = [Prior(torch.eye(5)), Prior(torch.eye(5)[:, [3, 1]])]


@pytest.mark.parametrize("density", DENSITIES, ids=lambda d: type(d).__name__)
@pytest.mark.parametrize(("latent", "rank"), [(2, 2), (5, 2), (3, 1), (6, 3)])
class TestEveryDensity:
    def test_satisfies_the_contract(self, density, latent, rank):
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

    def test_samples_stay_on_the_support(self, density, latent, rank):
        codes = clusters(300, latent, rank)
        drawn = density.fit(codes).sample(50, generator())
        centred = torch.cat([codes, drawn]) - codes.mean(0)
        sigma = torch.linalg.svdvals(centred)
        assert int((sigma > 1e-6 * sigma[0]).sum()) == rank
        if rank < latent:
            off = drawn + 10 * torch.randn(latent, generator=generator(), dtype=torch.float64)
            assert (density.log_prob(off) == -torch.inf).all()

    def test_samples_depend_on_the_global_generator_by_default(self, density, latent, rank):
        density.fit(clusters(300, latent, rank))
        drawn = []
        for _ in range(2):
            torch.manual_seed(7)
            drawn.append(density.sample(5))
        assert torch.equal(*drawn)


@pytest.mark.parametrize("density", DENSITIES, ids=lambda d: type(d).__name__)
def test_the_density_integrates_to_one(density):
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


def test_identical_codes_are_a_point():
    codes = torch.ones(30, 3)
    for density in (GaussianMixture(2), Flow()):
        density.fit(codes)
        assert torch.equal(density.sample(2), codes[:2])
        assert density.log_prob(codes[:1]).item() == 0


@pytest.mark.parametrize("density", PRIORS, ids=lambda d: type(d).__name__)
def test_priors_satisfy_the_contract(density):
    codes = codes_of_rank(3, 5, dtype=torch.float32)
    assert density.fit(codes) is density
    samples = density.sample(17, generator())
    assert samples.shape == (17, 5)
    assert samples.dtype == torch.float32
    assert torch.equal(samples, density.sample(17, generator()))
    assert not torch.equal(samples, density.sample(17, generator(1)))
    assert density.sample(0).shape == (0, 5)
    log_prob = density.log_prob(samples)
    assert log_prob.shape == (17,)
    assert log_prob.dtype == torch.float64
    assert log_prob.isfinite().all()


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_moments_are_recovered(rank):
    codes = codes_of_rank(rank, 6)
    fitted = Gaussian().fit(codes)
    np.testing.assert_allclose(fitted.mean_, codes.mean(0), atol=1e-12)
    rebuilt = fitted.directions_ @ fitted.variances_.diag() @ fitted.directions_.mT
    np.testing.assert_allclose(rebuilt, np.cov(codes.numpy(), rowvar=False), atol=1e-12)
    samples = fitted.sample(20_000, generator())
    np.testing.assert_allclose(samples.mean(0), codes.mean(0), rtol=5e-2, atol=5e-2)
    np.testing.assert_allclose(np.cov(samples.numpy(), rowvar=False), rebuilt, rtol=5e-2, atol=5e-2)


@pytest.mark.parametrize(("rank", "dimension"), [(6, 6), (3, 6), (1, 4), (1, 1)])
def test_parity_with_scipy(rank, dimension):
    codes = codes_of_rank(rank, dimension)
    reference = multivariate_normal(
        codes.mean(0).numpy(), np.cov(codes.numpy(), rowvar=False), allow_singular=True
    )
    fitted = Gaussian().fit(codes)
    assert fitted.rank == rank
    points = fitted.sample(50, generator())
    np.testing.assert_allclose(
        fitted.log_prob(points), reference.logpdf(points.numpy()), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_support_of_low_rank_codes(dtype):
    codes = codes_of_rank(3, 32, dtype=dtype)
    fitted = Gaussian().fit(codes)
    assert fitted.rank == 3
    assert (fitted.variances_[3:] == 0).all()
    assert fitted.log_prob(codes).isfinite().all()
    away = fitted.directions_[:, 3:].double()
    samples = fitted.sample(1000, generator()).double()
    # Rounding of codes of order 32 in their own type.
    assert ((samples - fitted.mean_) @ away).abs().max() < 100 * torch.finfo(dtype).eps
    off = codes + 0.1 * away[:, 0].to(dtype)
    assert (fitted.log_prob(off) == -math.inf).all()


def test_threshold_decides_what_is_kept():
    codes = codes_of_rank(6, 6)
    kept = [Gaussian(threshold=t).fit(codes).rank for t in (0.0, 1e-3, 0.5)]
    assert kept[0] == 6
    assert kept[0] > kept[1] > kept[2] >= 1


def test_tolerance_is_relative_to_the_largest_deviation():
    line = torch.tensor([[-100.0, 0.0], [100.0, 0.0]], dtype=torch.float64)
    fitted = Gaussian(tolerance=1e-2).fit(line)
    deviation = math.sqrt(20_000)
    near = torch.tensor([[0.0, 0.009 * deviation], [0.0, 0.011 * deviation]], dtype=torch.float64)
    assert fitted.log_prob(near).isfinite().tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constant_codes(dtype):
    point = torch.tensor([0.1, -1e4, 3.3], dtype=dtype)
    fitted = Gaussian().fit(point.expand(50, 3))
    assert fitted.rank == 0
    np.testing.assert_allclose(fitted.sample(4), point.expand(4, 3), rtol=1e-6)
    assert fitted.log_prob(torch.stack([point, point + 1])).tolist() == [0.0, -math.inf]


def test_fitting_again_replaces_the_first_fit():
    fitted = Gaussian().fit(codes_of_rank(2, 4))
    fitted.fit(codes_of_rank(5, 7))
    assert fitted.rank == 5
    assert fitted.sample(1).shape == (1, 7)


@pytest.mark.parametrize(
    ("codes", "says"),
    [
        (torch.zeros(0, 3), "at least 2"),
        (torch.zeros(1, 3), "at least 2"),
        (torch.zeros(3, 0), "shape"),
        (torch.tensor([[0.0], [math.nan]]), "finite"),
    ],
)
def test_invalid_codes_are_refused(codes, says):
    with pytest.raises(InputError, match=says):
        Gaussian().fit(codes)


def test_invalid_arguments_are_refused():
    with pytest.raises(InputError, match="fit"):
        Gaussian().sample(1)
    with pytest.raises(InputError, match="threshold"):
        Gaussian(threshold=1.0)
    with pytest.raises(InputError, match="tolerance"):
        Gaussian(tolerance=-1.0)
    fitted = Gaussian().fit(codes_of_rank(2, 4))
    with pytest.raises(InputError, match="n must be at least 0, got -1"):
        fitted.sample(-1)
    with pytest.raises(InputError, match=r"\(n, 4\)"):
        fitted.log_prob(torch.zeros(2, 5))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_prior_is_the_standard_normal_on_its_directions(rank):
    V = torch.linalg.qr(torch.randn(3, rank, generator=generator(), dtype=torch.float64))[0]
    prior = Prior(V)
    reference = multivariate_normal(np.zeros(3), (V @ V.T).numpy(), allow_singular=True)
    codes = prior.sample(20_000, generator(1))
    np.testing.assert_allclose(prior.log_prob(codes[:50]), reference.logpdf(codes[:50].numpy()))
    np.testing.assert_allclose(np.cov(codes.numpy(), rowvar=False), V @ V.T, atol=5e-2)
    if rank < 3:
        off = torch.linalg.svd(V.T)[2][-1]
        assert prior.log_prob(codes[:1] + 0.1 * off).item() == -math.inf
    with pytest.raises(InputError, match="n must be at least 0, got -1"):
        prior.sample(-1)


@pytest.mark.parametrize("density", [*DENSITIES, *PRIORS], ids=lambda d: type(d).__name__)
def test_the_log_density_of_nan_is_nan(density):
    codes = codes_of_rank(3, 5)
    points = codes[:3].clone()
    points[1, 2] = math.nan
    logarithm = density.fit(codes).log_prob(points)
    assert logarithm.isnan().tolist() == [False, True, False]
