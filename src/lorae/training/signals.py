"""Ctrl-C and SIGTERM, recorded so that training stops at the end of a step."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Interrupts:
    """The signal that was received; 0 if there was none."""

    received: int = 0


@contextmanager
def record_interrupts() -> Iterator[Interrupts]:
    """Record the first Ctrl-C or SIGTERM instead of ending the process; a second one ends it.

    Outside the main thread, where Python allows no signal handlers, nothing is recorded.
    """
    interrupts = Interrupts()
    before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    def record(number: int, _: FrameType | None) -> None:
        interrupts.received = number
        restore()

    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            before[number] = signal.signal(number, record)
    try:
        yield interrupts
    finally:
        restore()
