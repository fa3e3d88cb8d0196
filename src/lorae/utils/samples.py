"""Rows of samples that stay where they are, in files larger than memory or on a device."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def _unchanged(samples: Tensor) -> Tensor:
    return samples


class Rows:
    """Some rows of samples; an index makes a tensor of what it selects, and of nothing else.

    Args:
        samples: tensors that follow each other, alike but for their lengths.
        rows: which, in which order, counted over all of them; every one by default.
        each: what becomes of rows once they are selected.

    Example:
        >>> rows = Rows(torch.arange(3), torch.arange(10, 13), rows=torch.tensor([5, 0, 3]))
        >>> len(rows), rows[:2]
        (3, tensor([12,  0]))
    """

    def __init__(
        self,
        *samples: Tensor,
        rows: Tensor | None = None,
        each: Callable[[Tensor], Tensor] = _unchanged,
    ) -> None:
        self.samples, self.each = samples, each
        self.rows = torch.arange(sum(map(len, samples))) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        rows = self.rows[index]
        if len(self.samples) == 1:
            return self.each(self.samples[0][rows])
        first = self.samples[0]
        selected, start = first.new_empty(len(rows), *first.shape[1:]), 0
        for part in self.samples:
            here = (rows >= start) & (rows < start + len(part))
            selected[here] = part[rows[here] - start]
            start += len(part)
        return self.each(selected)

    def drawn(self, count: int, seed: int = 0) -> "Rows":
        """Return at most that many of the rows, the same ones for a seed."""
        if len(self) <= count:
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return Rows(*self.samples, rows=self.rows[order[:count]], each=self.each)


def as_float(samples: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return samples as float32, bytes divided by 255.

    Example:
        >>> as_float(torch.tensor([0, 255], dtype=torch.uint8))
        tensor([0., 1.])
    """
    if samples.dtype == torch.uint8:
        return samples.float().div_(255)
    return samples.float()
