r"""Categories in the output of a decoder: probabilities, and their cross-entropy.

For a column of K categories with frequencies p, a sample has K values, 1 for its category and 0 for
the others. In scaled units p is subtracted from them, and they are divided by :math:`s`. The output
u of the decoder becomes the probabilities

.. math:: q = \operatorname{softmax}\Big(\log p + \frac{s u}{\max(p, 0.1)}\Big),

which are :math:`p + s u` to first order where p is above 0.1, so that a linear decoder of one-hot
values is the linearization of this one. The column counts as one column of numbers: with the
entropy H of p and the total variance v of its scaled values its error is

.. math:: \frac{v}{H} \big(-\log q_k\big),

whose mean is v for q = p, just as a column of numbers that is reconstructed by its mean has its
variance as the error.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

RARE = 0.1
"""The least frequency by which the values of a category are divided."""
TINY = 1e-6
"""The least frequency and probability of which logarithms are taken."""


class Categories(nn.Module):
    """Turns the last values of a decoder into probabilities of categories, in scaled units.

    Args:
        sizes: the number of categories of each column; their values are the last of a sample.
        frequencies: of all categories, which are the shift of their values.
        scale: that divides their values.
    """

    frequencies: Tensor
    scale: Tensor

    def __init__(self, sizes: Sequence[int], frequencies: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.register_buffer("frequencies", frequencies.detach().float().clone())
        self.register_buffer("scale", scale.detach().float().clone())

    @property
    def count(self) -> int:
        """The number of values of categories of a sample."""
        return sum(self.sizes)

    def forward(self, u: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return scaled numbers, and scaled probabilities."""
        numbers, values = u[:, : -self.count], u[:, -self.count :]
        p = self.frequencies.clamp(min=TINY)
        logits = p.log() + values * self.scale / p.clamp(min=RARE)
        q = torch.cat([part.softmax(1) for part in torch.split(logits, self.sizes, 1)], 1)
        return torch.cat([numbers, (q - self.frequencies) / self.scale], 1)

    def error(
        self, decoded: Float[Tensor, "n d"], target: Float[Tensor, "n d"]
    ) -> Float[Tensor, ""]:
        """Return the mean error over all observed columns, with cross-entropies of categories."""
        observed = ~target.isnan()
        numbers = slice(None, -self.count)
        squares = torch.where(observed, decoded - target, 0)[:, numbers].square()
        total, columns = squares.sum(), observed[:, numbers].sum()
        for q, one, p, scale in self._columns(decoded, target):
            there = ~one[:, 0].isnan()
            entropy = -(p * p.clamp(min=TINY).log()).sum()
            variance = (p * (1 - p) / scale.square()).sum()
            cross = -(one.nan_to_num(0) * q.clamp(min=TINY).log()).sum()
            total = total + variance / entropy.clamp(min=0.01) * cross
            columns = columns + there.sum()
        return total / columns

    def hits(
        self, decoded: Float[Tensor, "n d"], target: Float[Tensor, "n d"]
    ) -> tuple[list[int], list[int]]:
        """Return for each column how many categories were right, and how many are observed."""
        right, counts = [], []
        for q, one, _, _ in self._columns(decoded, target):
            there = ~one[:, 0].isnan()
            same = q.argmax(1) == one.nan_to_num(0).argmax(1)
            right.append(int((same & there).sum()))
            counts.append(int(there.sum()))
        return right, counts

    def _columns(self, decoded: Tensor, target: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield probabilities, one-hot values, frequencies and scale of each column."""
        values = (
            part[:, -self.count :] * self.scale + self.frequencies for part in (decoded, target)
        )
        parts = [torch.split(part, self.sizes, 1) for part in values]
        own = [torch.split(part, self.sizes) for part in (self.frequencies, self.scale)]
        yield from zip(*parts, *own, strict=True)
