"""Fields on a grid, from `lorae.data.simulations`, kept in the cache or with random parameters."""

from functools import partial

import numpy as np
from numpy.random import Generator

from lorae.data import simulations
from lorae.data.cache import load_or_create
from lorae.data.locations import cache_folder
from lorae.data.simulations import FAMILIES

Array = np.ndarray


def kuramoto_sivashinsky(n: int, seed: int) -> Array:
    """Return the snapshots of a seed, which are kept in the cache."""

    def write(folder) -> None:  # noqa: ANN001
        np.save(folder / "snapshots.npy", simulations.kuramoto_sivashinsky(n, seed))

    entry = cache_folder() / "benchmarks" / f"kuramoto-sivashinsky-{n}-{seed}"
    return np.array(load_or_create(entry, write)["snapshots"])


def random_curves(family: str, n: int, generator: Generator) -> Array:
    """Return n curves with parameters at random in the ranges of a family."""
    curves, ranges, _ = FAMILIES[family]
    return curves(*(generator.uniform(low, high, size=(n, 1))[:, 0] for low, high in ranges))


sines, gaussians = (partial(random_curves, family) for family in ("sines", "gaussians"))
