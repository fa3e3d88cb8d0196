r"""Mean and covariance of a stream.

.. math::
    \mu = \frac1n \sum_i x_i, \qquad
    C = \frac{1}{n - 1} \sum_i (x_i - \mu)(x_i - \mu)^\top

A :class:`Moments` holds :math:`n`, :math:`\mu` and the scatter :math:`S = (n - 1) C` in float64,
in memory that does not depend on :math:`n`, and two of them merge exactly:

.. math::
    \delta = \mu_b - \mu_a, \qquad
    \mu = \mu_a + \frac{n_b}{n} \delta, \qquad
    S = S_a + S_b + \frac{n_a n_b}{n} \delta \delta^\top.

No large numbers are subtracted, so a mean far from the origin costs no accuracy.

Reference: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing
sample variances, COMPSTAT 1982.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError
from lorae.utils.validation import check_finite

ROWS = 8192
"""Rows of a batch that are converted to float64 at a time."""


class Moments:
    r"""Streaming, mergeable mean and covariance of vectors of one dimension.

    Batches may be of any size (also empty), floating type and device. The state lives in
    float64 where the last batch did, or on the CPU if that device has no float64.

    Example:
        >>> moments = Moments(2)
        >>> for batch in torch.tensor([[[0.0, 1.0], [2.0, 1.0]], [[4.0, 1.0], [6.0, 1.0]]]):
        ...     moments = moments.update(batch)
        >>> moments.count, moments.mean.tolist()
        (4, [3.0, 1.0])
        >>> moments.spectrum()
        tensor([6.6667, 0.0000], dtype=torch.float64)
    """

    def __init__(self, dimension: int) -> None:
        if dimension < 1:
            raise InputError(f"dimension must be at least 1, got {dimension}")
        self._count = 0
        self._mean = torch.zeros(dimension, dtype=torch.float64)
        self._scatter = torch.zeros(dimension, dimension, dtype=torch.float64)

    @property
    def dimension(self) -> int:
        """The length :math:`d` of a sample."""
        return len(self._mean)

    @property
    def count(self) -> int:
        """The number :math:`n` of samples so far."""
        return self._count

    @property
    def mean(self) -> Float[Tensor, " d"]:
        r"""The mean :math:`\mu`; an InputError before the first sample."""
        self._require(1, "a mean")
        return self._mean

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """The unbiased covariance :math:`C`."""
        self._require(2, "a covariance")
        check_finite("samples", self._scatter)
        return self._scatter / (self._count - 1)

    def spectrum(self) -> Float[Tensor, " d"]:
        """Return the eigenvalues of the covariance, descending, none negative.

        They are also its singular values. Negative ones are rounding errors and become zero.
        """
        ascending: Tensor = torch.linalg.eigvalsh(self.covariance)
        return ascending.flip(-1).clamp(min=0)

    def update(self, batch: Float[Tensor, "n d"]) -> "Moments":
        """Add the rows of a batch, and return self."""
        if batch.ndim != 2 or batch.shape[1] != self.dimension:
            shape = tuple(batch.shape)
            raise InputError(f"batch must have shape (n, {self.dimension}), got {shape}")
        if len(batch) == 0:
            return self
        for part in torch.split(batch.detach(), ROWS):
            samples = part.to(_float64_device(batch.device), torch.float64)
            mean = samples.mean(0)
            centred = samples - mean
            self._add(len(samples), mean, centred.mT @ centred)
        return self

    def merge(self, other: "Moments") -> "Moments":
        """Add the samples of other moments, and return self; the other is not changed."""
        if other.dimension != self.dimension:
            raise InputError(
                f"other must have the dimension {self.dimension}, got {other.dimension}"
            )
        state = other.tensors()
        return self._add(other.count, state["mean"], state["scatter"]) if other.count else self

    def tensors(self) -> dict[str, Tensor]:
        """Return the state: count (int64), mean (d) and scatter (d, d), both float64."""
        return {
            "count": torch.tensor(self._count),
            "mean": self._mean,
            "scatter": self._scatter,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Moments":
        """Return the moments with a state from :meth:`tensors`."""
        moments = cls(len(tensors["mean"]))
        moments._count = int(tensors["count"])
        moments._mean = tensors["mean"].double()
        moments._scatter = tensors["scatter"].double()
        return moments

    def _add(
        self, count: int, mean: Float[Tensor, " d"], scatter: Float[Tensor, "d d"]
    ) -> "Moments":
        # New tensors rather than in place: `mean` and `tensors()` hand out the old ones.
        total = self._count + count
        delta = mean - self._mean.to(mean.device)
        between = (self._count * count / total) * torch.outer(delta, delta)
        self._scatter = self._scatter.to(mean.device) + scatter + between
        self._mean = self._mean.to(mean.device) + (count / total) * delta
        self._count = total
        return self

    def _require(self, count: int, what: str) -> None:
        if self._count < count:
            raise InputError(f"{what} needs at least {count} samples, got {self._count}")


def _float64_device(device: torch.device) -> torch.device:
    return torch.device("cpu") if device.type == "mps" else device
