"""Distances of samples against direct computation, and what they say of themselves."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from lorae.errors import InputError
from lorae.linalg.moments import Moments
from lorae.metrics.frechet import frechet, kernel_distance


def moments(x: torch.Tensor) -> Moments:
    return Moments(x.shape[1]).update(x)


def samples(n: int, d: int, rank: int, shift: float = 0.0) -> torch.Tensor:
    mixing = torch.randn(rank, d, dtype=torch.float64)
    return torch.randn(n, rank, dtype=torch.float64) @ mixing + shift


class TestFrechet:
    @pytest.mark.parametrize("d", [1, 3, 20])
    def test_is_that_of_a_matrix_square_root(self, d):
        x, y = samples(200, d, d), samples(150, d, d, 1.0)
        a, b = np.cov(x.numpy(), rowvar=False).reshape(d, d), np.cov(y.numpy().T).reshape(d, d)
        root = sqrtm(a @ b)
        expected = ((x - y.mean(0)).mean(0) ** 2).sum().item() + np.trace(a + b - 2 * root).real
        assert frechet(moments(x), moments(y)) == pytest.approx(expected, rel=1e-6)

    def test_is_the_closed_form_for_normals_of_one_axis(self):
        x = torch.randn(50, 4, dtype=torch.float64) * torch.tensor([1.0, 2.0, 3.0, 0.0])
        y = 3 * x + torch.tensor([1.0, 0.0, 0.0, 2.0])
        # C_2 = 9 C_1, so that tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)) = 4 tr C_1
        shift = (y.mean(0) - x.mean(0)).square().sum().item()
        expected = shift + 4 * x.var(0).sum().item()
        assert frechet(moments(x), moments(y)) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize(("n", "d", "rank"), [(500, 10, 10), (500, 60, 4), (20, 60, 60)])
    def test_of_a_set_with_itself_is_0_also_for_low_ranks(self, n, d, rank):
        x = samples(n, d, rank)
        scale = x.var(0).sum().item()
        assert frechet(moments(x), moments(x)) < 1e-6 * min(1, scale)
        assert frechet(moments(x[::2]), moments(x[1::2])) > 0

    @pytest.mark.parametrize(("n", "d"), [(30, 50), (200, 8)])
    def test_is_that_of_the_nuclear_norm_of_the_samples(self, n, d):
        """tr (C_1 C_2)^(1/2) = ||A^T B||_* for C_1 = A A^T and C_2 = B B^T."""
        x, y = samples(n, d, min(n, d)), samples(n, d, 5, 0.3)
        A, B = ((s - s.mean(0)).T / np.sqrt(n - 1) for s in (x, y))
        cross = torch.linalg.svdvals(A.T @ B).sum()
        shift = (x.mean(0) - y.mean(0)).square().sum()
        expected = (shift + x.var(0).sum() + y.var(0).sum() - 2 * cross).item()
        assert frechet(moments(x), moments(y)) == pytest.approx(expected, rel=1e-6)
        assert frechet(moments(y), moments(x)) == pytest.approx(expected, rel=1e-6)

    def test_refuses_other_dimensions_and_a_single_sample(self):
        with pytest.raises(InputError, match="of one dimension, these have 2 and 3"):
            frechet(moments(torch.randn(5, 2)), moments(torch.randn(5, 3)))
        with pytest.raises(InputError, match="at least 2 samples"):
            frechet(moments(torch.randn(1, 2)), moments(torch.randn(5, 2)))


class TestKernelDistance:
    @pytest.mark.parametrize(("n", "m", "d"), [(20, 20, 3), (41, 23, 6)])
    def test_is_that_of_a_double_loop(self, n, m, d):
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

    def test_is_0_on_average_over_splits_of_one_set_and_knows_its_error(self):
        whole = torch.randn(4000, 5)
        found = []
        for _ in range(80):
            x, y = whole[torch.randperm(4000)[:400]].chunk(2)
            found.append(kernel_distance(x, y))
        values = np.array([one.value for one in found])
        assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))
        told = np.mean([one.error for one in found])
        assert 0.7 < told / values.std() < 2  # too large by about 1.4 for equal distributions

    def test_knows_its_error_between_distributions(self):
        found = [kernel_distance(torch.randn(200, 5), torch.randn(200, 5) + 1) for _ in range(80)]
        values = np.array([one.value for one in found])
        assert 0.75 < np.mean([one.error for one in found]) / values.std() < 1.35

    @pytest.mark.parametrize("blocks", [2, 4])
    def test_its_error_is_the_jackknifes(self, blocks):
        x, y = torch.randn(12, 3), torch.randn(16, 3) + 0.5
        parts = [part.chunk(blocks) for part in (x, y)]
        without = [
            kernel_distance(*(torch.cat(p[:b] + p[b + 1 :]) for p in parts), blocks=2).value
            for b in range(blocks)
        ]
        expected = np.sqrt((blocks - 1) * np.var(without))
        assert kernel_distance(x, y, blocks=blocks).error == pytest.approx(expected, rel=1e-6)

    def test_few_samples_make_fewer_blocks(self):
        x, y = torch.randn(2, 5, 3)
        assert kernel_distance(x, y, blocks=10) == kernel_distance(x, y, blocks=2)

    def test_tells_another_distribution(self):
        found = kernel_distance(torch.randn(500, 5), torch.randn(500, 5) + 1)
        assert found.value > 10 * found.error > 0

    @pytest.mark.parametrize(("n", "blocks"), [(3, 10), (5, 1)])
    def test_too_few_samples_are_told(self, n, blocks):
        with pytest.raises(InputError, match="at least 2 blocks of 2 samples"):
            kernel_distance(torch.zeros(n, 2), torch.zeros(40, 2), blocks=blocks)
