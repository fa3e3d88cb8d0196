"""Sums of the loss's terms over the steps since they were last written down."""

import math
from dataclasses import dataclass, field

import torch
from lightning_fabric import Fabric
from torch import Tensor


@dataclass
class Totals:
    """The sum of each term and the number of steps, kept on the device.

    Example:
        >>> totals = Totals()
        >>> totals.add({"reconstruction": torch.tensor(1.0)})
        >>> totals.add({"reconstruction": torch.tensor(3.0)})
        >>> totals.means()
        {'loss': 2.0, 'reconstruction': 2.0}
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0

    def add(self, terms: dict[str, Tensor]) -> None:
        """Add the terms of one step."""
        for name, term in terms.items():
            value = term.detach()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.steps += 1

    def finite(self) -> bool:
        """Whether every sum is a finite number."""
        return all(math.isfinite(float(total)) for total in self.sums.values())

    def means(self) -> dict[str, float]:
        """Return the mean of each term, and of the loss, per step."""
        means = {name: float(total) / self.steps for name, total in self.sums.items()}
        return {"loss": sum(means.values())} | means

    def agree(self, fabric: Fabric) -> None:
        """Give every process the mean of all processes' sums."""
        for name, total in self.sums.items():
            mean = fabric.all_reduce(total)
            assert isinstance(mean, Tensor)
            self.sums[name] = mean

    def clear(self) -> None:
        """Begin again."""
        self.sums, self.steps = {}, 0

    def state_dict(self) -> dict[str, Tensor]:
        """Return the sums, for a checkpoint."""
        return self.sums | {"steps": torch.tensor(self.steps)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up the sums of a checkpoint."""
        self.steps = int(state["steps"])
        self.sums = {name: total for name, total in state.items() if name != "steps"}
