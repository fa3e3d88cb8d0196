"""The solver of the Kuramoto-Sivashinsky equation, and curves of two parameters."""

from itertools import pairwise

import numpy as np

from lorae.data.simulations import FAMILIES, LENGTH, POINTS, integrate, kuramoto_sivashinsky


def test_small_waves_grow_at_their_linear_rates():
    """A wave of amplitude 1e-8 grows by exp((k^2 - k^4) t); its square is lost in rounding."""
    x, time = np.arange(POINTS) * LENGTH / POINTS, 2.0
    for mode in range(1, 12):
        k = 2 * np.pi * mode / LENGTH
        wave = 1e-8 * np.cos(k * x)
        found = integrate(wave, 40, time / 40)
        expected = wave * np.exp((k**2 - k**4) * time)
        np.testing.assert_allclose(found, expected, atol=1e-16, rtol=1e-9)


def test_half_the_step_has_an_error_of_less_than_an_eighth():
    """The method is of order 4, 16 times, for steps so short that the stiff waves are resolved."""
    u = kuramoto_sivashinsky(1, seed=3, runs=1)
    fine = integrate(u, 1600, 2 / 1600)
    errors = [np.abs(integrate(u, n, 2 / n) - fine).max() for n in (25, 50, 100)]
    assert errors[0] < 1e-4
    assert all(later < earlier / 8 for earlier, later in pairwise(errors))


def test_the_grid_resolves_the_solutions():
    """Twice the points give the same solution, which stays on the attractor without a mean."""
    u = kuramoto_sivashinsky(4, seed=0, runs=4)
    spectrum = np.fft.rfft(u)
    finer = np.fft.irfft(2 * spectrum, 2 * POINTS)
    a, b = integrate(u, 100, 0.05), integrate(finer, 100, 0.05)[:, ::2]
    np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(u.mean(1), 0, atol=1e-12)
    assert 1 < np.abs(u).max() < 5


def test_curves_are_those_of_the_formulas():
    for name, formula in {
        "sines": lambda a, b, t: np.sin(a * t) + np.sin(b * t),
        "gaussians": lambda p, q, t: (
            1.3 * np.exp(-((t - p) ** 2) / 0.08) - 1.3 * np.exp(-((t - q) ** 2) / 0.08)
        ),
    }.items():
        family = FAMILIES[name]
        first, second = np.array([1.6, 2.0]), np.array([1.1, 2.5])
        curves = family.curves(first, second)
        assert curves.shape == (2, {"sines": 1571, "gaussians": 1200}[name])
        t = {"sines": 0.01, "gaussians": 0.005}[name] * 700
        expected = [formula(a, b, t) for a, b in zip(first, second, strict=True)]
        np.testing.assert_allclose(curves[:, 700], expected, atol=1e-12)
