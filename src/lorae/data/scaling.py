"""How a model sees samples: the shift and scale that their training part determines.

Images are scaled to [0, 1], or left in [-1, 1]: their range is a property of their type, a
convention that they follow, or an option, and never the largest value that happens to be there.
Columns of vectors, and channels of signals, of volumes and of fields, which are images without such
a range, are scaled to mean 0 and standard deviation 1. Their shift and scale come from the training
samples alone, as sums in float64.
"""

from dataclasses import replace
from itertools import compress

import numpy as np

from lorae.data.arrays import Array
from lorae.data.splits import Split
from lorae.data.tables import number_columns
from lorae.errors import InputError
from lorae.utils.text import shorten_list

PICTURES = (1, 3, 4)  # channels of the images of a picture file


def find_range(
    split: Split, stated: tuple[float, float] | None
) -> tuple[tuple[float, float], str] | None:
    """Return the values of black and white, and where they come from, or None if there are none.

    Bytes have 0 to 255, images of 16 bits 0 to 65535. Other images have what is stated, or else the
    convention that they follow: 0 to 1, -1 to 1 or 0 to 255. Fields follow none.
    """
    train = split.train
    by_type = (0.0, 255.0) if train.dtype == np.uint8 else split.value_range
    if limits := stated or by_type:
        return limits, "stated" if stated else "by type"
    if train.ndim != 4 or train.shape[1] not in PICTURES:
        return None
    low, high = float(train.min()), float(train.max())
    if high <= 1 and low >= -1:
        return (0.0 if low >= 0 else -1.0, 1.0), "by convention"
    if low >= 0 and 2 < high <= 255:  # just above 1, it would be an overshoot
        return (0.0, 255.0), "by convention"
    return None


def scale_by_range(
    name: str, train: Array, limits: tuple[float, float], why: str
) -> tuple[Array, Array, tuple[float, float], list[str]]:
    """Return shift, scale, the range of scaled values, and notes; bytes are divided by 255."""
    low, high = limits
    least, largest = float(train.min()), float(train.max())
    if least < low - 1e-6 * abs(low) or largest > high + 1e-6 * abs(high):
        raise InputError(
            f"value_range must contain the values of {name}, {least:g} to {largest:g}, got "
            f"{low:g} to {high:g}"
        )
    notes = [f"value range {low:g} to {high:g}, {why}; --value-range sets another"]
    if low < largest <= low + (high - low) / 8:
        notes.append(
            f"the largest value is {largest:g}, nearly black in that range; if it is white, give "
            f"--value-range {low:g} {largest:g}"
        )
    if limits == (-1.0, 1.0):
        return np.zeros((), np.float32), np.ones((), np.float32), limits, notes
    unit = 255 if train.dtype == np.uint8 else 1
    shift, scale = np.array(low / unit, np.float32), np.array((high - low) / unit, np.float32)
    return shift, scale, (0.0, 1.0), notes


def scale_by_moments(name: str, split: Split, *, drop: bool) -> tuple[Split, Array, Array]:
    """Return the samples, without columns that are dropped, and shift and scale of each column."""
    mean, deviation = moments(name, split)
    if split.train.ndim == 2:
        if split.schema is not None:
            deviation = _join_categories(deviation, split.schema.sizes)
        split, kept = _drop_constant(name, split, deviation, drop=drop)
        mean, deviation = mean[kept], deviation[kept]
    shape = (-1, *(1,) * (split.train.ndim - 2))
    scale = np.where(deviation > 0, deviation, 1).astype(np.float32).reshape(shape)
    return split, mean.astype(split.train.dtype).reshape(shape), scale


def moments(name: str, split: Split) -> tuple[Array, Array]:
    """Return the mean and standard deviation of each column or channel, in float64.

    A constant one has standard deviation exactly 0. Missing values, NaN, do not count.
    """
    samples = split.train
    axes = (0, *range(2, samples.ndim))
    if samples.dtype.kind == "f" and (gaps := np.isnan(samples)).any():
        if empty := np.flatnonzero(gaps.all(axis=axes)).tolist():
            what = "column" if samples.ndim == 2 else "channel"
            names = split.columns or [f"{what}_{k + 1}" for k in range(samples.shape[1])]
            raise InputError(
                f"{name} must have an observed training value in every {what}, got only gaps in "
                f"{shorten_list([names[k] for k in empty])}; leave them out"
                f"{' (--drop)' if split.columns else ''}"
            )
        deviation = np.asarray(np.nanstd(samples, axis=axes, dtype=np.float64))
        return np.asarray(np.nanmean(samples, axis=axes, dtype=np.float64)), deviation
    mean = samples.mean(axis=axes, dtype=np.float64, keepdims=True)
    step = max(1, 2**22 // samples[0].size)  # samples whose float64 copy takes 32 MiB
    blocks = (samples[start : start + step] for start in range(0, len(samples), step))
    squares = sum(((block - mean) ** 2).sum(axis=axes) for block in blocks)
    deviation = np.sqrt(squares / (samples.size // samples.shape[1]))
    constant = samples.min(axis=axes) == samples.max(axis=axes)
    return mean.reshape(-1), np.where(constant, 0, deviation)


def _drop_constant(name: str, split: Split, deviation: Array, *, drop: bool) -> tuple[Split, Array]:
    """Return a table without its constant columns, or refuse them, and which columns are kept."""
    names = split.columns or number_columns(split.train.shape[1])
    kept = deviation > 0
    if not kept.all() and not (drop and kept.any()):
        constant = shorten_list(list(compress(names, ~kept)))
        raise InputError(
            f"columns of {name} must vary in the training samples, got constant {constant}"
            + ("; drop them with drop_constant" if kept.any() else ", and no others")
        )
    columns = tuple(compress(names, kept))
    if kept.all():
        return replace(split, columns=columns), kept
    train, test = (np.ascontiguousarray(part[:, kept]) for part in (split.train, split.test))
    schema = None if split.schema is None else split.schema.select(kept)
    return replace(split, train=train, test=test, columns=columns, schema=schema), kept


def _join_categories(deviation: Array, sizes: tuple[int, ...]) -> Array:
    """Return deviations with those of each category column joined: its total variance is 1."""
    numbers = len(deviation) - sum(sizes)
    groups = np.split(deviation[numbers:], np.cumsum(sizes)[:-1])
    joined = [np.full_like(group, np.sqrt(np.square(group).sum())) for group in groups]
    return np.concatenate([deviation[:numbers], *joined])
