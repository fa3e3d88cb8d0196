"""Moments against numpy's two passes, over batches of every kind.

Tolerances: sums of a few hundred float64 terms of order one err by about 1e-14, so 1e-12; where
the mean is 1e6, its rounding (1e-10) enters the deviations, so 1e-8. The textbook formula, mean
of squares less square of mean, would err by 1e-4 there.
"""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lorae.errors import InputError
from lorae.linalg.moments import Moments

ATOL = 1e-12
SPLITS = [(200,), (1,) * 200, (1, 199), (199, 1), (0, 200, 0), (64, 64, 64, 8), (100, 0, 100)]


def samples(n: int = 200, d: int = 4, offset: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing + offset


def moments_of(batches: Sequence[Tensor], d: int = 4) -> Moments:
    moments = Moments(d)
    for batch in batches:
        moments.update(batch)
    return moments


def assert_moments(moments: Moments, x: Tensor, atol: float = ATOL) -> None:
    """Compare with numpy's moments of all samples at once."""
    x = x.double()
    assert moments.count == len(x)
    assert moments.mean.dtype == moments.covariance.dtype == torch.float64
    np.testing.assert_allclose(moments.mean.numpy(), x.numpy().mean(0), rtol=1e-14, atol=atol)
    covariance = np.cov(x.numpy(), rowvar=False)
    np.testing.assert_allclose(moments.covariance.numpy(), covariance, rtol=0, atol=50 * atol)


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_any_split_gives_the_moments_of_the_whole(split):
    x = samples()
    assert_moments(moments_of(x.split(split)), x)


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_merged_moments_are_those_of_the_whole(split):
    x = samples()
    merged = Moments(4)
    for part in x.split(split):
        merged.merge(moments_of([part]))
    assert_moments(merged, x)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 20), min_size=2, max_size=6), st.integers(1, 5))
def test_merging_is_associative_and_commutative(sizes, d):
    sizes = [*sizes, 3]
    parts = [moments_of([part], d) for part in samples(sum(sizes), d).split(sizes)]
    forwards, backwards = Moments(d), Moments(d)
    for part in parts:
        forwards.merge(part)
    for part in reversed(parts):
        backwards = Moments(d).merge(part).merge(backwards)
    assert forwards.count == backwards.count == sum(sizes)
    torch.testing.assert_close(forwards.mean, backwards.mean, rtol=0, atol=ATOL)
    torch.testing.assert_close(forwards.covariance, backwards.covariance, rtol=0, atol=50 * ATOL)


@pytest.mark.parametrize("split", [(200,), (7,) * 28 + (4,), (1,) * 200], ids=len)
def test_a_mean_far_from_the_origin_costs_no_accuracy(split):
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1e6
    assert_moments(moments_of(x.split(split)), x, atol=1e-9)
    assert_moments(moments_of([x[:90]]).merge(moments_of([x[90:]])), x, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_any_float_type_is_accumulated_in_float64(dtype):
    x = samples(offset=10.0).to(dtype)
    assert_moments(moments_of(x.split(30)), x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_moments(moments_of(x.split(30)), x)


def test_a_dimension_of_one():
    x = samples(9, 1)
    moments = moments_of([x], d=1)
    np.testing.assert_allclose(moments.covariance.item(), np.var(x.numpy(), ddof=1), rtol=1e-12)


def test_spectrum_is_that_of_the_covariance():
    x = samples(3, 6)  # so at most 2 are not zero
    spectrum = moments_of([x], d=6).spectrum()
    singular = np.linalg.svd(np.cov(x.numpy(), rowvar=False), compute_uv=False)
    np.testing.assert_allclose(spectrum.numpy(), singular, rtol=0, atol=1e-12 * singular[0])
    assert (spectrum.diff() <= 0).all() and (spectrum >= 0).all()
    assert (spectrum > 1e-12 * singular[0]).sum() == 2


def test_constant_samples_have_no_spread():
    assert not moments_of([torch.full((5, 3), 0.1)] * 4, d=3).spectrum().gt(1e-30).any()


def test_memory_does_not_grow_with_the_samples():
    def numbers(moments: Moments) -> int:
        return sum(
            tensor.untyped_storage().nbytes() // tensor.element_size()
            for tensor in moments.tensors().values()
        )

    few, many = moments_of([samples(2)]), moments_of([samples()] * 20)
    assert numbers(few) == numbers(many) == 1 + 4 + 16


def test_state_survives_storage():
    x = samples()
    restored = Moments.from_tensors(moments_of([x[:50]]).tensors())
    assert torch.equal(restored.covariance, moments_of([x[:50]]).covariance)
    assert_moments(restored.update(x[50:]), x)
    empty = Moments.from_tensors(Moments(3).tensors())
    assert (empty.count, empty.dimension) == (0, 3)


def test_what_was_handed_out_does_not_change():
    x = samples()
    first, second = moments_of([x[:50]]), moments_of([x[50:]])
    mean, state = first.mean, first.tensors()
    copies = mean.clone(), {name: tensor.clone() for name, tensor in state.items()}
    first.merge(second).update(x)
    assert torch.equal(mean, copies[0])
    assert all(torch.equal(state[name], copies[1][name]) for name in state)
    assert_moments(second, x[50:])


def test_no_gradient_is_kept():
    assert not moments_of([samples().requires_grad_()]).covariance.requires_grad


def test_too_few_samples_are_refused():
    with pytest.raises(InputError, match="a mean needs at least 1 samples, got 0"):
        Moments(2).mean  # noqa: B018
    single = Moments(2).update(torch.ones(1, 2))
    assert single.mean.tolist() == [1.0, 1.0]
    with pytest.raises(InputError, match="a covariance needs at least 2 samples"):
        single.covariance  # noqa: B018
    with pytest.raises(InputError, match="got 1"):
        single.spectrum()


def test_wrong_dimensions_are_refused():
    with pytest.raises(InputError, match="dimension must be at least 1"):
        Moments(0)
    with pytest.raises(InputError, match=r"shape \(n, 3\), got \(5, 2\)"):
        Moments(3).update(torch.ones(5, 2))
    with pytest.raises(InputError, match="the dimension 3, got 2"):
        Moments(3).merge(Moments(2))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_have_no_covariance(bad):
    x = samples()
    x[7, 2] = bad
    moments = moments_of([x])
    for read in (lambda: moments.covariance, moments.spectrum):
        with pytest.raises(InputError, match="samples must be finite, got NaN or infinite values"):
            read()
