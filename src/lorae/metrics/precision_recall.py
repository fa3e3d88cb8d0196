r"""Precision, recall, density and coverage of generated samples, by nearest neighbours.

With the ball :math:`B(x)` around a real sample x whose radius is the distance to its k-th nearest
real neighbour, and the generated samples :math:`y_1, \dots, y_m`,

.. math::
    \text{precision} &= \tfrac1m \#\{j : y_j \in \bigcup_i B(x_i)\}, &
    \text{recall} &= \tfrac1n \#\{i : x_i \in \bigcup_j B(y_j)\}, \\
    \text{density} &= \tfrac1{k m} \sum_{i, j} [y_j \in B(x_i)], &
    \text{coverage} &= \tfrac1n \#\{i : \exists j : y_j \in B(x_i)\}.

Precision measures whether generated samples could be real, recall and coverage whether real
samples could be generated. An outlier among the real samples has a large ball, which inflates
precision; density and coverage are robust to it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.metrics.neighbours import distance_blocks, neighbour_distances
from lorae.utils.validation import check_range

_ROUNDING = 1e-9  # a copy of the k-th neighbour itself is inside


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision, recall and coverage, each in [0, 1], and density, at least 0."""

    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall(
    real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], *, k: int = 3, coverage_k: int = 5
) -> PrecisionRecall:
    """Return the four figures in one pass over all distances, a thousand rows at a time.

    References:
        Kynkaanniemi et al., Improved Precision and Recall Metric (NeurIPS 2019), with k = 3;
        Naeem et al., Reliable Fidelity and Diversity Metrics (ICML 2020), with k = 5.

    Args:
        real: n samples, more than either k.
        generated: m samples, likewise.
        k: the neighbour whose distance is the radius for precision and recall.
        coverage_k: the same for density and coverage.

    Example:
        >>> real = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
        >>> found = precision_recall(real, real[:100])  # copies of one half
        >>> found.precision, found.recall > 0.9, found.coverage > 0.9
        (1.0, True, True)
    """
    check_range("k", k, 1)
    check_range("coverage_k", coverage_k, 1)
    most = max(k, coverage_k)
    check_range("number of real samples", len(real), most + 1)
    check_range("number of generated samples", len(generated), most + 1)
    real, generated = real.cpu(), generated.cpu()
    nearest = neighbour_distances(real, most)
    radii, wide_radii = nearest[:, k - 1], nearest[:, coverage_k - 1]
    generated_radii = neighbour_distances(generated, k)[:, -1]
    precise = torch.zeros(len(generated), dtype=torch.bool)
    recalled, density, covered = 0, 0, 0
    for rows, block in distance_blocks(real, generated):
        distances = (1 - _ROUNDING) * block
        precise |= (distances <= radii[rows, None]).any(0)
        recalled += int((distances <= generated_radii).any(1).sum())
        inside = distances <= wide_radii[rows, None]
        density += int(inside.sum())
        covered += int(inside.any(1).sum())
    return PrecisionRecall(
        precision=float(precise.double().mean()),
        recall=recalled / len(real),
        density=density / (coverage_k * len(generated)),
        coverage=covered / len(real),
    )
