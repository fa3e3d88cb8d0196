"""Figures that come with their uncertainty."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Interval:
    """The mean of several values, and an interval that holds the true mean with probability 0.95.

    Args:
        values: at least one; of a single one there is no interval.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean."""
        return math.fsum(self.values) / len(self.values)

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval, by Student's t, None for a single value."""
        n = len(self.values)
        if n < 2:
            return None
        from scipy.stats import t  # half a second, which most commands can do without

        variance = math.fsum((v - self.mean) ** 2 for v in self.values) / (n - 1)
        return float(t.ppf(0.975, n - 1)) * math.sqrt(variance / n)

    def to_dict(self) -> dict[str, Any]:
        """Return mean, half width and values, as JSON can hold them."""
        return {"mean": self.mean, "half_width": self.half_width, "values": list(self.values)}

    def __str__(self) -> str:
        """Return the mean and half the width, to four digits."""
        half = self.half_width
        return f"{self.mean:.4g}" + ("" if half is None else f" ± {half:.2g}")
