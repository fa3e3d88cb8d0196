"""Every algorithm for the polar factor against the decomposition in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import ATOL, ATOL32, FULL_RANK, MATRICES, close, gaussian, matrices, with_spectrum
from torch import Tensor

from lorae.linalg import polar, spectral
from lorae.linalg.polar import FLOOR, POLYNOMIALS, TOLERANCE

LARGE = {
    "uniform": 2 * torch.rand(96, 96, generator=torch.Generator().manual_seed(1)).double() - 1,
    "six decades": with_spectrum(np.geomspace(1, 1e-6, 60).tolist(), 64, 72),
    "trained": with_spectrum([*np.geomspace(1, 0.2, 20), *np.geomspace(1e-4, 1e-6, 50)], 80, 80),
    "exact rank": with_spectrum(np.geomspace(1, 0.1, 24).tolist(), 96, 96),
    "tiny": 1e-30 * gaussian(32, 32),
    "huge": 1e30 * gaussian(32, 32),
}
ALL = MATRICES | LARGE

each_algorithm = pytest.mark.parametrize("algorithm", list(polar.ALGORITHMS))
every_type = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
every_matrix = pytest.mark.parametrize("A", ALL.values(), ids=ALL.keys())


def singular_values(A: Tensor) -> Tensor:
    return torch.linalg.svdvals(A.double())


def gradient(A: Tensor, algorithm: str | None) -> tuple[Tensor, Tensor]:
    A = A.clone().requires_grad_()
    norm = polar.nuclear_norm(A, algorithm)
    (grad,) = torch.autograd.grad(norm.sum(), A)
    return norm.detach(), grad


def allowed(A: Tensor, algorithm: str, dtype: torch.dtype) -> Tensor:
    """The error of the norm that the docstring of the algorithm allows, and rounding."""
    sigma = singular_values(A)
    k, largest = sigma.shape[-1], sigma[..., 0]
    epsilon = torch.finfo(dtype).eps
    rounding = 16 * k * epsilon * largest
    if algorithm == "minimax":
        return rounding + TOLERANCE * sigma.sum(-1) + k * FLOOR * k ** (1 / 8) * largest
    return rounding


@every_matrix
@each_algorithm
@every_type
def test_the_norm_is_that_of_the_decomposition_in_float64(A, algorithm, dtype):
    norm, grad = gradient(A.to(dtype), algorithm)
    error = norm.double() - singular_values(A).sum(-1)
    assert (error >= -allowed(A, algorithm, dtype)).all()
    assert (error <= allowed(A, "svd", dtype)).all()  # never above, up to rounding
    assert grad.isfinite().all() and grad.shape == A.shape
    assert torch.equal(grad, polar.polar_factor(A.to(dtype), algorithm))


@every_matrix
@each_algorithm
@every_type
def test_the_norm_of_the_factor_is_at_most_1(A, algorithm, dtype):
    """A subgradient needs no more; the smallest singular values may be mapped to less than 1."""
    P = polar.polar_factor(A.to(dtype), algorithm)
    bound = 1 + 8 * max(A.shape[-2:]) * torch.finfo(dtype).eps
    assert (singular_values(P)[..., 0] <= bound).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@each_algorithm
def test_a_matrix_that_is_not_finite_gives_nan_alone(algorithm, bad):
    A = gaussian(3, 6, 4).float()
    whole = polar.polar_factor(A, algorithm)
    for place in [(0, 0), (1, 3), (5, 2)]:
        B = A.clone()
        B[1][place] = bad
        found = polar.polar_factor(B, algorithm)
        assert found[1].isnan().all()
        close(found[[0, 2]], whole[[0, 2]], ATOL32)
        assert polar.polar_factor(B[1].mT, algorithm).isnan().all()
        assert polar.nuclear_norm(B, algorithm)[1].isnan()


@each_algorithm
@every_type
@pytest.mark.parametrize("name", [*FULL_RANK, "rank-deficient", "repeated and zero", "zero"])
def test_the_factor_is_that_of_the_decomposition(algorithm, dtype, name):
    A = MATRICES[name]
    error = polar.polar_factor(A.to(dtype), algorithm).double() - spectral.polar_factor(A)
    sigma = singular_values(A)
    least = torch.where(sigma > 1e-9, sigma, 1.0).amin()
    condition = float(sigma.amax() / least) if sigma.any() else 1.0
    rounding = 32 * torch.finfo(dtype).eps * condition
    bound = rounding + (TOLERANCE if algorithm == "minimax" else 0)
    assert torch.linalg.matrix_norm(error, ord=2).amax() <= bound


@every_matrix
@every_type
def test_the_polynomial_acts_on_the_singular_values_alone(A, dtype):
    """It keeps the singular vectors, and maps what is above the floor to 1, the rest below."""
    P = polar.polar_factor(A.to(dtype), "minimax").double()
    largest = singular_values(A)[..., :1]
    k, epsilon = min(A.shape[-2:]), torch.finfo(dtype).eps
    for a, p, top in zip(matrices(A), matrices(P), largest.flatten(), strict=True):
        U, sigma, Vh = torch.linalg.svd(a.to(dtype).double(), full_matrices=False)
        C = U.mT @ p @ Vh.mT
        f = C.diagonal()
        rounding = 100 * k * epsilon / FLOOR  # the slope of f at 0 is about 2 / FLOOR
        assert (C - torch.diag(f)).abs().amax() <= rounding
        assert ((f >= -rounding) & (f <= 1 + rounding)).all()
        counted = sigma >= FLOOR * k ** (1 / 8) * top
        if top > 0:
            assert (f[counted] - 1 >= -TOLERANCE - rounding).all()
        assert (f.diff() <= TOLERANCE + rounding).all()  # descends like sigma, to the ripple


@pytest.mark.parametrize("name", ["trained", "exact rank"])
@each_algorithm
def test_live_directions_get_their_part_of_the_factor(name, algorithm):
    """In float32; the other directions may get any part."""
    A = LARGE[name]
    U, sigma, Vh = torch.linalg.svd(A)
    live = sigma > 0.05
    P = polar.polar_factor(A.float(), algorithm).double()
    part = U[:, live].mT @ P @ Vh[live].mT
    close(part, torch.eye(int(live.sum())), TOLERANCE if algorithm == "minimax" else 1e-4)


@each_algorithm
def test_exact_zeros_stay_without_a_gradient(algorithm):
    A = LARGE["exact rank"].float()
    P = polar.polar_factor(A, algorithm).double()
    assert torch.linalg.svdvals(P)[24:].amax() <= 1e-3


@each_algorithm
def test_a_batch_is_the_loop(algorithm):
    A = gaussian(3, 4, 5)
    for function in (polar.nuclear_norm, polar.polar_factor):
        close(function(A, algorithm), torch.stack([function(a, algorithm) for a in A]))


def test_second_derivatives_are_refused_rather_than_wrong():
    A = gaussian(3, 3).requires_grad_()
    (grad,) = torch.autograd.grad(polar.nuclear_norm(A, "minimax"), A, create_graph=True)
    with pytest.raises(NotImplementedError, match="one derivative"):
        grad.square().sum().backward()


@each_algorithm
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_becomes_float32_under_autocast(algorithm, dtype):
    A = gaussian(5, 4).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        norm, grad = gradient(A, algorithm)
    assert norm.dtype == torch.float32 and grad.dtype == dtype
    expected, slope = gradient(A.float(), algorithm)
    assert torch.equal(norm, expected) and torch.equal(grad, slope.to(dtype))


@each_algorithm
def test_empty_batches_are_allowed(algorithm):
    assert polar.polar_factor(torch.zeros(0, 3, 2), algorithm).shape == (0, 3, 2)
    assert polar.nuclear_norm(torch.zeros(0, 3, 2), algorithm).shape == (0,)


def test_the_way_chosen_resolves_as_much_as_the_type_does():
    assert polar.default_algorithm(torch.zeros(4, 4)) == "svd"
    assert polar.default_algorithm(torch.zeros(4, 4, dtype=torch.float64)) == "svd"
    assert polar.default_algorithm(torch.zeros(4, 4, device="meta")) == "minimax"
    A = gaussian(6, 6)
    close(polar.nuclear_norm(A.float()), spectral.nuclear_norm(A), 10 * ATOL32)
    assert torch.equal(polar.nuclear_norm(A), spectral.nuclear_norm(A))


# The polynomials


def test_the_composition_keeps_its_tolerance_and_rises_to_it():
    def composed(x: np.ndarray) -> np.ndarray:
        for a, b, c in POLYNOMIALS:
            x = a * x + b * x**3 + c * x**5
        return x

    above = composed(np.geomspace(FLOOR, 1, 100_001))
    assert (above >= 1 - TOLERANCE).all() and (above <= 1).all()
    below = composed(np.linspace(0, FLOOR, 1001))
    assert below[0] == 0 and (np.diff(below) > 0).all()


def test_each_polynomial_is_the_best_of_its_degree():
    """Chebyshev: the error of the best approximation takes its maximum four times, alternating."""
    low, high = FLOOR, 1.0
    for a, b, c in POLYNOMIALS:
        x = np.linspace(low, high, 200_001)
        values = a * x + b * x**3 + c * x**5
        values *= 2 / (values.max() + values.min())  # the last one is divided by its maximum
        largest = np.abs(values - 1).max()
        extremes = np.flatnonzero(np.abs(values - 1) >= (1 - 1e-4) * largest)
        assert (np.diff(np.sign(values[extremes] - 1)) != 0).sum() == 3
        low, high = values.min(), values.max()


# A factor that serves for several steps


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-6, 1.0))
def test_an_earlier_factor_supports_the_norm_within_the_stated_gap(seed, distance):
    A = gaussian(6, 5, seed=seed)
    D = distance * gaussian(6, 5, seed=seed + 1)
    value = (polar.polar_factor(A, "svd") * (A + D)).sum()
    gap = spectral.nuclear_norm(A + D) - value
    assert -ATOL <= gap <= 2 * spectral.nuclear_norm(D) + ATOL
