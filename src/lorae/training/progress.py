"""Progress of a run on standard error: a bar on a terminal, else lines.

There is a line at each evaluation, and at least every 30 seconds.
"""

import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from lorae.utils.progress import INTERVAL
from lorae.utils.text import format_duration

_MEASURED = 3  # steps before the time of a step is stated


def print_notes(name: str, notes: Sequence[str]) -> None:
    """Print what was guessed when data were read, a line each, to standard error."""
    for note in notes:
        tqdm.write(f"{name}: {note}", file=sys.stderr)


class Display:
    """The progress of one run."""

    def __init__(self, name: str, steps: int, *, show: bool) -> None:
        self.name, self.steps, self.show = name, steps, show
        self.bar: tqdm[Any] | None = None
        self.shown: dict[str, str] = {}
        self.started, self.printed, self.made, self.estimated = 0.0, 0.0, 0, False

    def open(self, step: int) -> "tqdm[Any]":
        """Start the bar at a step; use it in a `with` statement."""
        self.bar = tqdm(
            total=self.steps,
            initial=step,
            desc=self.name,
            unit=" steps",
            disable=None if self.show else True,
            dynamic_ncols=True,
        )
        self.printed = time.perf_counter()
        self.made, self.remaining = 0, self.steps - step
        return self.bar

    def advance(self) -> None:
        """Advance by one step, and say how long training takes and what is left of it."""
        if self.bar is None or not self.show:
            return
        self.bar.update()
        now = time.perf_counter()
        if self.made == 0:
            self.started = now  # the first step takes longer than the others
        self.made += 1
        if self.made > _MEASURED and not self.estimated and now - self.started >= 1:
            self.estimated = True
            each = (now - self.started) / (self.made - 1)
            self._print(
                f"{self.remaining:,} steps of {1000 * each:.3g} ms take about "
                f"{format_duration(self.remaining * each)}, evaluations not counted"
            )
        elif self.bar.disable and now - self.printed >= INTERVAL:
            left = (now - self.started) / max(1, self.made - 1) * (self.remaining - self.made)
            step = self.steps - self.remaining + self.made
            self._print(f"step {step}/{self.steps}, about {format_duration(left)} left")

    def loss(self, value: float) -> None:
        """Show the mean loss since the last evaluation."""
        self.shown["loss"] = f"{value:.5f}"
        if self.bar is not None:
            self.bar.set_postfix(self.shown)

    def evaluation(self, line: dict[str, Any], *, superseded: bool = False) -> None:
        """Show the error, the rank and the warnings of a line of metrics.

        Of one that the final line supersedes at once, only the warnings are shown as a line.
        """
        test = line["test"]
        if test["reconstruction"] is not None:
            self.shown["error"] = f"{test['reconstruction']:.5f}"
        if "spread" in test:
            self.shown["spread"] = f"{test['spread']:.2f}"
        self.shown["rank"] = str(test["rank"])
        if self.bar is not None and not self.bar.disable:
            self.bar.set_postfix(self.shown)
        elif self.show and not superseded:
            values = ", ".join(f"{name} {value}" for name, value in self.shown.items())
            self._print(f"step {line['step']}/{self.steps}, {values}")
        for warning in line["warnings"] if self.show else []:
            self._print(f"warning: {warning}")

    def notes(self, lines: Sequence[str]) -> None:
        """Print remarks on the options."""
        for line in lines if self.show else []:
            self._print(f"note: {line}")

    def _print(self, text: str) -> None:
        self.printed = time.perf_counter()
        tqdm.write(f"{self.name}: {text}", file=sys.stderr)
