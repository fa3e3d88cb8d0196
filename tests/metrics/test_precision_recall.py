"""Precision, recall, density and coverage against brute force."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from lorae.errors import InputError
from lorae.metrics.precision_recall import precision_recall


def brute(real: np.ndarray, fake: np.ndarray, k: int, wide: int) -> tuple[float, ...]:
    """Return the four figures from their definitions, pair by pair."""

    def radii(x: np.ndarray, k: int) -> list[float]:
        return [sorted(row)[k] for row in cdist(x, x)]

    D = cdist(real, fake)
    r, w, m = radii(real, k), radii(real, wide), radii(fake, k)
    precision = np.mean([any(D[i, j] <= r[i] for i in range(len(real))) for j in range(len(fake))])
    recall = np.mean([any(D[i, j] <= m[j] for j in range(len(fake))) for i in range(len(real))])
    density = sum(D[i, j] <= w[i] for i in range(len(real)) for j in range(len(fake)))
    covered = np.mean([any(D[i, j] <= w[i] for j in range(len(fake))) for i in range(len(real))])
    return precision, recall, density / (wide * len(fake)), covered


@pytest.mark.parametrize(("k", "wide"), [(1, 1), (3, 5), (5, 2)])
@pytest.mark.parametrize(("n", "m", "shift"), [(40, 30, 0.0), (25, 60, 1.5), (30, 30, 20.0)])
def test_figures_equal_brute_force(n, m, shift, k, wide):
    real = torch.randn(n, 4, dtype=torch.float64)
    fake = 0.8 * torch.randn(m, 4, dtype=torch.float64) + shift
    found = precision_recall(real, fake, k=k, coverage_k=wide)
    expected = brute(real.numpy(), fake.numpy(), k, wide)
    values = (found.precision, found.recall, found.density, found.coverage)
    assert values == pytest.approx(expected, abs=1e-12)


def test_many_rows_in_any_precision_give_the_same_result():
    real, fake = torch.randn(2100, 3), torch.randn(1050, 3)
    assert precision_recall(real[:2100], fake) == precision_recall(real.double(), fake.double())
    assert 0.9 < precision_recall(real, fake).precision <= 1


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_copies_of_neighbours_are_inside(offset):
    """Copies of real samples lie exactly on the spheres of others."""
    real = torch.randn(60, 3, dtype=torch.float64) + offset
    fake = torch.cat([real[:30], real[:5], real[:5] + 1e-9])
    found = precision_recall(real, fake)
    values = (found.precision, found.recall, found.density, found.coverage)
    assert values == pytest.approx(brute(real.numpy(), fake.numpy(), 3, 5), abs=1e-12)


def test_samples_that_are_not_finite_are_refused():
    real, fake = torch.randn(20, 3), torch.full((20, 3), np.nan)
    for pair in ((real, fake), (fake, real)):
        with pytest.raises(InputError, match="samples must be finite"):
            precision_recall(*pair)


@pytest.mark.parametrize(
    ("n", "m", "k", "wide", "message"),
    [
        (5, 9, 3, 5, "number of real samples must be .*at least 6, got 5"),
        (9, 3, 3, 1, "number of generated samples must be .*at least 4, got 3"),
        (9, 9, 0, 1, "k must be .*at least 1, got 0"),
    ],
)
def test_too_few_samples_are_refused(n, m, k, wide, message):
    with pytest.raises(InputError, match=message):
        precision_recall(torch.zeros(n, 2), torch.zeros(m, 2), k=k, coverage_k=wide)
