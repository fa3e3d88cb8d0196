"""Kernels and the maximum mean discrepancy against their definitions."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from lorae.errors import InputError
from lorae.linalg.kernels import SCALES, inverse_multiquadratic, mmd


def direct(x: np.ndarray, y: np.ndarray) -> float:
    """Return the estimate by the sums of its definition."""

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        square = float(((a - b) ** 2).sum())
        return sum(2 * len(a) * s / (2 * len(a) * s + square) for s in SCALES)

    def mean(a: np.ndarray, b: np.ndarray, *, apart: bool) -> float:
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not apart or i != j]
        return sum(kernel(a[i], b[j]) for i, j in pairs) / len(pairs)

    return mean(x, x, apart=True) + mean(y, y, apart=True) - 2 * mean(x, y, apart=False)


@pytest.mark.parametrize(("n", "m", "latent"), [(2, 2, 1), (5, 9, 3), (20, 12, 8)])
def test_the_estimate_is_that_of_a_double_loop(n, m, latent):
    x = torch.randn(n, latent, dtype=torch.float64)
    y = 2 * torch.randn(m, latent, dtype=torch.float64) + 0.5
    expected = direct(x.numpy(), y.numpy())
    assert mmd(x, y).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_kernel_is_that_of_its_formula():
    x, y = torch.randn(7, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    square = cdist(x.numpy(), y.numpy(), "sqeuclidean")
    expected = sum(8 * s / (8 * s + square) for s in SCALES)
    np.testing.assert_allclose(inverse_multiquadratic(x, y).numpy(), expected, rtol=1e-10)


def test_the_estimate_is_0_on_average():
    draws = [(torch.randn(10, 3), torch.randn(10, 3)) for _ in range(800)]
    found = np.array([mmd(x, y).item() for x, y in draws])
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found))


def test_gradients_are_finite_where_samples_meet():
    x = torch.zeros(4, 2, requires_grad=True)
    mmd(x, torch.zeros(4, 2)).backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("far", [1e10, 1e18, 1e20, 1e38])
def test_one_code_far_away_changes_no_gradient_of_the_others(far):
    """Against differences of the double sum, in float64."""
    torch.manual_seed(0)
    x, y = torch.randn(5, 3), torch.randn(4, 3)
    x[0] = torch.tensor([far, -far, far])
    x.requires_grad_()
    mmd(x, y).backward()
    assert x.grad.isfinite().all()
    wide, step = x.detach().double().numpy(), 1e-5
    for i, j in ((1, 0), (4, 2)):
        moved = [wide.copy(), wide.copy()]
        moved[0][i, j] += step
        moved[1][i, j] -= step
        expected = (direct(moved[0], y.double().numpy()) - direct(moved[1], y.double().numpy())) / (
            2 * step
        )
        assert x.grad[i, j].item() == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert x.grad[0].abs().max() < 1e-9


def test_too_few_samples_are_refused():
    with pytest.raises(InputError, match="at least 2 samples each, got 1 and 5"):
        mmd(torch.zeros(1, 3), torch.zeros(5, 3))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_have_no_discrepancy(bad):
    x = torch.randn(6, 3)
    x[2, 1] = bad
    assert mmd(x, torch.randn(5, 3)).isnan()
    assert mmd(torch.randn(5, 3), x).isnan()


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_float32_codes_far_from_the_origin_keep_their_kernel(offset):
    x, y = torch.randn(30, 6) + offset, torch.randn(20, 6) + offset
    x[3], x[4] = x[2], x[2] + torch.finfo(torch.float32).eps * x[2]  # a copy and a near copy
    square = cdist(x.double().numpy(), y.double().numpy(), "sqeuclidean")
    expected = sum(12 * s / (12 * s + square) for s in SCALES)
    np.testing.assert_allclose(inverse_multiquadratic(x, y), expected, rtol=1e-5)
    assert inverse_multiquadratic(x, x)[2, 3].item() == pytest.approx(len(SCALES))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(dtype):
    x, y = torch.randn(9, 4).to(dtype), torch.randn(9, 4).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = mmd(x, y)
    assert found.dtype == torch.float32
    assert torch.equal(found, mmd(x.float(), y.float()))
