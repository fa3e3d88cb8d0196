"""Progress of long work on standard error: a bar on a terminal, else a line now and then."""

import sys
import time
from typing import Any

from tqdm import tqdm

INTERVAL = 30.0
"""Seconds between two lines where there is no terminal."""


class ProgressBar(tqdm):  # type: ignore[misc]
    """A bar on a terminal; elsewhere a line every 30 seconds, with the time that is left.

    Args:
        options: those of tqdm.

    Example:
        >>> [k for k in ProgressBar(range(3), desc="squares")]
        [0, 1, 2]
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.lines = not sys.stderr.isatty()
        if self.lines:
            options |= {
                "bar_format": "{desc}: {n_fmt} of {total_fmt} {unit}, {remaining} left",
                "mininterval": INTERVAL,
                "miniters": 1,
                "delay": INTERVAL,
            }
        self.opened = time.perf_counter()
        super().__init__(*arguments, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Print the state, as a line where there is no terminal."""
        if not self.lines:
            return bool(super().display(msg, pos))
        if msg is None and time.perf_counter() - self.opened >= INTERVAL:
            sys.stderr.write(f"{self}\n")
        return True

    def clear(self, nolock: bool = False) -> None:  # noqa: FBT001, FBT002 - of tqdm
        """Remove the bar from the terminal."""
        if not self.lines:
            super().clear(nolock)

    def close(self) -> None:
        """End the bar, without another line."""
        if self.lines:
            self.disable = True
        super().close()
