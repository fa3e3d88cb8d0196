"""How long things take beside each other, on a machine whose speed drifts."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

LEAST_ROUNDS = 5


def interleaved(
    calls: Mapping[str, Callable[[], object]], seconds: float = 2.0
) -> dict[str, list[float]]:
    """Return how many seconds each call took, in every round.

    Each is called once before the clock starts, then once a round, in an order that turns round
    by round, so that what slows the machine for a while slows all alike.

    Args:
        calls: what is to be timed, by name; none may leave work on an accelerator unfinished.
        seconds: about how long to go on; there are at least `LEAST_ROUNDS`.

    Example:
        >>> times = interleaved({"a": lambda: 1, "b": lambda: 2}, seconds=0)
        >>> {name: len(found) for name, found in times.items()}
        {'a': 5, 'b': 5}
    """
    order = list(calls)
    times: dict[str, list[float]] = {name: [] for name in order}
    for call in calls.values():
        call()
    start = time.perf_counter()
    while len(times[order[0]]) < LEAST_ROUNDS or time.perf_counter() - start < seconds:
        for name in order:
            times[name].append(_timed(calls[name]))
        order = [*order[1:], order[0]]
    return times


def ratio(times: Sequence[float], reference: Sequence[float]) -> float:
    """Return the median, over rounds, of a time as a multiple of another.

    Example:
        >>> ratio([1.0, 4.0, 3.0], [2.0, 2.0, 6.0])
        0.5
    """
    return statistics.median(a / b for a, b in zip(times, reference, strict=True))


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        call()
    return time.perf_counter() - start
