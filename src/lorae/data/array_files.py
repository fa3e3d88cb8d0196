""".npy and .npz files as samples; nothing that is pickled is read."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lorae.data.arrays import Array, as_samples, copy_rows, open_npy, stored_dtype
from lorae.data.splits import Split, split_at_random
from lorae.errors import InputError


def load_npy(path: Path, test_fraction: float, seed: int) -> Split:
    """Read an .npy file and hold out a fraction of its samples at random."""
    with _explain_read_errors(path):
        array = open_npy(path)
    stat = path.stat()
    origin = repr((str(path.resolve()), stat.st_size, stat.st_mtime_ns))
    return split_at_random(as_samples(array, str(path)), None, test_fraction, seed, origin)


def load_npz(path: Path, test_fraction: float, seed: int) -> Split:
    """Read an .npz file.

    It holds ``train`` and optionally ``test``, or ``x_train`` and optionally ``x_test``, with
    labels ``y_train`` and ``y_test``, or else a single array, with labels ``y``.
    """
    with (
        _explain_read_errors(path),
        path.open("rb") as file,
        np.load(file, allow_pickle=False) as archive,
    ):
        arrays = {key: archive[key] for key in archive.files}
    x, x_test, y = _select_keys(path, arrays)
    train = as_samples(arrays[x], f"{x} in {path}")
    labels = _labels(arrays, y, len(train))
    if x_test is None:
        return split_at_random(train, labels, test_fraction, seed)
    test = as_samples(arrays[x_test], f"{x_test} in {path}")
    if (train.shape[1:], stored_dtype(train)) != (test.shape[1:], stored_dtype(test)):
        raise InputError(
            f"{x_test} in {path} must hold samples of shape {train.shape[1:]} and type "
            f"{train.dtype}, as {x}, got {test.shape[1:]} and {test.dtype}"
        )
    whole, whole_test = (copy_rows(part, np.arange(len(part))) for part in (train, test))
    return Split(whole, whole_test, labels, _labels(arrays, "y_test", len(test)))


def _select_keys(path: Path, arrays: Mapping[str, Array]) -> tuple[str, str | None, str]:
    """Return the names of training samples, of held-out samples if any, and of labels."""
    x, x_test = (
        next((key for key in (part, f"x_{part}") if key in arrays), None)
        for part in ("train", "test")
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


def _labels(arrays: Mapping[str, Array], key: str, n: int) -> Array | None:
    if key not in arrays:
        return None
    labels = arrays[key]
    if labels.shape not in ((n,), (n, 1)) or labels.dtype.kind not in "biuf":
        raise InputError(
            f"labels {key} must be {n} whole numbers, got shape {labels.shape} and type "
            f"{labels.dtype}"
        )
    whole = labels.reshape(n).astype(np.int64)
    if np.any(whole != labels.reshape(n)):
        raise InputError(
            f"labels {key} must be whole numbers, got fractions; leave them out to train without"
        )
    return whole


@contextmanager
def _explain_read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, EOFError, TypeError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error})") from error
