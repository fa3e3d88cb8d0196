"""The kernel distance against direct computation, and its standard error against repetition."""

import numpy as np
import pytest
import torch

from lorae.errors import InputError
from lorae.metrics.kernel_distance import kernel_distance


@pytest.mark.parametrize(("n", "m", "d"), [(20, 20, 3), (41, 23, 6)])
def test_value_equals_a_double_loop(n, m, d):
    x, y = torch.randn(n, d, dtype=torch.float64), torch.randn(m, d, dtype=torch.float64) + 1

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / d + 1) ** 3)

    within = [
        sum(k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j)
        / (len(s) * (len(s) - 1))
        for s in (x.numpy(), y.numpy())
    ]
    across = np.mean([k(a, b) for a in x.numpy() for b in y.numpy()])
    found = kernel_distance(x, y, blocks=2)
    assert found.value == pytest.approx(sum(within) - 2 * across, rel=1e-9)


def test_mean_over_splits_of_one_set_is_0_and_error_matches():
    whole = torch.randn(4000, 5)
    found = []
    for _ in range(80):
        x, y = whole[torch.randperm(4000)[:400]].chunk(2)
        found.append(kernel_distance(x, y))
    values = np.array([one.value for one in found])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))
    stated = np.mean([one.error for one in found])
    assert 0.7 < stated / values.std() < 2  # too large by about 1.4 for equal distributions


def test_error_matches_between_distributions():
    found = [kernel_distance(torch.randn(200, 5), torch.randn(200, 5) + 1) for _ in range(80)]
    values = np.array([one.value for one in found])
    assert 0.75 < np.mean([one.error for one in found]) / values.std() < 1.35


@pytest.mark.parametrize("blocks", [2, 4])
def test_error_is_the_jackknifes(blocks):
    x, y = torch.randn(12, 3), torch.randn(16, 3) + 0.5
    parts = [part.chunk(blocks) for part in (x, y)]
    without = [
        kernel_distance(*(torch.cat(p[:b] + p[b + 1 :]) for p in parts), blocks=2).value
        for b in range(blocks)
    ]
    expected = np.sqrt((blocks - 1) * np.var(without))
    assert kernel_distance(x, y, blocks=blocks).error == pytest.approx(expected, rel=1e-6)


def test_few_samples_reduce_the_number_of_blocks():
    x, y = torch.randn(2, 5, 3)
    assert kernel_distance(x, y, blocks=10) == kernel_distance(x, y, blocks=2)


@pytest.mark.parametrize(
    ("n", "blocks", "message"),
    [
        (3, 10, "number of samples must be .*at least 4, got 3"),
        (5, 1, "blocks must be .*at least 2, got 1"),
    ],
)
def test_too_few_samples_or_blocks_are_refused(n, blocks, message):
    with pytest.raises(InputError, match=message):
        kernel_distance(torch.zeros(n, 2), torch.zeros(40, 2), blocks=blocks)


def test_samples_that_are_not_finite_are_refused():
    x, y = torch.randn(2, 9, 3)
    y[1, 1] = torch.nan
    for pair in ((x, y), (y, x)):
        with pytest.raises(InputError, match="samples must be finite"):
            kernel_distance(*pair)
