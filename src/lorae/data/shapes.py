"""Shapes: generated images with seven known factors of variation.

One circle or square on black, 32 x 32, RGB::

    kind ~ {0: circle, 1: square},  x, y ~ U(8, 24),  size ~ U(3, 8),  r, g, b ~ U(0, 1)

``(x, y)`` is the centre in pixels from the upper left corner, ``size`` the radius, or half the
side, so that every shape lies inside its image. Pixel (i, j), whose centre is (j + 1/2, i + 1/2),
has the colour (r, g, b) if its centre lies in the shape, and is black otherwise: edges are crisp.

The set follows the IRMAE paper (Jing, Zbontar and LeCun, NeurIPS 2020), which LoRAE also uses.
Its generator is not published in a form that fixes the pixels, so these are not the same images.
"""

from collections.abc import Sequence

import numpy as np

from lorae.data.arrays import Array
from lorae.data.splits import Split

SIDE = 32
FACTORS = ("kind", "x", "y", "size", "r", "g", "b")
LOW = (0.0, 8.0, 8.0, 3.0, 0.0, 0.0, 0.0)
HIGH = (2.0, 24.0, 24.0, 8.0, 1.0, 1.0, 1.0)


def generate(n: int, seed: int | Sequence[int] = 0) -> tuple[Array, Array]:
    """Return ``n`` random images; a larger ``n`` continues the same sequence.

    Args:
        n: Number of images.
        seed: Seed, or several, of NumPy's generator.

    Returns:
        Images, n x 3 x 32 x 32 uint8, and factors, n x 7 float64, in the order of `FACTORS`.

    Example:
        >>> images, factors = generate(2)
        >>> images.shape, factors.shape
        ((2, 3, 32, 32), (2, 7))
    """
    factors = np.random.default_rng(seed).uniform(LOW, HIGH, (n, len(FACTORS)))
    factors[:, 0] = np.floor(factors[:, 0])
    images = np.empty((n, 3, SIDE, SIDE), np.uint8)
    for start in range(0, n, 4096):  # bounds the memory of the intermediate masks
        rows = slice(start, start + 4096)
        images[rows] = render(factors[rows])
    return images, factors


def render(factors: Array) -> Array:
    """Return the images of given factors: n x 7 to n x 3 x 32 x 32 uint8."""
    kind, x, y, size = (factors[:, k, None, None] for k in range(4))
    centres = np.arange(SIDE) + 0.5
    dx = np.abs(centres[None, None, :] - x)
    dy = np.abs(centres[None, :, None] - y)
    circle = dx**2 + dy**2 <= size**2
    square = (dx <= size) & (dy <= size)
    inside = np.where(kind == 1, square, circle)
    colour = np.rint(255 * factors[:, 4:]).astype(np.uint8)
    images: Array = inside[:, None] * colour[:, :, None, None]
    return images


def load(train: int = 50_000, test: int = 10_000, seed: int = 0) -> Split:
    """Return training and test images from independent streams, labelled by kind."""
    train_images, train_factors = generate(train, (seed, 0))
    test_images, test_factors = generate(test, (seed, 1))
    return Split(
        train_images,
        test_images,
        train_factors[:, 0].astype(np.int64),
        test_factors[:, 0].astype(np.int64),
    )
