"""Shapes: generated images with seven known factors of variation.

One circle or square on black, 32 x 32, RGB, with independent factors::

    kind ~ {0: circle, 1: square},  x, y ~ {8, ..., 24},  size ~ {3, ..., 8},  r, g, b ~ U(0, 1)

A circle has the centre (x, y) and the radius ``size``; its pixels are those of the midpoint circle
algorithm. A square has the corners (x, y) and (x + size, y + size), both included, so its side is
``size + 1`` pixels; what lies outside the image is cut off.

These are the images of the IRMAE paper (Jing, Zbontar and LeCun, NeurIPS 2020), which LoRAE also
uses: its authors draw them by ``cv2.circle`` and ``cv2.rectangle``. Their random numbers differ.
"""

from collections.abc import Sequence

import numpy as np

from lorae.data.arrays import Array
from lorae.data.splits import Split

SIDE = 32
FACTORS = ("kind", "x", "y", "size", "r", "g", "b")
LOW, HIGH = (0, 8, 8, 3), (1, 24, 24, 8)
"""The ranges of the first four factors, which are integers; both ends are included."""


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
    generator = np.random.default_rng(seed)
    factors = generator.random((n, len(FACTORS)))  # one call, so that a longer draw continues
    low, high = np.array(LOW), np.array(HIGH)
    factors[:, :4] = low + np.floor(factors[:, :4] * (high - low + 1))
    images = np.empty((n, 3, SIDE, SIDE), np.uint8)
    for start in range(0, n, 4096):  # bounds the memory of the intermediate masks
        rows = slice(start, start + 4096)
        images[rows] = render(factors[rows])
    return images, factors


def render(factors: Array) -> Array:
    """Return the images of given factors: n x 7 to n x 3 x 32 x 32 uint8."""
    kind, x, y, size = (factors[:, k, None, None].astype(np.int64) for k in range(4))
    pixels = np.arange(SIDE)
    dx, dy = pixels[None, None, :] - x, pixels[None, :, None] - y
    circle = np.abs(dx) <= _HALF_WIDTHS[size, np.minimum(np.abs(dy), HIGH[3] + 1)]
    square = (dx >= 0) & (dx <= size) & (dy >= 0) & (dy <= size)
    inside = np.where(kind == 1, square, circle)
    colour = np.rint(255 * factors[:, 4:]).astype(np.uint8)
    images: Array = inside[:, None] * colour[:, :, None, None]
    return images


def _half_widths(radius: int) -> Array:
    """Return half the width of each row of a disc from its centre on, and -1 below the disc."""
    widths = np.full(HIGH[3] + 2, -1)
    x, y, error = radius, 0, 0  # error is the excess of x^2 + y^2 over radius^2, halfway inwards
    while x >= y:
        widths[y], widths[x] = x, max(widths[x], y)
        error += 2 * y + 1
        y += 1
        if error > 0:
            error -= 2 * x - 1
            x -= 1
    return widths


_HALF_WIDTHS = np.stack([_half_widths(radius) for radius in range(HIGH[3] + 1)])


def load(counts: tuple[int, int], seed: int) -> Split:
    """Return training and test images from independent streams, labelled by kind."""
    images, factors = zip(*(generate(n, (seed, k)) for k, n in enumerate(counts)), strict=True)
    return Split(*images, *(one[:, 0].astype(np.int64) for one in factors))
