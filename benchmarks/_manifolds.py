r"""Manifolds of known dimension, for testing estimates of dimension.

A manifold of dimension d is embedded in :math:`R^D` by a random smooth map,

.. math:: x \mapsto B \tanh(A x + b) + C x,

with normal entries and D at least twice the number of columns of x, so that no coordinate of the
result is one of the manifold's. An autoencoder needs as many codes as the smallest Euclidean space
into which the manifold embeds has dimensions: a circle has dimension 1 and needs 2 codes, because
it cannot be embedded in a line, and a sphere of dimension d needs d + 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lorae.errors import InputError

AMBIENT = 20
"""D, the number of values of an embedded sample."""


class Manifold(NamedTuple):
    """A set of known dimension.

    Args:
        dimension: d.
        needs: codes that a continuous encoder and decoder need.
        draw: n samples by a generator, n x D or n x c x h x w.
    """

    dimension: int
    needs: int
    draw: Callable[[int, np.random.Generator], Tensor]


def sphere(n: int, dimension: int, generator: np.random.Generator) -> Float[Tensor, "n e"]:
    """Return uniform points on the sphere of a dimension, with one more coordinate.

    Example:
        >>> points = sphere(5, 2, np.random.default_rng(0))
        >>> torch.allclose(points.norm(dim=1), torch.ones(5))
        True
    """
    points = torch.from_numpy(generator.normal(size=(n, dimension + 1))).float()
    return functional.normalize(points)


def embed(points: Float[Tensor, "n e"], generator: np.random.Generator) -> Float[Tensor, "n d"]:
    """Return points under a random smooth embedding into 20 dimensions.

    Raises:
        InputError: if the points have more than 10 coordinates.
    """
    inside = points.shape[1]
    if 2 * inside > AMBIENT:
        raise InputError(f"points must have at most {AMBIENT // 2} coordinates, got {inside}")
    shapes = ((inside, AMBIENT), (AMBIENT,), (AMBIENT, AMBIENT), (inside, AMBIENT))
    A, b, B, C = (torch.from_numpy(generator.normal(size=shape)).float() for shape in shapes)
    curved: Tensor = torch.tanh(points @ A + b) @ B / AMBIENT**0.5
    return curved + points @ C


def swiss_roll(n: int, generator: np.random.Generator) -> Float[Tensor, "n 3"]:
    """Return points of a rolled-up sheet of dimension 2, about unit size in each direction."""
    t = 1.5 * np.pi * (1 + 2 * generator.uniform(size=n))
    height = generator.uniform(-1, 1, size=n)
    roll = np.stack([t * np.cos(t) / 10, height, t * np.sin(t) / 10], 1)
    return torch.from_numpy(roll).float()


def rotating_object(
    n: int, generator: np.random.Generator, side: int = 16
) -> Float[Tensor, "n 1 h h"]:
    """Return images of an asymmetric object at random angles, a closed loop of dimension 1."""
    angle = torch.from_numpy(generator.uniform(0, 2 * np.pi, size=n)).float()
    axis = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    image = torch.zeros(n, side, side)
    for radius, turn, size in ((0.5, 0.0, 0.25), (0.35, 2.1, 0.18), (0.6, 3.9, 0.12)):
        cx, cy = (radius * f(angle + turn)[:, None, None] for f in (torch.cos, torch.sin))
        image += torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * size**2))
    return image.clamp(0, 1)[:, None]


MANIFOLDS = {
    "circle": Manifold(1, 2, lambda n, g: embed(sphere(n, 1, g), g)),
    "sphere": Manifold(2, 3, lambda n, g: embed(sphere(n, 2, g), g)),
    "sphere of dimension 4": Manifold(4, 5, lambda n, g: embed(sphere(n, 4, g), g)),
    "sphere of dimension 7": Manifold(7, 8, lambda n, g: embed(sphere(n, 7, g), g)),
    "swiss roll": Manifold(2, 2, lambda n, g: embed(swiss_roll(n, g), g)),
    "rotating object": Manifold(1, 2, rotating_object),
}
"""Sets by name."""
