"""Checks of plain arguments, shared by the options, the estimator and the command line."""

import math
import os
from collections.abc import Collection
from typing import TYPE_CHECKING

from lorae.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def check_range(
    name: str,
    value: float | None,
    low: float,
    high: float | None = None,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Check that an argument, if it is given, is a finite number within bounds.

    Args:
        name: name of the argument, for the message.
        value: its value; None always passes.
        low: the smallest value.
        high: the largest value; None where there is no limit.
        open_low: exclude `low` itself.
        open_high: exclude `high` itself.

    Example:
        >>> check_range("ema", 1.0, 0, 1, open_low=True, open_high=True)
        Traceback (most recent call last):
        lorae.errors.InputError: ema must be greater than 0 and below 1, got 1
    """
    if value is None:
        return
    above = value > low if open_low else value >= low
    below = high is None or (value < high if open_high else value <= high)
    finite = math.isfinite(value)
    if above and below and finite:
        return
    least = f"greater than {low:g}" if open_low else f"at least {low:g}"
    most = "" if high is None else f" and {'below' if open_high else 'at most'} {high:g}"
    raise InputError(f"{name} must be {'' if finite else 'finite, '}{least}{most}, got {value:g}")


def check_memory(name: str, needed: int, purpose: str) -> None:
    """Check that this machine has the memory for something, before it is tried.

    Args:
        name: the arguments that decide, for the message.
        needed: bytes.
        purpose: what needs them.

    Example:
        >>> check_memory("n", 10**30, "that many codes")
        Traceback (most recent call last):
        lorae.errors.InputError: n must be smaller: that many codes need 1e+21 GB of memory, ...
    """
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # no such figures on this system
        return
    if needed > total:
        raise InputError(
            f"{name} must be smaller: {purpose} need {needed / 1e9:.3g} GB of memory, and this "
            f"machine has {total / 1e9:.3g} GB"
        )


def check_choice(name: str, value: object, allowed: Collection[str]) -> None:
    """Check that an argument is one of a few words.

    Example:
        >>> check_choice("strategy", "fsdp", ("auto", "ddp"))
        Traceback (most recent call last):
        lorae.errors.InputError: strategy must be one of auto, ddp, got 'fsdp'
    """
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_finite(name: str, values: "Tensor") -> None:
    """Check that a tensor holds neither NaN nor infinite values.

    It waits for the device of the tensor, so it does not belong in a training step.
    """
    if not bool(values.isfinite().all()):
        raise InputError(f"{name} must be finite, got NaN or infinite values")
