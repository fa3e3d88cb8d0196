""".npy and .npz files as samples; nothing that is pickled is read."""

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from lorae.data.arrays import (
    Array,
    as_samples,
    check_finite,
    check_observed,
    copy_rows,
    guess_layout,
    open_npy,
    stored_dtype,
)
from lorae.data.options import ReadOptions
from lorae.data.splits import Split, split_at_random
from lorae.errors import InputError


def load_npy(path: Path, options: ReadOptions, test_fraction: float, seed: int) -> Split:
    """Read an .npy file and hold out a fraction of its samples at random."""
    with _explain_read_errors(path):
        array = open_npy(path)
    stat = path.stat()
    samples = as_finite_samples(array, str(path), options)
    origin = repr((str(path.resolve()), stat.st_size, stat.st_mtime_ns, samples.strides))
    split = split_at_random(samples, None, test_fraction, seed, origin)
    return _with_type(split, array, samples, options)


def load_npz(path: Path, options: ReadOptions, test_fraction: float, seed: int) -> Split:
    """Read an .npz file.

    It holds ``train`` and optionally ``test`` or ``val``, or ``x_train`` and optionally ``x_test``
    or ``x_val``, with labels ``y_train``, ``y_test`` and ``y_val``, or else a single array, with
    labels ``y``. Names may be in capitals, and also be ``train_images``, ``train_labels`` and so
    on, or ``labels``.
    """
    arrays = _read_npz(path)
    x, x_test, y = _select_keys(path, arrays)
    train = as_finite_samples(arrays[x], f"{x} in {path}", options)
    labels, dtype = _labels(path, arrays, y, len(train)), stored_dtype(train)
    if x_test is None:
        split = split_at_random(train, labels, test_fraction, seed)
        return _with_type(split, arrays[x], train, options)
    test = as_finite_samples(arrays[x_test], f"{x_test} in {path}", options)
    if (train.shape[1:], train.dtype) != (test.shape[1:], test.dtype):
        raise InputError(
            f"{x_test} in {path} must hold samples of shape {train.shape[1:]} and type "
            f"{train.dtype}, as {x}, got {test.shape[1:]} and {test.dtype}"
        )
    whole, whole_test = (copy_rows(part, np.arange(len(part)), dtype) for part in (train, test))
    y_test = f"y_{x_test.removeprefix('x_')}"
    split = Split(whole, whole_test, labels, _labels(path, arrays, y_test, len(test)))
    return _with_type(split, arrays[x], train, options)


def as_finite_samples(
    array: Array, name: str, options: ReadOptions, layout: str | None = None
) -> Array:
    """Return samples as :func:`as_samples` does, checked to be finite or gaps that are kept."""
    samples = as_samples(array, name, options.layout or layout)
    kept = options.missing == "keep"
    advice = "fill them" if kept else "keep missing values as gaps (--missing keep), or fill them"
    check_finite(samples, name, missing=options.missing, advice=advice)
    if kept:
        check_observed(samples, name)
    return samples


def load_arrays(path: Path) -> tuple[Array, Array | None]:
    """Return all samples of an .npy or .npz file as they are, and their labels if it has any."""
    if path.suffix.lower() == ".npy":
        with _explain_read_errors(path):
            return open_npy(path), None
    arrays = _read_npz(path)
    x, x_test, y = _select_keys(path, arrays)
    keys = {x: y} | ({} if x_test is None else {x_test: f"y_{x_test.removeprefix('x_')}"})
    samples = [arrays[key] for key in keys]
    if len({part.shape[1:] for part in samples}) > 1:
        raise InputError(f"{path} must hold samples of one shape, got {x} and {x_test} of two")
    labels = [_labels(path, arrays, keys[key], len(arrays[key])) for key in keys]
    some = [part for part in labels if part is not None]
    return np.concatenate(samples), np.concatenate(some) if len(some) == len(labels) else None


def _read_npz(path: Path) -> dict[str, Array]:
    with (
        _explain_read_errors(path),
        path.open("rb") as file,
        np.load(file, allow_pickle=False) as archive,
    ):
        return {_plain_key(key.lower()): archive[key] for key in archive.files}


def _plain_key(key: str) -> str:
    """Return x_train for train_images, y_train for train_labels, y for labels, others unchanged."""
    match = re.fullmatch(r"(train_|val_|test_)?(images|labels)", key)
    if match is None:
        return key
    return "_".join(["x" if match[2] == "images" else "y", *(match[1] or "").split("_")[:-1]])


def _with_type(split: Split, array: Array, samples: Array, options: ReadOptions) -> Split:
    """Add the range of 16-bit images, and a note on the layout if it was guessed."""
    value_range = (0.0, 65535.0) if samples.ndim == 4 and array.dtype == np.uint16 else None
    notes: tuple[str, ...] = ()
    if array.ndim > 2 and options.layout is None:
        bytes_only = array.dtype in (np.uint8, np.bool_)
        layout = guess_layout(array.shape, "", bytes_only=bytes_only)
        notes = (f"shape {array.shape} read as {layout}; --layout sets another",)
    return replace(split, value_range=value_range, notes=notes)


def _select_keys(path: Path, arrays: Mapping[str, Array]) -> tuple[str, str | None, str]:
    """Return the names of training samples, of held-out samples if any, and of labels."""
    x, x_test = (
        next((key for part in parts for key in (part, f"x_{part}") if key in arrays), None)
        for parts in (("train",), ("test", "val"))
    )
    if x is not None:
        return x, x_test, "y_train"
    single = [key for key in arrays if key != "y"]
    if len(single) != 1:
        raise InputError(
            f"{path} must hold train and test, x_train and x_test, or a single array (with labels "
            f"y_train, y_test, y), got {', '.join(arrays) or 'no arrays'}"
        )
    return single[0], None, "y"


def _labels(path: Path, arrays: Mapping[str, Array], key: str, n: int) -> Array | None:
    if key not in arrays:
        return None
    labels, what = arrays[key], f"labels {key} in {path} must be"
    if labels.shape not in ((n,), (n, 1)) or labels.dtype.kind not in "biuf":
        got = f"shape {labels.shape} and type {labels.dtype}"
        raise InputError(f"{what} {n} whole numbers, got {got}")
    whole = labels.reshape(n).astype(np.int64)
    if np.any(whole != labels.reshape(n)):
        raise InputError(f"{what} whole numbers, got fractions; leave them out to train without")
    return whole


@contextmanager
def _explain_read_errors(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's about old headers
            yield
    except Exception as error:  # noqa: BLE001 - damaged headers fail in many ways
        if isinstance(error, OSError) and error.strerror:
            raise InputError(f"{path} cannot be read ({error.strerror})") from None
        pickled = isinstance(error, ValueError) and "bject" in str(error)
        got = "Python objects, which are not read" if pickled else "another or a damaged one"
        kind = f"an {path.suffix.lower()} file"
        raise InputError(f"{path} must be {kind} of numbers, got {got}") from None
