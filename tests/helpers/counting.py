"""Measures that record their calls in a file."""

import time
from pathlib import Path

from lorae.errors import Diverged
from lorae.paper.queue import measure
from lorae.training.run_folder import Run


@measure("traced")
def traced(run: Run | None = None, *, trace: str, value: float = 1.0, seconds: float = 0.0) -> dict:
    """Append the value to a file, and take some time."""
    time.sleep(seconds)
    with Path(trace).open("a") as file:
        file.write(f"{value:g}\n")
    return {"value": value, "run": None if run is None else run.name}


@measure("diverging")
def diverging(*, trace: str) -> dict:
    traced(trace=trace)
    raise Diverged("the loss is no longer finite")
