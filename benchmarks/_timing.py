"""Timing for the benchmarks: side by side, in turns, by processor time.

On a CPU, times are the processor time of this process (of one thread, unless OMP_NUM_THREADS says
otherwise), so that other work on the machine matters little; with a GPU they are wall-clock time.
"""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch


def clock() -> float:
    """Return seconds, when all that was asked for is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def seconds(work: Callable[[], object], times: int = 1) -> float:
    """Return the seconds that one call takes, the mean over some."""
    start = clock()
    for _ in range(times):
        work()
    return (clock() - start) / times


def in_turns(
    work: Mapping[str, Callable[[], float]], rounds: int, warm: int = 1
) -> dict[str, list[float]]:
    """Return what each function measures in each round; the order turns about with the rounds."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(-warm, rounds):
        names = list(work) if round_ % 2 else list(reversed(work))
        for name in names:
            value = work[name]()
            if round_ >= 0:
                found[name].append(value)
    return found


def serve(step: Callable[[], object]) -> None:
    """Make steps when asked to: a line of standard input says how many, one answers how long."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what else is printed goes elsewhere
    for line in sys.stdin:
        print(seconds(step, int(line)), file=answers, flush=True)


class Elsewhere:
    """Steps made by another process, which answers as :func:`serve` does."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def seconds(self, steps: int) -> float:
        """Let it make some steps; return the seconds that each took."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(steps, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def end(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def ratio(times: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """Return the quartiles of the ratio, taken round by round: lower, median, upper."""
    ratios = [a / b for a, b in zip(times, others, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return low, middle, high


def milliseconds(times: Sequence[float]) -> float:
    """Return the median in milliseconds."""
    return 1e3 * statistics.median(times)


def machine() -> str:
    """Return a line that says what was measured, on what."""
    root = Path(__file__).parent
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    return (
        f"commit {answer.stdout.strip() or 'unknown'}, torch {torch.__version__}, {device}, "
        f"{torch.get_num_threads()} thread(s)"
    )


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.machine()
