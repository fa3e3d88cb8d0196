"""What a person sees of a training while it goes on, on standard error."""

import sys
from typing import Any

from tqdm import tqdm


class Display:
    """What a person sees of training: a bar on a terminal, else a line at each evaluation."""

    def __init__(self, name: str, steps: int, *, show: bool) -> None:
        self.name, self.steps, self.show = name, steps, show
        self.bar: tqdm[Any] | None = None
        self.shown: dict[str, str] = {}

    def opened(self, step: int) -> "tqdm[Any]":
        """Start the bar at a step, for use in a `with` statement."""
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
        """Move on by one step."""
        if self.bar is not None:
            self.bar.update()

    def loss(self, value: float) -> None:
        """Show the mean loss since the last evaluation."""
        self.shown["loss"] = f"{value:.5f}"
        if self.bar is not None:
            self.bar.set_postfix(self.shown)

    def evaluation(self, line: dict[str, Any]) -> None:
        """Show error and rank of a line of metrics."""
        test = line["test"]
        self.shown |= {"error": f"{test['reconstruction']:.5f}", "rank": str(test["rank"])}
        if self.bar is not None and not self.bar.disable:
            self.bar.set_postfix(self.shown)
        elif self.show:
            told = ", ".join(f"{name} {value}" for name, value in self.shown.items())
            tqdm.write(f"{self.name}: step {line['step']}/{self.steps}, {told}", file=sys.stderr)
