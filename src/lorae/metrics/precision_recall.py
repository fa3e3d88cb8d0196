r"""How two sets of samples cover each other, by distances to nearest neighbours.

With the ball :math:`B(x)` around a real sample x whose radius is the distance to its k-th nearest
real neighbour, and the generated samples :math:`y_1, \dots, y_m`,

.. math::
    \text{precision} &= \tfrac1m \#\{j : y_j \in \bigcup_i B(x_i)\}, &
    \text{recall} &= \tfrac1n \#\{i : x_i \in \bigcup_j B(y_j)\}, \\
    \text{density} &= \tfrac1{k m} \sum_{i, j} [y_j \in B(x_i)], &
    \text{coverage} &= \tfrac1n \#\{i : \exists j : y_j \in B(x_i)\}.

Precision asks whether what is generated could be real, recall and coverage whether what is real
could be generated. A single outlier among the real samples has a large ball, which inflates
precision; density and coverage do not suffer from it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError


@dataclass(frozen=True)
class Coverage:
    """Precision, recall and coverage, each in [0, 1], and density, at least 0."""

    precision: float
    recall: float
    density: float
    coverage: float


def coverage(
    real: Float[Tensor, "n d"], made: Float[Tensor, "m d"], *, k: int = 3, wide: int = 5
) -> Coverage:
    """Return the four figures; memory is that of a thousand rows of distances.

    References:
        Kynkaanniemi et al., Improved Precision and Recall Metric (NeurIPS 2019), with k = 3;
        Naeem et al., Reliable Fidelity and Diversity Metrics (ICML 2020), with k = 5.

    Args:
        real: n samples, more than either k.
        made: m samples, more than k.
        k: the neighbour whose distance is the radius for precision and recall, at least 1.
        wide: the same for density and coverage.

    Raises:
        InputError: if there are too few samples.

    Example:
        >>> real = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
        >>> found = coverage(real, real[:100])  # one half of it, copied
        >>> found.precision, found.recall > 0.9, found.coverage > 0.9
        (1.0, True, True)
    """
    least = max(k, wide) + 1
    if min(k, wide) < 1 or len(real) < least or len(made) < least:
        raise InputError(
            f"neighbour number {max(k, wide)} needs at least {least} samples of each kind, got "
            f"{len(real)} and {len(made)}"
        )
    radii, wide_radii, made_radii = _radii(real, k), _radii(real, wide), _radii(made, k)
    near, recalled = torch.zeros(len(made), dtype=torch.bool), []
    within, covered = 0, []
    for rows in torch.split(torch.arange(len(real)), 1000):
        part, radius, broad = real[rows], radii[rows], wide_radii[rows]
        distances = torch.cdist(part.double(), made.double())
        near |= (distances <= radius[:, None]).any(0).cpu()
        recalled.append((distances <= made_radii).any(1))
        inside = distances <= broad[:, None]
        within += int(inside.sum())
        covered.append(inside.any(1))
    return Coverage(
        precision=float(near.double().mean()),
        recall=float(torch.cat(recalled).double().mean()),
        density=within / (wide * len(made)),
        coverage=float(torch.cat(covered).double().mean()),
    )


def _radii(samples: Tensor, k: int) -> Float[Tensor, " n"]:
    """Return the distance of each sample to its k-th nearest neighbour among the others."""
    every = samples.double()
    parts = [
        torch.cdist(part, every).kthvalue(k + 1, dim=1).values  # the nearest is the sample itself
        for part in torch.split(every, 1000)
    ]
    return torch.cat(parts)
