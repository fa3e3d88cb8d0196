"""Answers of commands, on standard output."""

import json
import sys
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
