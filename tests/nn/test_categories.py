"""Probabilities of categories and their cross-entropy."""

import numpy as np
import pytest
import torch

from lorae.nn.categories import Categories

P = torch.tensor([0.2, 0.8, 0.5, 0.3, 0.2])
SCALE = torch.tensor([0.5, 0.5, 0.7, 0.7, 0.7])
HEAD = Categories((2, 3), P, SCALE)


def one_hot(codes: list[tuple[int, int]]) -> torch.Tensor:
    rows = [[*np.eye(2)[a], *np.eye(3)[b]] for a, b in codes]
    return (torch.tensor(rows, dtype=torch.float32) - P) / SCALE


def test_outputs_are_probabilities_and_no_output_gives_the_frequencies():
    u = torch.randn(4, 7)
    q = HEAD(u)[:, 2:] * SCALE + P
    assert torch.equal(HEAD(u)[:, :2], u[:, :2])
    torch.testing.assert_close(q[:, :2].sum(1), torch.ones(4))
    torch.testing.assert_close(q[:, 2:].sum(1), torch.ones(4))
    torch.testing.assert_close(HEAD(torch.zeros(1, 5)), torch.zeros(1, 5), atol=1e-6, rtol=0)


def test_first_order_is_that_of_a_linear_decoder():
    u = 1e-3 * one_hot([(0, 1), (1, 2)])  # whose probabilities sum to 0 in each column
    torch.testing.assert_close(HEAD(u), u, atol=2e-6, rtol=1e-2)


def test_error_is_that_of_an_explicit_loop():
    torch.manual_seed(0)
    codes = [(0, 2), (1, 0), (1, 1)]
    numbers, decoded = torch.randn(3, 1), HEAD(torch.randn(3, 6)).requires_grad_()
    target = torch.cat([numbers, one_hot(codes)], 1)
    target[0, 0] = torch.nan
    target[2, 3:] = torch.nan  # the second column of the third sample
    total, columns = 0.0, 0
    for i, (row, wanted) in enumerate(zip(decoded.tolist(), target.tolist(), strict=True)):
        if not np.isnan(wanted[0]):
            total, columns = total + (row[0] - wanted[0]) ** 2, columns + 1
        for place, (start, stop) in enumerate([(0, 2), (2, 5)]):
            if np.isnan(wanted[1 + start]):
                continue
            p, s = P[start:stop].numpy(), SCALE[start:stop].numpy()
            q = np.array(row[1 + start : 1 + stop]) * s + p
            entropy, variance = -(p * np.log(p)).sum(), (p * (1 - p) / s**2).sum()
            total -= variance / entropy * np.log(q[codes[i][place]])
            columns += 1
    error = HEAD.error(decoded, target)
    assert error.item() == pytest.approx(total / columns, rel=1e-4)
    (gradient,) = torch.autograd.grad(error, decoded)
    assert (gradient[target.isnan()] == 0).all()


def test_hits_count_observed_categories():
    target = torch.cat([torch.zeros(3, 1), one_hot([(0, 2), (1, 0), (1, 1)])], 1)
    decoded = torch.cat([torch.zeros(3, 1), one_hot([(0, 1), (0, 0), (1, 1)])], 1)
    target[2, 3:] = torch.nan
    assert HEAD.hits(decoded, target) == ([2, 1], [3, 2])
