r"""Fields on a grid: solutions of the Kuramoto-Sivashinsky equation and two families of curves.

The equation is :math:`u_t = -u u_x - u_{xx} - u_{xxxx}` with period L. At L = 22 its solutions are
attracted to a manifold of dimension 8 (Ding, Chaté, Cvitanović, Siminos and Takeuchi, Estimating
the dimension of an inertial manifold from unstable periodic orbits, Physical Review Letters 117,
2016). Fourier in space, and in time the exponential integrator ETDRK4 (Kassam and Trefethen,
Fourth-order time-stepping for stiff PDEs, SIAM Journal on Scientific Computing 26, 2005).
"""

import numpy as np
from numpy.random import Generator

from lorae.data.cache import load_or_create
from lorae.data.locations import cache_folder

Array = np.ndarray
LENGTH = 22.0
POINTS = 64


def wave_numbers(length: float = LENGTH, points: int = POINTS) -> Array:
    """Return the wave numbers of the real Fourier transform of a periodic grid."""
    return 2 * np.pi / length * np.arange(points // 2 + 1)


def integrate(u: Array, steps: int, dt: float, length: float = LENGTH) -> Array:
    """Return solutions after some steps, from initial values u, ... x points.

    The coefficients of ETDRK4 are means over a circle in the complex plane, because their formulas
    cancel near zero.
    """
    k = wave_numbers(length, u.shape[-1])
    linear = k**2 - k**4
    circle = np.exp(1j * np.pi * (np.arange(1, 33) - 0.5) / 32)
    z = dt * linear[:, None] + circle
    whole, half = np.exp(dt * linear), np.exp(dt * linear / 2)
    q = dt * ((np.exp(z / 2) - 1) / z).real.mean(1)
    first = dt * ((-4 - z + np.exp(z) * (4 - 3 * z + z**2)) / z**3).real.mean(1)
    middle = dt * ((2 + z + np.exp(z) * (z - 2)) / z**3).real.mean(1)
    last = dt * ((-4 - 3 * z - z**2 + np.exp(z) * (4 - z)) / z**3).real.mean(1)
    kept = k < 2 / 3 * k[-1]  # the square of other wave numbers would be aliased

    def product(v: Array) -> Array:
        return -0.5j * k * kept * np.fft.rfft(np.fft.irfft(v, u.shape[-1]) ** 2)

    v = np.fft.rfft(u)
    for _ in range(steps):
        at_start = product(v)
        a = half * v + q * at_start
        at_a = product(a)
        b = half * v + q * at_a
        at_b = product(b)
        c = half * a + q * (2 * at_b - at_start)
        v = whole * v + first * at_start + 2 * middle * (at_a + at_b) + last * product(c)
    return np.fft.irfft(v, u.shape[-1])


def simulate(n: int, generator: Generator, *, runs: int = 40, apart: float = 5.0) -> Array:
    """Return n snapshots, n x 64, of several solutions on the attractor.

    Args:
        n: number of snapshots.
        generator: of the initial values.
        runs: number of solutions; the first 200 time units of each are left out.
        apart: time units between the snapshots of one solution.
    """
    x = np.arange(POINTS) / POINTS
    modes = np.stack([f(2 * np.pi * m * x) for m in (1, 2, 3) for f in (np.cos, np.sin)])
    dt = 0.05
    u = integrate(generator.normal(size=(runs, len(modes))) @ modes, round(200 / dt), dt)
    snapshots = []
    while len(snapshots) * runs < n:
        u = integrate(u, round(apart / dt), dt)
        snapshots.append(u)
    return np.concatenate(snapshots)[:n]


def kuramoto_sivashinsky(n: int, seed: int) -> Array:
    """Return the snapshots of a seed, which are kept in the cache."""

    def write(folder) -> None:  # noqa: ANN001
        np.save(folder / "snapshots.npy", simulate(n, np.random.default_rng(seed)))

    entry = cache_folder() / "benchmarks" / f"kuramoto-sivashinsky-{n}-{seed}"
    return np.array(load_or_create(entry, write)["snapshots"])


def sines(n: int, generator: Generator) -> Array:
    """Return sin(a t) + sin(b t), a in [0.5 pi, pi] and b in [0.3 pi, 0.8 pi], n x 1571.

    These and the Gaussians are the two-parameter families of arXiv 2405.13980, with parameters at
    random in the paper's ranges instead of its grid.
    """
    t = np.arange(0, 5 * np.pi, 0.01)
    a = generator.uniform(0.5 * np.pi, np.pi, size=(n, 1))
    b = generator.uniform(0.3 * np.pi, 0.8 * np.pi, size=(n, 1))
    return np.sin(a * t) + np.sin(b * t)


def gaussians(n: int, generator: Generator) -> Array:
    """Return 1.3 exp(-(t-p)^2/0.08) - 1.3 exp(-(t-q)^2/0.08), p in [1, 3], q in [4, 6], n x 1200.

    The minus is that of the authors' code; their text has a plus.
    """
    t = np.arange(0, 6, 0.005)
    p, q = generator.uniform(1, 3, size=(n, 1)), generator.uniform(4, 6, size=(n, 1))
    return 1.3 * (np.exp(-((t - p) ** 2) / 0.08) - np.exp(-((t - q) ** 2) / 0.08))
