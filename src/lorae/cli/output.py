"""What commands print: answers to standard output, warnings to standard error."""

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def print_answer(answer: object) -> None:
    """Print text as it is and anything else as JSON."""
    print(answer if isinstance(answer, str) else json.dumps(answer, indent=2), flush=True)


def print_warning(text: str) -> None:
    """Print a warning to standard error."""
    print(f"lorae: warning: {text}", file=sys.stderr, flush=True)


@contextmanager
def show_warnings(category: type[Warning]) -> Iterator[None]:
    """Print every warning of a category without the line of code that it comes from."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print_warning(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", category)
        warnings.showwarning = show
        yield
