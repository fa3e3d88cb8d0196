"""Figures that come with their uncertainty."""

from dataclasses import dataclass
from statistics import fmean
from typing import Any


@dataclass(frozen=True)
class Interval:
    """The mean of several values and its 95 % confidence interval by Student's t.

    Args:
        values: at least one; a single value has no interval.

    Example:
        >>> print(Interval((1.0, 2.0, 3.0)))
        2 ± 2.5
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean."""
        return fmean(self.values)

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval, None for a single value."""
        if len(self.values) < 2:
            return None
        from scipy.stats import sem, t  # slow to import, and most commands do not need it

        return float(t.ppf(0.975, len(self.values) - 1) * sem(self.values))

    def to_dict(self) -> dict[str, Any]:
        """Return mean, half width and values, as JSON can hold them."""
        return {"mean": self.mean, "half_width": self.half_width, "values": list(self.values)}

    def __str__(self) -> str:
        """Return the mean and half the width, to four and two digits."""
        half = self.half_width
        return f"{self.mean:.4g}" + ("" if half is None else f" ± {half:.2g}")
