"""Errors with messages for users.

Every check of an argument, a file or a configuration raises :class:`InputError` with one sentence
that names the argument, what is allowed and what it was. The command line prints that sentence and
exits with status 2; a program may catch it as a `ValueError`.
"""

import difflib
from collections.abc import Iterable
from typing import Self


class InputError(ValueError):
    """Input that the user can correct; the message is one sentence."""


class DataWarning(UserWarning):
    """Something about the samples makes a result say less than it seems to."""


class Diverged(InputError):
    """The loss or a weight of a training is no longer a finite number."""


class Interrupted(Exception):
    """A training was stopped by a signal, after its state was saved."""

    def __init__(self, step: int, received: int, how: str) -> None:
        super().__init__(f"stopped at step {step}; continue with: {how}")
        self.step, self.signal, self.how = step, received, how

    def __reduce__(self) -> tuple[type[Self], tuple[int, int, str]]:
        """Return what rebuilds the exception in another process."""
        return type(self), (self.step, self.signal, self.how)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for an unknown name, which suggests the most similar known one.

    Example:
        >>> print(unknown_name("data set", "mnits", ["digits", "mnist"]))
        unknown data set 'mnits' (did you mean 'mnist'?); known: digits, mnist
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return InputError(f"unknown {kind} {name!r}{hint}; known: {', '.join(names)}")
