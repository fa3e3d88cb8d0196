r"""Generated fields: solutions of the Kuramoto-Sivashinsky equation, and two families of curves.

The equation is :math:`u_t = -u u_x - u_{xx} - u_{xxxx}` with period L. At L = 22 its solutions are
attracted to a manifold of dimension 8 (Ding, Chaté, Cvitanović, Siminos and Takeuchi, Estimating
the dimension of an inertial manifold from unstable periodic orbits, Physical Review Letters 117,
2016). Fourier in space, and in time the exponential integrator ETDRK4 (Kassam and Trefethen,
Fourth-order time-stepping for stiff PDEs, SIAM Journal on Scientific Computing 26, 2005).
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lorae.data.arrays import Array
from lorae.data.cache import load_or_create
from lorae.data.locations import cache_folder
from lorae.data.splits import Split

LENGTH, POINTS = 22.0, 64


def integrate(u: Array, steps: int, dt: float) -> Array:
    """Return solutions of the Kuramoto-Sivashinsky equation after some steps.

    The coefficients of ETDRK4 are means over a circle in the complex plane, because their formulas
    cancel near zero.

    Args:
        u: initial values, ... x points.
        steps: number of steps.
        dt: length of a step in time.
    """
    points = u.shape[-1]
    k = 2 * np.pi / LENGTH * np.arange(points // 2 + 1)
    linear = k**2 - k**4
    z = dt * linear[:, None] + np.exp(1j * np.pi * (np.arange(1, 33) - 0.5) / 32)
    whole, half = np.exp(dt * linear), np.exp(dt * linear / 2)
    q = dt * ((np.exp(z / 2) - 1) / z).real.mean(1)
    first = dt * ((-4 - z + np.exp(z) * (4 - 3 * z + z**2)) / z**3).real.mean(1)
    middle = dt * ((2 + z + np.exp(z) * (z - 2)) / z**3).real.mean(1)
    last = dt * ((-4 - 3 * z - z**2 + np.exp(z) * (4 - z)) / z**3).real.mean(1)
    kept = k < 2 / 3 * k[-1]  # the square of other wave numbers would be aliased

    def product(v: Array) -> Array:
        term: Array = -0.5j * k * kept * np.fft.rfft(np.fft.irfft(v, points) ** 2)
        return term

    v = np.fft.rfft(u)
    for _ in range(steps):
        at_start = product(v)
        a = half * v + q * at_start
        at_a = product(a)
        b = half * v + q * at_a
        at_b = product(b)
        c = half * a + q * (2 * at_b - at_start)
        v = whole * v + first * at_start + 2 * middle * (at_a + at_b) + last * product(c)
    result: Array = np.fft.irfft(v, points)
    return result


def load(counts: tuple[int, int], seed: int) -> Split:
    """Return training and test snapshots of different solutions, n x 1 x 64, kept in the cache."""

    def write(folder: Path) -> None:
        for k, (part, n) in enumerate(zip(("train", "test"), counts, strict=True)):
            snapshots = kuramoto_sivashinsky(n, 2 * seed + k, runs=200)
            np.save(folder / f"{part}.npy", snapshots[:, None].astype(np.float32))

    name = f"kuramoto-sivashinsky-{counts[0]}-{counts[1]}-{seed}"
    return Split(**load_or_create(cache_folder() / "simulations" / name, write))  # type: ignore[arg-type]


def kuramoto_sivashinsky(n: int, seed: int = 0, *, runs: int = 40) -> Array:
    """Return n snapshots of several solutions on the attractor at L = 22, n x 64.

    Args:
        n: number of snapshots.
        seed: of the initial values.
        runs: number of solutions; the first 200 time units of each are left out, and there are 5
            between two snapshots.
    """
    x = np.arange(POINTS) / POINTS
    modes = np.stack([f(2 * np.pi * m * x) for m in (1, 2, 3) for f in (np.cos, np.sin)])
    dt, generator = 0.05, np.random.default_rng(seed)
    u = integrate(generator.normal(size=(runs, len(modes))) @ modes, round(200 / dt), dt)
    snapshots: list[Array] = []
    while len(snapshots) * runs < n:
        u = integrate(u, round(5 / dt), dt)
        snapshots.append(u)
    return np.concatenate(snapshots)[:n]


class Family(NamedTuple):
    """Curves of two parameters.

    Args:
        curves: from the parameters, n each, to n x t.
        ranges: of the two parameters.
        side: training values of each parameter, at equal distances over its range.
    """

    curves: Callable[[Array, Array], Array]
    ranges: tuple[tuple[float, float], tuple[float, float]]
    side: int


def sines(a: Array, b: Array) -> Array:
    """Return sin(a t) + sin(b t) for t from 0 to 5 pi, n x 1571."""
    t = np.arange(0, 5 * np.pi, 0.01)
    total: Array = np.sin(a[:, None] * t) + np.sin(b[:, None] * t)
    return total


def gaussians(p: Array, q: Array) -> Array:
    """Return 1.3 exp(-(t-p)^2/0.08) - 1.3 exp(-(t-q)^2/0.08) for t from 0 to 6, n x 1200.

    The minus is that of the authors' code; their text has a plus.
    """
    t = np.arange(0, 6, 0.005)
    bumps = [np.exp(-((t - centre[:, None]) ** 2) / 0.08) for centre in (p, q)]
    difference: Array = bumps[0] - bumps[1]
    return 1.3 * difference


FAMILIES = {
    "gaussians": Family(gaussians, ((1.0, 3.0), (4.0, 6.0)), 10),
    "sines": Family(sines, ((0.5 * np.pi, np.pi), (0.3 * np.pi, 0.8 * np.pi)), 15),
}
"""The families of curves of Mounayer et al., Rank Reduction Autoencoders (arXiv 2405.13980)."""
