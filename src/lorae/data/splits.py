"""Training and held-out samples as arrays, and how samples are held out at random."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lorae.data.arrays import Array, copy_blocks, copy_rows, stored_dtype, write_npy
from lorae.data.cache import load_or_create
from lorae.data.columns import Schema
from lorae.data.locations import cache_folder
from lorae.errors import InputError

BIG = 256 * 2**20  # bytes; the parts of a larger memory-mapped array are written to the cache


@dataclass(frozen=True, eq=False)
class Split:
    """Training and held-out samples as arrays, possibly memory-mapped, with their labels."""

    train: Array
    test: Array
    train_labels: Array | None = None
    test_labels: Array | None = None
    columns: tuple[str, ...] | None = None
    schema: Schema | None = None  # of a table with categories
    value_range: tuple[float, float] | None = None  # of images, if their type says it
    notes: tuple[str, ...] = ()  # what was guessed when they were read

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that are not None, by field name."""
        return {name: x for name, x in vars(self).items() if isinstance(x, np.ndarray)}

    def subsample(self, count: int, seed: int) -> "Split":
        """Return at most ``count`` training and ``count / 5`` held-out samples, in their order."""
        generator = np.random.default_rng(seed)
        rows = {
            part: np.sort(generator.permutation(len(getattr(self, part)))[:most])
            for part, most in (("train", count), ("test", held_out_count(count)))
        }
        arrays = {
            name: array[rows[name.removesuffix("_labels")]] for name, array in self.arrays().items()
        }
        return replace(self, **arrays)  # type: ignore[arg-type]


def held_out_count(count: int) -> int:
    """Return the number of held-out samples that goes with ``count`` training samples."""
    return max(count // 5, 1)


def split_at_random(
    array: Array, labels: Array | None, fraction: float, seed: int, origin: str = ""
) -> Split:
    """Hold out a fraction of the samples, in equal shares of every label if there are labels.

    The parts of a big memory-mapped array are written to the cache, so that they stay on disk.

    Args:
        array: Samples of :func:`lorae.data.arrays.as_samples`.
        labels: A whole number for each sample, or None.
        fraction: Fraction held out.
        seed: Seed of the choice.
        origin: Identifies the content of a memory-mapped array in the cache.
    """
    dtype = stored_dtype(array)
    rows = dict(zip(("train", "test"), split_rows(len(array), fraction, seed, labels), strict=True))

    def write(folder: Path) -> None:
        for part, index in rows.items():
            shape, blocks = (len(index), *array.shape[1:]), copy_blocks(array, index, dtype)
            write_npy(folder / f"{part}.npy", shape, dtype, blocks)

    if isinstance(array, np.memmap) and array.nbytes >= BIG:
        digest = hashlib.sha256(repr((origin, fraction, seed)).encode()).hexdigest()[:16]
        parts = load_or_create(cache_folder() / "parts" / digest, write)
    else:
        parts = {part: copy_rows(array, index, dtype) for part, index in rows.items()}
    if labels is not None:
        parts |= {f"{part}_labels": labels[index] for part, index in rows.items()}
    return Split(**parts)  # type: ignore[arg-type]


def split_rows(
    n: int, fraction: float, seed: int, labels: Array | None = None
) -> tuple[Array, Array]:
    """Return the sorted rows of training and held-out samples, at least one of each.

    Rows are shuffled, then sorted by label, and held out at even distances, so that each label
    gives its share to within one sample.

    Example:
        >>> train, test = split_rows(10, 0.2, seed=0)
        >>> len(train), len(test)
        (8, 2)
    """
    if n < 2:
        raise InputError(f"the data must have at least 2 samples, got {n}")
    order = np.random.default_rng(seed).permutation(n)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    count = min(max(round(n * fraction), 1), n - 1)
    held_out = np.zeros(n, bool)
    held_out[order[((np.arange(count) + 0.5) * (n / count)).astype(int)]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
