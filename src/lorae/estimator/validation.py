"""Checks of the arguments of the estimator and of the path."""

import numbers
from collections.abc import Mapping
from typing import Any, TypeGuard

from lorae.errors import InputError
from lorae.estimator.model_selection import check_rule
from lorae.utils.validation import check_range

_INTEGERS = ("max_components", "steps", "batch_size")
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
