"""Progress of a run on standard error: a bar on a terminal, else a line at each evaluation."""

import sys
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm


class Display:
    """The progress of one run.

    Args:
        name: the name of the run.
        steps: the number of steps in all.
        show: print anything at all.
    """

    def __init__(self, name: str, steps: int, *, show: bool) -> None:
        self.name, self.steps, self.show = name, steps, show
        self.bar: tqdm[Any] | None = None
        self.shown: dict[str, str] = {}

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
        return self.bar

    def advance(self) -> None:
        """Advance the bar by one step."""
        if self.bar is not None:
            self.bar.update()

    def loss(self, value: float) -> None:
        """Show the mean loss since the last evaluation."""
        self.shown["loss"] = f"{value:.5f}"
        if self.bar is not None:
            self.bar.set_postfix(self.shown)

    def evaluation(self, line: dict[str, Any]) -> None:
        """Show the error, the rank and the warnings of a line of metrics."""
        test = line["test"]
        if test["reconstruction"] is not None:
            self.shown["error"] = f"{test['reconstruction']:.5f}"
        if "spread" in test:
            self.shown["spread"] = f"{test['spread']:.2f}"
        self.shown["rank"] = str(test["rank"])
        if self.bar is not None and not self.bar.disable:
            self.bar.set_postfix(self.shown)
        elif self.show:
            values = ", ".join(f"{name} {value}" for name, value in self.shown.items())
            self._print(f"step {line['step']}/{self.steps}, {values}")
        for warning in line["warnings"] if self.show else []:
            self._print(f"warning: {warning}")

    def notes(self, lines: Sequence[str]) -> None:
        """Print remarks on the options."""
        for line in lines if self.show else []:
            self._print(f"note: {line}")

    def _print(self, text: str) -> None:
        tqdm.write(f"{self.name}: {text}", file=sys.stderr)
