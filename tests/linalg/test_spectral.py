"""Laws of the spectral functions, over a list of matrices and in float64 unless said otherwise."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import ATOL, ATOL32, FULL_RANK, MATRICES, close, gaussian, matrices
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from lorae.errors import InputError
from lorae.linalg import spectral

THRESHOLDS = [0.0, 0.37, 1.7, 100.0]
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "singular_values": spectral.singular_values,
    "nuclear_norm": spectral.nuclear_norm,
    "polar_factor": spectral.polar_factor,
    "soft_threshold": lambda A: spectral.soft_threshold(A, 0.37),
    "truncate": lambda A: spectral.truncate(A, 2),
}
COUNTS: dict[str, Callable[[Tensor], Tensor]] = {
    "effective_rank": spectral.effective_rank,
    "stable_rank": spectral.stable_rank,
    "participation_ratio": spectral.participation_ratio,
}

every_matrix = pytest.mark.parametrize("A", MATRICES.values(), ids=MATRICES.keys())
every_full_rank = pytest.mark.parametrize("A", [MATRICES[k] for k in FULL_RANK], ids=FULL_RANK)
every_threshold = pytest.mark.parametrize("t", THRESHOLDS)
every_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
every_count = pytest.mark.parametrize("count", COUNTS.values(), ids=COUNTS.keys())


def numpy_svd(A: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """QR iteration, where torch divides and conquers; one matrix at a time."""
    parts = [scipy.linalg.svd(a, full_matrices=False, lapack_driver="gesvd") for a in matrices(A)]
    U, sigma, Vh = (np.stack(part) for part in zip(*parts, strict=True))
    batch = A.shape[:-2]
    return tuple(x.reshape(*batch, *x.shape[1:]) for x in (U, sigma, Vh))


def gradient(function: Callable[[Tensor], Tensor], A: Tensor, seed: int = 5) -> Tensor:
    """The gradient of a random linear functional of the function."""
    A = A.clone().requires_grad_()
    values = function(A)
    (grad,) = torch.autograd.grad((values * gaussian(*values.shape, seed=seed)).sum(), A)
    return grad


def inner(A: Tensor, B: Tensor) -> Tensor:
    return (A * B).sum((-2, -1))


# Values


@every_matrix
def test_singular_values_and_nuclear_norm_agree_with_scipy(A):
    _, sigma, _ = numpy_svd(A)
    close(spectral.singular_values(A), sigma)
    close(spectral.nuclear_norm(A), sigma.sum(-1))


@every_matrix
def test_float32_agrees_with_float64(A):
    # The polar factor is left out: which values count as zero depends on the precision.
    for name in ("singular_values", "nuclear_norm", "soft_threshold"):
        result = FUNCTIONS[name](A.float())
        assert result.dtype == torch.float32
        close(result, FUNCTIONS[name](A), ATOL32)


@every_matrix
def test_polar_factor_is_a_partial_isometry_with_the_range_of_the_matrix(A):
    P = spectral.polar_factor(A)
    H = P.mT @ A
    close(P @ P.mT @ P, P)
    close(P @ H, A)
    close(H, H.mT)
    assert (torch.linalg.eigvalsh(H) >= -ATOL).all()
    expected = [np.linalg.matrix_rank(a) for a in matrices(A).numpy()]
    assert inner(P, P).round().flatten().tolist() == expected


@every_matrix
@every_threshold
def test_soft_threshold_agrees_with_scipy(A, t):
    U, sigma, Vh = numpy_svd(A)
    close(
        spectral.soft_threshold(A, t), (U * np.maximum(sigma - t, 0)[..., None, :]) @ Vh, 10 * ATOL
    )


@every_matrix
@every_threshold
def test_soft_threshold_meets_the_optimality_condition_of_the_prox(A, t):
    X = spectral.soft_threshold(A, t)
    for x, r in zip(matrices(X), matrices(A - X), strict=True):
        U, sigma, Vh = numpy_svd(x)
        kept = sigma > ATOL
        U, V = torch.from_numpy(U[:, kept]), torch.from_numpy(Vh[kept].T)
        close(U.mT @ r, t * V.mT)
        close(r @ V, t * U)
        assert np.linalg.norm(r.numpy(), 2) <= t + ATOL


@every_matrix
@pytest.mark.parametrize(
    ("dtype", "t"),
    [
        (torch.float64, 1.5e-9),
        *[(d, t) for d in (torch.float32, torch.float64) for t in (0.37, 9.0)],
    ],
)
def test_soft_threshold_leaves_an_exact_rank(A, dtype, t):
    """What a dropped direction leaves is rounding of the product, relative to the largest."""
    A = A.to(dtype)
    left = spectral.singular_values(spectral.soft_threshold(A, t))
    expected = (spectral.singular_values(A) > t).sum(-1)
    assert torch.equal(spectral.rank(left, 10 * torch.finfo(dtype).eps), expected)


def test_thresholds_may_differ_within_a_batch():
    A, t = gaussian(2, 3, 4, 4), gaussian(2, 3).abs()
    pairs = zip(matrices(A), t.flatten().tolist(), strict=True)
    expected = [spectral.soft_threshold(a, s) for a, s in pairs]
    close(spectral.soft_threshold(A, t), torch.stack(expected).view_as(A))
    close(spectral.soft_threshold(A, t[0, 0]), spectral.soft_threshold(A, float(t[0, 0])))


@every_matrix
@pytest.mark.parametrize("rank", [0, 1, 2, 3, 9])
def test_truncate_is_the_best_approximation_of_its_rank(A, rank):
    """Eckart, Young, Mirsky: the error is the tail of the spectrum, in both norms."""
    _, sigma, _ = numpy_svd(A)
    X = spectral.truncate(A, rank)
    _, kept, _ = numpy_svd(X)
    assert (kept[..., rank:] <= ATOL).all()
    close(inner(A - X, A - X), (sigma[..., rank:] ** 2).sum(-1))
    if rank >= sigma.shape[-1]:
        close(X, A)


def test_empty_batches_are_allowed():
    for function in FUNCTIONS.values():
        assert function(torch.zeros(0, 3, 2)).numel() == 0


# Derivatives


@every_full_rank
def test_first_and_second_derivative_of_the_nuclear_norm(A):
    assert gradcheck(spectral.nuclear_norm, A.clone().requires_grad_())
    assert gradgradcheck(spectral.nuclear_norm, A.clone().requires_grad_())


@every_full_rank
def test_derivative_of_the_polar_factor(A):
    assert gradcheck(spectral.polar_factor, A.clone().requires_grad_())


@every_matrix
@pytest.mark.parametrize("t", [0.0, 0.37, 1.7])
def test_derivative_of_the_soft_threshold(A, t):
    """No instance has a singular value at t, so the map is smooth, also where values repeat."""
    if t == 0:  # where the threshold's own derivative is one-sided
        assert gradcheck(lambda B: spectral.soft_threshold(B, t), A.clone().requires_grad_())
        return
    threshold = torch.full(A.shape[:-2], t, dtype=torch.float64, requires_grad=True)
    assert gradcheck(spectral.soft_threshold, (A.clone().requires_grad_(), threshold))


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        *[(name, 2) for name in ("square", "tall", "wide", "batched", "rank-deficient")],
        *[(name, 2) for name in ("repeated", "repeated and zero")],
        *[(name, 9) for name in MATRICES],
        ("repeated and zero", 3),
        ("square", 0),
    ],
)
def test_derivative_of_truncation_across_a_gap(name, rank):
    assert gradcheck(lambda B: spectral.truncate(B, rank), MATRICES[name].clone().requires_grad_())


@every_matrix
def test_gradient_of_the_nuclear_norm_is_its_subgradient_of_least_norm(A):
    B = A.clone().requires_grad_()
    norm = spectral.nuclear_norm(B)
    (G,) = torch.autograd.grad(norm.sum(), B)
    close(G, spectral.polar_factor(A))
    close(inner(G, A), norm.detach())
    for seed in range(5):
        other = gaussian(*A.shape, seed=seed)
        assert (spectral.nuclear_norm(other) >= norm + inner(G, other - A) - ATOL).all()


@every_matrix
@every_function
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients_are_finite_everywhere(A, function, dtype):
    assert gradient(function, A.to(dtype)).isfinite().all()


@pytest.mark.parametrize(("name", "t"), [("identity", 1.0), ("repeated", 3.0), ("zero", 0.0)])
def test_gradients_are_finite_at_the_kinks_of_the_soft_threshold(name, t):
    A = MATRICES[name].clone().requires_grad_()
    threshold = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    by_matrix, by_threshold = torch.autograd.grad(
        inner(spectral.soft_threshold(A, threshold), gaussian(*A.shape)), (A, threshold)
    )
    assert by_matrix.isfinite().all() and by_threshold.isfinite()


def test_a_value_at_the_threshold_counts_as_dropped():
    """As the limit from below: what stands in its direction has no gradient."""
    A = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    slopes = torch.autograd.functional.jacobian(
        lambda B: spectral.soft_threshold(B, 1.0).diagonal(), A
    )
    close(slopes.diagonal(dim1=1, dim2=2), torch.diag(torch.tensor([1.0, 0.0])))


def test_a_threshold_of_zero_passes_the_gradient_on_even_at_the_zero_matrix():
    A = torch.zeros(3, 4, dtype=torch.float64)
    close(gradient(lambda B: spectral.soft_threshold(B, 0.0), A), gaussian(3, 4, seed=5))


def test_the_norm_of_a_zero_or_dropped_matrix_has_no_gradient():
    A = torch.zeros(3, 4, dtype=torch.float64)
    assert not gradient(spectral.nuclear_norm, A).any()
    assert not gradient(lambda B: spectral.soft_threshold(B, 100.0), gaussian(3, 4)).any()


def test_second_derivatives_of_matrix_functions_are_refused_rather_than_wrong():
    def square(A: Tensor) -> Tensor:
        return spectral.soft_threshold(A, 0.37).square().sum()

    A = gaussian(3, 3).requires_grad_()
    (grad,) = torch.autograd.grad(square(A), A, create_graph=True)
    with pytest.raises(NotImplementedError, match="one derivative"):
        grad.sum().backward()
    with pytest.raises(NotImplementedError, match="one derivative"):
        torch.func.grad(lambda B: torch.func.grad(square)(B).sum())(gaussian(3, 3))


# Batches and precision


@every_function
def test_a_batch_is_the_loop(function):
    A = gaussian(3, 4, 5)
    close(function(A), torch.stack([function(a) for a in A]))


@every_function
def test_autocast_changes_nothing(function):
    def value_and_gradient() -> tuple[Tensor, Tensor]:
        A = gaussian(5, 4).float().requires_grad_()
        value = function(A)
        (grad,) = torch.autograd.grad(value, A, torch.ones_like(value))
        return value, grad

    expected = value_and_gradient()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        actual = value_and_gradient()
    assert actual[0].dtype == torch.float32
    if function is spectral.singular_values:
        # torch's own backward runs inside this autocast; training calls it outside
        assert torch.equal(actual[0], expected[0])
    else:
        assert all(map(torch.equal, actual, expected))


@every_function
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_becomes_float32(function, dtype):
    A = gaussian(5, 4).to(dtype).requires_grad_()
    value = function(A)
    value.sum().backward()
    assert value.dtype == torch.float32 and A.grad is not None and A.grad.dtype == dtype
    # with a gradient too, because torch.linalg.svdvals takes another path without
    assert torch.equal(value, function(A.detach().float().requires_grad_()))


# Inequalities


@st.composite
def matrix_pairs(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    m, n = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    entries = st.lists(st.floats(-10, 10), min_size=m * n, max_size=m * n)
    A, B = (torch.tensor(draw(entries), dtype=torch.float64).view(m, n) for _ in range(2))
    return A, B


laws = settings(max_examples=25, deadline=None, derandomize=True)
LARGE = 1e-10  # entries up to 10 and up to 25 of them: norms and squares up to 1e4


@laws
@given(matrix_pairs())
def test_nuclear_norm_is_a_norm_dual_to_the_spectral_one(pair):
    A, B = pair
    norm = spectral.nuclear_norm
    assert norm(A + B) <= norm(A) + norm(B) + LARGE
    close(norm(-2 * A), 2 * norm(A), LARGE)
    close(norm(A.mT), norm(A), LARGE)
    assert inner(A, B).abs() <= norm(A) * spectral.singular_values(B)[0] + LARGE
    assert norm(A) >= A.norm() - LARGE


# Counts of directions


def test_rank_counts_strictly_above_the_relative_threshold():
    sigma = torch.tensor([[8.0, 4.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert spectral.rank(sigma, 0.25).tolist() == [2, 4, 0]
    assert spectral.rank(sigma, 0.0).tolist() == [3, 4, 0]
    assert spectral.rank(100 * sigma[0].half(), 1e-4).item() == 3


def test_rank_profile_covers_the_thresholds():
    sigma = torch.tensor([1.0, 0.5, 0.05, 5e-3, 5e-4, 5e-5, 5e-6, 5e-7], dtype=torch.float64)
    expected = {1e-1: 2, 1e-2: 3, 1e-3: 4, 1e-4: 5, 1e-5: 6, 1e-6: 7}
    assert spectral.rank_profile(3 * sigma) == expected
    assert spectral.rank_profile(0 * sigma, (0.1, 0.0)) == {0.1: 0, 0.0: 0}


def test_counts_agree_with_their_formulas():
    sigma = gaussian(4, 6).abs()
    p = (sigma / sigma.sum(-1, keepdim=True)).numpy()
    close(spectral.effective_rank(sigma), np.prod(p**-p, axis=-1))
    largest = sigma.amax(-1)
    close(spectral.stable_rank(sigma), sigma.square().sum(-1) / largest**2)
    close(spectral.participation_ratio(sigma), sigma.sum(-1) ** 2 / sigma.square().sum(-1))


@every_count
def test_a_count_of_equal_values_is_their_number(count):
    for scale in (1e-30, 1.0, 1e30):  # squares would leave the range of float32
        sigma = scale * torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
        close(count(sigma), torch.tensor([3.0, 2.0, 0.0]), ATOL32)


@every_count
def test_gradients_of_counts(count):
    assert gradcheck(count, (gaussian(3, 4).abs() + 0.1).requires_grad_())
    sigma = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 2.0]], requires_grad=True)
    count(sigma).sum().backward()
    assert sigma.grad is not None and sigma.grad.isfinite().all()
    assert not sigma.grad[0].any()


@every_count
def test_counts_of_half_precision_are_float32(count):
    sigma = torch.tensor([3.0, 2.0, 0.5], dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(count(sigma), count(sigma.float()))
    assert count(sigma).dtype == torch.float32


# Input


@every_function
@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_float32_matrices_of_any_size_agree_with_float64(function, scale):
    """Squares of the entries would leave the range of float32."""
    A = scale * MATRICES["wide"]
    found, expected = function(A.float()).double(), function(A)
    size = expected.abs().max() + 1e-40  # 0 where the threshold is above all singular values
    close(found / size, expected / size, 10 * ATOL32)


@pytest.mark.parametrize("t", [-1.0, math.nan, torch.tensor(-1.0), torch.tensor([1.0, -1.0])])
def test_negative_thresholds_are_refused(t):
    with pytest.raises(InputError, match="threshold must be at least 0"):
        spectral.soft_threshold(gaussian(2, 3, 3), t)


def test_impossible_ranks_are_refused():
    with pytest.raises(InputError, match="rank must be at least 0, got -1"):
        spectral.truncate(gaussian(3, 3), -1)
    for threshold in (-0.1, 1.0, math.nan):
        with pytest.raises(InputError, match="threshold must be in"):
            spectral.rank(gaussian(3).abs(), threshold)


@every_function
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_matrix_that_is_not_finite_gives_nan_alone(function, bad):
    A = gaussian(4, 3, 3)
    whole = function(A)
    for place in [(0, 0), (0, 2), (2, 0)]:
        B = A.clone()
        B[1][place] = bad
        found = function(B)
        assert found[1].isnan().all()
        close(found[[0, 2, 3]], whole[[0, 2, 3]])
        assert function(B[1]).isnan().all()


@every_count
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_spectrum_that_is_not_finite_has_no_rank(count, bad):
    sigma = torch.tensor([[3.0, bad, 1.0], [2.0, 1.0, 0.0]])
    assert count(sigma).isnan().tolist() == [True, False]
    with pytest.raises(InputError, match="singular values must be finite, got NaN or infinite"):
        spectral.rank(sigma, 1e-2)
