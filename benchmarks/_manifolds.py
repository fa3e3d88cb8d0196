r"""Sets of known dimension, for estimates of dimension and for reconstruction.

A manifold of dimension d is embedded in :math:`R^D` by a random smooth map,

.. math:: x \mapsto B \tanh(A x + b) + C x,

with normal entries and D at least twice the number of columns of x, so that no coordinate of the
result is one of the manifold's. Every generator takes the number of samples and a random generator.
"""

import numpy as np
from numpy.random import Generator

from lorae.errors import InputError

AMBIENT = 20
"""D, the number of values of an embedded sample."""

Array = np.ndarray


def sphere(n: int, dimension: int, generator: Generator) -> Array:
    """Return uniform points on the sphere of a dimension, with one more coordinate.

    Example:
        >>> points = sphere(5, 2, np.random.default_rng(0))
        >>> np.allclose(np.linalg.norm(points, axis=1), 1)
        True
    """
    points = generator.normal(size=(n, dimension + 1))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def embed(points: Array, generator: Generator) -> Array:
    """Return points under a random smooth embedding into 20 dimensions.

    Raises:
        InputError: if the points have more than 10 coordinates.
    """
    inside = points.shape[1]
    if 2 * inside > AMBIENT:
        raise InputError(f"points must have at most {AMBIENT // 2} coordinates, got {inside}")
    shapes = ((inside, AMBIENT), (AMBIENT,), (AMBIENT, AMBIENT), (inside, AMBIENT))
    A, b, B, C = (generator.normal(size=shape) for shape in shapes)
    return np.tanh(points @ A + b) @ B / AMBIENT**0.5 + points @ C


def swiss_roll(n: int, generator: Generator) -> Array:
    """Return points of a rolled-up sheet, about unit size in each direction."""
    t = 1.5 * np.pi * (1 + 2 * generator.uniform(size=n))
    height = generator.uniform(-1, 1, size=n)
    return np.stack([t * np.cos(t) / 10, height, t * np.sin(t) / 10], 1)


def s_curve(n: int, generator: Generator) -> Array:
    """Return points of a sheet bent to an S, about unit size in each direction."""
    t = 3 * np.pi * (generator.uniform(size=n) - 0.5)
    height = generator.uniform(-1, 1, size=n)
    return np.stack([np.sin(t), height, np.sign(t) * (np.cos(t) - 1)], 1)


def torus(n: int, generator: Generator) -> Array:
    """Return points of a torus of radii 1 and 0.4, uniform in its two angles."""
    around, across = generator.uniform(0, 2 * np.pi, size=(2, n))
    radius = 1 + 0.4 * np.cos(across)
    return np.stack([radius * np.cos(around), radius * np.sin(around), 0.4 * np.sin(across)], 1)


def rotating_object(n: int, generator: Generator, side: int = 16) -> Array:
    """Return images n x side x side of an asymmetric object at random angles, a closed loop."""
    angle = generator.uniform(0, 2 * np.pi, size=n)
    image = np.zeros((n, side, side))
    for radius, turn, size in ((0.5, 0.0, 0.25), (0.35, 2.1, 0.18), (0.6, 3.9, 0.12)):
        image += spots(radius * np.cos(angle + turn), radius * np.sin(angle + turn), size, side)
    return image.clip(0, 1)


def moving_spot(n: int, generator: Generator, side: int = 16) -> Array:
    """Return images n x side x side of one spot at random places of a square."""
    x, y = generator.uniform(-0.6, 0.6, size=(2, n))
    return spots(x, y, 0.2, side)


def spots(x: Array, y: Array, size: float, side: int) -> Array:
    """Return images of Gaussian spots at places in [-1, 1] x [-1, 1]."""
    axis = np.linspace(-1, 1, side)
    horizontal = np.exp(-((axis - x[:, None]) ** 2) / (2 * size**2))
    vertical = np.exp(-((axis - y[:, None]) ** 2) / (2 * size**2))
    return vertical[:, :, None] * horizontal[:, None, :]


def factors(  # 5 in 20 columns are the controls of docs/estimator.md
    n: int,
    generator: Generator,
    *,
    rank: int = 5,
    columns: int = 20,
    noise: float = 0.1,
    curved: bool = False,
) -> Array:
    """Return normal factors mixed into columns, through tanh or not, plus noise.

    Args:
        n: number of samples.
        generator: of everything.
        rank: number of factors.
        columns: number of columns.
        noise: its standard deviation, as a share of each column's.
        curved: whether columns are tanh of their mixture.
    """
    mixed = generator.normal(size=(n, rank)) @ generator.normal(size=(rank, columns))
    signal = np.tanh(mixed) if curved else mixed
    return signal + noise * signal.std(0) * generator.normal(size=signal.shape)
