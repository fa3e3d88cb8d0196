"""The Frechet distance against other ways to compute it."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from lorae.errors import InputError
from lorae.linalg.moments import Moments
from lorae.metrics.frechet import frechet_distance


def moments(x: torch.Tensor) -> Moments:
    return Moments(x.shape[1]).update(x)


def samples(n: int, d: int, rank: int, shift: float = 0.0) -> torch.Tensor:
    mixing = torch.randn(rank, d, dtype=torch.float64)
    return torch.randn(n, rank, dtype=torch.float64) @ mixing + shift


class TestFrechet:
    @pytest.mark.parametrize("d", [1, 3, 20])
    def test_equals_scipys_matrix_square_root(self, d):
        x, y = samples(200, d, d), samples(150, d, d, 1.0)
        a, b = np.cov(x.numpy(), rowvar=False).reshape(d, d), np.cov(y.numpy().T).reshape(d, d)
        root = sqrtm(a @ b)
        expected = ((x - y.mean(0)).mean(0) ** 2).sum().item() + np.trace(a + b - 2 * root).real
        assert frechet_distance(moments(x), moments(y)) == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize(("n", "d", "rank"), [(500, 10, 10), (500, 60, 4), (20, 60, 60)])
    def test_distance_to_itself_is_0_for_any_rank(self, n, d, rank):
        x = samples(n, d, rank)
        scale = x.var(0).sum().item()
        assert frechet_distance(moments(x), moments(x)) < 1e-6 * min(1, scale)
        assert frechet_distance(moments(x[::2]), moments(x[1::2])) > 0

    @pytest.mark.parametrize(("n", "d"), [(30, 50), (200, 8)])
    def test_equals_the_nuclear_norm_of_the_samples(self, n, d):
        """tr (C_1 C_2)^(1/2) = ||A^T B||_* for C_1 = A A^T and C_2 = B B^T."""
        x, y = samples(n, d, min(n, d)), samples(n, d, 5, 0.3)
        A, B = ((s - s.mean(0)).T / np.sqrt(n - 1) for s in (x, y))
        cross = torch.linalg.svdvals(A.T @ B).sum()
        shift = (x.mean(0) - y.mean(0)).square().sum()
        expected = (shift + x.var(0).sum() + y.var(0).sum() - 2 * cross).item()
        assert frechet_distance(moments(x), moments(y)) == pytest.approx(expected, rel=1e-6)
        assert frechet_distance(moments(y), moments(x)) == pytest.approx(expected, rel=1e-6)

    def test_refuses_different_dimensions_and_single_samples(self):
        with pytest.raises(InputError, match="the same dimension, got 2 and 3"):
            frechet_distance(moments(torch.randn(5, 2)), moments(torch.randn(5, 3)))
        with pytest.raises(InputError, match="at least 2 samples"):
            frechet_distance(moments(torch.randn(1, 2)), moments(torch.randn(5, 2)))

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_samples_that_are_not_finite_have_no_distance(self, bad):
        x = torch.randn(9, 3)
        y = x.clone()
        y[2, 1] = bad
        for a, b in ((x, y), (y, x)):
            with pytest.raises(InputError, match="samples must be finite, got NaN or infinite"):
                frechet_distance(moments(a), moments(b))
