"""What a person sees of a training while it goes on, on standard error."""

import sys
from collections.abc import Sequence
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
        """Show error and rank of a line of metrics, and its warnings."""
        test = line["test"]
        if test["reconstruction"] is not None:
            self.shown["error"] = f"{test['reconstruction']:.5f}"
        if "spread" in test:
            self.shown["spread"] = f"{test['spread']:.2f}"
        self.shown["rank"] = str(test["rank"])
        self._show(line["step"])
        for warning in line["warnings"]:
            self.warn(warning)

    def evaluations(self, lines: Sequence[dict[str, Any]]) -> None:
        """Show the range of error and rank of several models at one step."""
        ranks = [line["test"]["rank"] for line in lines]
        errors = [line["test"]["reconstruction"] for line in lines]
        if None not in errors:
            self.shown["error"] = f"{min(errors):.5f} to {max(errors):.5f}"
        self.shown["rank"] = f"{min(ranks)} to {max(ranks)}"
        self._show(lines[0]["step"])

    def warn(self, warning: str) -> None:
        """Tell a warning."""
        if self.show:
            self._tell(f"warning: {warning}")

    def _show(self, step: int) -> None:
        if self.bar is not None and not self.bar.disable:
            self.bar.set_postfix(self.shown)
        elif self.show:
            told = ", ".join(f"{name} {value}" for name, value in self.shown.items())
            self._tell(f"step {step}/{self.steps}, {told}")

    def _tell(self, text: str) -> None:
        tqdm.write(f"{self.name}: {text}", file=sys.stderr)
