"""Checks of the arguments of the estimator and of the path."""

import numbers
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
from torch import Tensor

from lorae.errors import DataWarning, InputError
from lorae.utils.samples import subsample
from lorae.utils.validation import check_range

_INTEGERS = ("max_components", "steps", "batch_size")
_FEW = 10  # samples of which a held-out share says little
_COUNTED = 10_000  # samples among which copies are counted
_ONE_COLUMN = 0.99  # share of the variance above which a column is said to have it all
_CARRIED = 1e-6  # least share of the variance that a coordinate of use carries
_LARGEST = {"width": 64, "learning_rate": 1, "validation_fraction": 0.5}


def is_integer(value: Any) -> TypeGuard[int]:
    """Return whether a value is an integer of Python or NumPy; booleans are not.

    Example:
        >>> is_integer(3), is_integer(3.0), is_integer(True)
        (True, False, False)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_training(options: Mapping[str, Any], n_samples: int) -> None:
    """Check the arguments that training depends on, and that there are samples enough for it.

    Args:
        options: max_components, steps and validation_fraction, which may be None, batch_size,
            width and learning_rate, and encoder and decoder, if there are; others are ignored.
        n_samples: number of samples.

    Raises:
        InputError: naming the first argument that is invalid.
    """
    for name in (*_INTEGERS, *_LARGEST):
        value = options[name]
        if value is None and name in ("max_components", "steps", "validation_fraction"):
            continue
        if name in _INTEGERS:
            if not is_integer(value):
                raise InputError(f"{name} must be an integer, got {value!r}")
            check_range(name, float(value), 1)
        else:
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise InputError(f"{name} must be a number, got {value!r}")
            check_range(name, float(value), 0, _LARGEST[name], open_low=True)
    if (options.get("encoder") is None) != (options.get("decoder") is None):
        raise InputError("encoder and decoder must be given both or not at all, got only one")
    if n_samples < 2:
        raise InputError(f"X must have at least 2 samples, got n_samples = {n_samples}")


def check_n_components(value: Any, n_samples: int, n_values: int) -> None:
    """Check the number of components for samples of `n_values` values.

    Args:
        value: the number, a share or "auto".
        n_samples: number of samples.
        n_values: number of values of a sample.

    Raises:
        InputError: if it is neither an integer in range nor a share nor "auto", or if there are
            too few samples to choose it.
    """
    if not is_integer(value):
        check_rule(value)
        if n_samples < 10:
            raise InputError(
                "X must have at least 10 samples to choose n_components, got n_samples = "
                f"{n_samples}"
            )
        return
    limit = min(n_samples, n_values)
    if not 1 <= value <= limit:
        raise InputError(
            f"n_components must be 1 to {limit}, the least of n_samples = {n_samples} and the "
            f"{n_values} values of a sample, got {value}"
        )


def describe_samples(
    samples: Tensor,
    held_out: float,
    columns: Sequence[str] | None = None,
    *,
    standardize: bool = False,
) -> list[str]:
    """Return what makes a fit to these samples say less than it seems to, a sentence each.

    Args:
        samples: n of them; NaN where a value is missing.
        held_out: share of the samples that are held out.
        columns: names of the values of a vector.
        standardize: whether columns are scaled to variance 1.

    Example:
        >>> import torch
        >>> describe_samples(torch.tensor([[0.0, 1.0]] * 20), 0.2)
        ['X has 20 identical samples, so that there is nothing to encode']
    """
    n, found = len(samples), []
    count = max(1, round(held_out * n))
    if n < _FEW:
        found.append(
            f"X has {n} samples, fewer than {_FEW}, so that the error of the {count} held out "
            "says little"
        )
    elif count == 1:
        found.append(
            f"X has {n} samples, of which validation_fraction holds out 1, whose error says "
            f"little; give at least {2 / n:.2g}"
        )
    some = subsample(samples, _COUNTED).flatten(1).cpu().numpy()
    distinct = len({row.tobytes() for row in some})
    if distinct == 1:
        return [*found, f"X has {n} identical samples, so that there is nothing to encode"]
    if distinct <= len(some) / 2:
        found.append(
            f"X has {distinct} distinct samples among {len(some)}; held-out samples have copies "
            "in training, so that their errors are too low; leave copies out"
        )
    if some.shape[1] > 1 and samples.ndim == 2 and not standardize:
        variance = np.nanvar(some.astype(np.float64), axis=0)
        largest = int(variance.argmax())
        share = variance[largest] / max(variance.sum(), 1e-300)
        if share > _ONE_COLUMN:
            name = columns[largest] if columns else f"number {largest + 1}"
            found.append(
                f"X has {100 * share:.4g} % of its variance in the column {name}, and the others "
                "hardly count; give standardize=True for an equal weight of all"
            )
    return found


def warn_about_samples(sentences: Sequence[str]) -> None:
    """Issue a warning for each sentence."""
    for sentence in sentences:
        warnings.warn(sentence, DataWarning, stacklevel=3)


def describe_components(shares: "np.ndarray[Any, Any]") -> list[str]:
    """Return a sentence if some coordinates carry next to nothing.

    Args:
        shares: of the variance, that each coordinate carries.

    Example:
        >>> describe_components(np.array([0.9, 0.1]))
        []
    """
    carried = int((shares > _CARRIED).sum())
    if carried == len(shares):
        return []
    sentence = (
        f"X has variance for {carried} coordinates, got n_components = {len(shares)}: each of the "
        f"others carries less than {_CARRIED:g} of it"
    )
    return [sentence]


def check_rule(n_components: object) -> None:
    """Check a number of components that is not an integer.

    Raises:
        InputError: if it is neither a share nor "auto".
    """
    if n_components == "auto":
        return
    if not (isinstance(n_components, float) and 0 < n_components < 1):
        raise InputError(
            f'n_components must be an integer of at least 1, a share in (0, 1) or "auto", got '
            f"{n_components!r}"
        )
