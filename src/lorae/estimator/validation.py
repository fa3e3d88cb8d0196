"""The arguments of the estimator: what each may be."""

import numbers
from typing import Any, TypeGuard

from lorae.errors import InputError
from lorae.estimator.model_selection import rule_for
from lorae.utils.validation import check_range

_RANGES: dict[str, tuple[float | None, bool]] = {
    "latent": (None, True),
    "steps": (None, True),
    "batch_size": (None, True),
    "width": (64, False),
    "learning_rate": (1, False),
    "validation_fraction": (0.5, False),
}
"""The greatest value of an argument, and whether it is a whole number."""


def is_whole(value: Any) -> TypeGuard[int]:
    """Return whether a value is a whole number, of NumPy's perhaps, and no truth value.

    Example:
        >>> is_whole(3), is_whole(3.0), is_whole(True)
        (True, False, False)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_arguments(given: dict[str, Any], n: int, values: int) -> None:
    """Check the estimator's arguments against n samples of so many values.

    Raises:
        InputError: naming the first one that is unfit.
    """
    for name, (high, whole) in _RANGES.items():
        value = given[name]
        if value is None and name in ("latent", "steps"):
            continue
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not (is_whole(value) if whole else real):
            raise InputError(f"{name} must be a {'whole ' * whole}number, got {value!r}")
        check_range(name, float(value), 1 if whole else 0, high, open_low=not whole)
    if (given["encoder"] is None) != (given["decoder"] is None):
        raise InputError("encoder and decoder must be given both or not at all, one is None")
    if n < 2:
        raise InputError("X must have at least 2 samples, got n_samples = 1")
    _check_components(given["n_components"], given["latent"], n, values)


def _check_components(wanted: Any, latent: int | None, n: int, values: int) -> None:
    if not is_whole(wanted):
        rule_for(wanted)
        if n < 4:
            raise InputError(
                f"X must have at least 4 samples to choose n_components, got n_samples = {n}"
            )
        return
    most = min(n, values) if latent is None else min(n, values, latent)
    if not 1 <= wanted <= most:
        raise InputError(
            f"n_components must be 1 to {most}, the least of n_samples = {n}, the {values} values "
            f"of a sample and latent, got {wanted}"
        )
