"""Samples as tensors or as rows that stay in files or on a device, and random subsets of them."""

from collections.abc import Callable
from typing import overload

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


class Rows:
    """Selected rows of one or several tensors, copied only when they are indexed.

    Args:
        samples: tensors that are read as if concatenated along their first axis.
        rows: indices into the concatenation, in the order wanted; all rows by default.
        transform: function applied to the rows that an index selects.

    Example:
        >>> rows = Rows(torch.arange(3), torch.arange(10, 13), rows=torch.tensor([5, 0, 3]))
        >>> len(rows), rows[:2]
        (3, tensor([12,  0]))
    """

    def __init__(
        self,
        *samples: Tensor,
        rows: Tensor | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.samples, self.transform = samples, transform
        self.rows = torch.arange(sum(map(len, samples))) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        selected = self._copy(self.rows[index])
        return selected if self.transform is None else self.transform(selected)

    def select(self, index: Tensor) -> "Rows":
        """Return the rows at an index, still uncopied."""
        return Rows(*self.samples, rows=self.rows[index], transform=self.transform)

    def _copy(self, rows: Tensor) -> Tensor:
        first = self.samples[0]
        if len(self.samples) == 1:
            return first[rows]
        selected, start = first.new_empty(len(rows), *first.shape[1:]), 0
        for part in self.samples:
            inside = (rows >= start) & (rows < start + len(part))
            selected[inside] = part[rows[inside] - start]
            start += len(part)
        return selected


@overload
def subsample(samples: Tensor, count: int, seed: int = 0) -> Tensor: ...
@overload
def subsample(samples: Rows, count: int, seed: int = 0) -> Rows: ...
def subsample(samples: Tensor | Rows, count: int, seed: int = 0) -> Tensor | Rows:
    """Return at most `count` of the samples, drawn without replacement.

    Args:
        samples: a tensor or `Rows`, returned as it is if it has no more than `count` samples.
        count: the largest number of samples to return.
        seed: seed of the draw; the result depends on it and on the number of samples alone.

    Example:
        >>> len(subsample(torch.rand(10, 3), 4)), len(subsample(torch.rand(2, 3), 4))
        (4, 2)
    """
    if len(samples) <= count:
        return samples
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(len(samples), generator=generator)[:count]
    return samples.select(index) if isinstance(samples, Rows) else samples[index]


def as_float(samples: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return samples as float32, bytes divided by 255; float64 stays float64.

    Example:
        >>> as_float(torch.tensor([0, 255], dtype=torch.uint8))
        tensor([0., 1.])
    """
    if samples.dtype == torch.uint8:
        return samples.float().div_(255)
    return samples if samples.dtype == torch.float64 else samples.float()


def has_gaps(samples: Tensor) -> bool:
    """Return whether a value is missing, which is NaN.

    Example:
        >>> has_gaps(torch.tensor([1.0, torch.nan])), has_gaps(torch.tensor([1]))
        (True, False)
    """
    return samples.is_floating_point() and bool(samples.isnan().any())
