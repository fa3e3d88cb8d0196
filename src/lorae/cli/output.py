"""Answers of commands, on standard output."""

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import tyro

Json = Annotated[bool, tyro.conf.arg(name="json")]
"""An option that asks for an answer as JSON."""


def tell(answer: object) -> None:
    """Print a text as it is, and anything else as JSON."""
    print(answer if isinstance(answer, str) else json.dumps(answer, indent=2), flush=True)


def warn(text: str) -> None:
    """Print a warning beside the answer, to standard error."""
    print(f"lorae: warning: {text}", file=sys.stderr, flush=True)


@contextmanager
def telling(category: type[Warning]) -> Iterator[None]:
    """Print warnings of a category as those of a command, each time and without their place."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        warn(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", category)
        warnings.showwarning = show
        yield
