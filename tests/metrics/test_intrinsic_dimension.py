"""Estimates on data of known dimension, and estimators against their formulas."""

import math
import sys

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from lorae.errors import InputError
from lorae.metrics.intrinsic_dimension import (
    maximum_likelihood,
    pca_dimension,
    relative_contrast,
    scikit_dimension,
    two_nn,
)

BAD = torch.cat([torch.rand(60, 3), torch.tensor([[0.0, math.nan, 0.0]])])


def sphere(n: int, d: int, ambient: int = 30) -> torch.Tensor:
    """Return points of a d-dimensional sphere, rotated into a larger space."""
    x = torch.randn(n, d + 1, dtype=torch.float64)
    x /= x.norm(dim=1, keepdim=True)
    return x @ torch.linalg.qr(torch.randn(ambient, d + 1, dtype=torch.float64))[0].T


def cube(n: int, d: int, ambient: int = 30) -> torch.Tensor:
    """Return points of a bent d-dimensional cube."""
    x = torch.rand(n, d, dtype=torch.float64)
    bent = torch.cat([x, x**2 / 2, torch.sin(x)], 1)
    return bent @ torch.randn(bent.shape[1], ambient, dtype=torch.float64) / math.sqrt(ambient)


@pytest.mark.parametrize("made", [sphere, cube])
@pytest.mark.parametrize("d", [1, 2, 4])
@pytest.mark.parametrize("estimate", [two_nn, maximum_likelihood])
def test_estimates_on_manifolds_are_close(made, d, estimate):
    found = estimate(made(2000, d))
    assert found == pytest.approx(d, rel=0.12)  # the edge of a cube takes a few percent


@pytest.mark.parametrize("d", [1, 2, 4])
def test_spheres_need_one_more_linear_dimension(d):
    assert pca_dimension(sphere(3000, d), 0.999) == d + 1


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99, 1.0])
def test_pca_dimension_equals_scikit_learns(share):
    x = torch.randn(300, 12, dtype=torch.float64) * 2.0 ** -torch.arange(12)
    ratios = PCA().fit(x.numpy()).explained_variance_ratio_.cumsum()
    expected = int(np.searchsorted(ratios, share - 1e-12)) + 1
    assert pca_dimension(x, share) == expected


@pytest.mark.parametrize("estimate", [two_nn, maximum_likelihood])
def test_scale_rotation_and_duplicates_do_not_matter(estimate):
    x = sphere(400, 3)
    turn = torch.linalg.qr(torch.randn(30, 30, dtype=torch.float64))[0]
    assert estimate(1e3 * x @ turn + 5) == pytest.approx(estimate(x), rel=1e-6)
    assert estimate(torch.cat([x, x[:50]])) == pytest.approx(estimate(x), rel=1e-9)


def test_maximum_likelihood_equals_its_formula():
    x, k = sphere(120, 2), 7
    D = np.sort(cdist(x.numpy(), x.numpy()), 1)[:, 1 : k + 1]
    inverse = [sum(math.log(row[-1] / r) for r in row[:-1]) / (k - 1) for row in D]
    assert maximum_likelihood(x, k) == pytest.approx(1 / np.mean(inverse))


@pytest.mark.parametrize("factor", [1.0, 1e-3, 40.0])
def test_contrast_equals_its_formula(factor):
    codes, queries = torch.randn(50, 4), torch.cat([torch.randn(9, 4), torch.zeros(1, 4)])
    codes = torch.cat([codes, queries[:1]])  # one of them is a code itself
    D = cdist(queries.numpy(), codes.numpy())
    least = np.where(D > 0, D, np.inf).min(1)
    found = relative_contrast(factor * codes, factor * queries)
    np.testing.assert_allclose(found.numpy(), (D.max(1) - least) / least, rtol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_copies_of_queries_among_the_codes_do_not_count(offset):
    codes = torch.randn(300, 40) + offset
    queries = codes[:100].clone()  # as where test samples are also training samples
    D = cdist(queries.double().numpy(), codes.double().numpy())
    least = np.where(D > 0, D, np.inf).min(1)
    found = relative_contrast(codes, queries)
    np.testing.assert_allclose(found.numpy(), (D.max(1) - least) / least, rtol=1e-9)
    assert found.median() < 2


def test_near_copies_count_at_their_distance():
    codes = torch.tensor([[1e4, 0.0], [1e4, 1.0], [1e4, 1.0 + 1e-7]], dtype=torch.float64)
    found = relative_contrast(codes, codes[1:2])
    assert found.item() == pytest.approx(1 / 1e-7 - 1, rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pca_dimension(torch.zeros(5, 2)), "samples must vary"),
        (lambda: pca_dimension(torch.randn(5, 2), 0.0), "share must be .*greater than 0"),
        (lambda: two_nn(torch.randn(9, 2)), "at least 10 distinct ones, got 9"),
        (lambda: two_nn(torch.zeros(50, 2)), "at least 10 distinct ones, got 1"),
        (lambda: two_nn(torch.randn(50, 2), 1.0), "discard must be .*at least 0 and below 1"),
        (lambda: maximum_likelihood(torch.randn(20, 2)), "at least 21 distinct ones"),
        (lambda: maximum_likelihood(torch.randn(20, 2), 2), "k must be .*at least 3, got 2"),
        (
            lambda: relative_contrast(torch.zeros(3, 2), torch.zeros(1, 2)),
            "queries must differ from some code",
        ),
        (lambda: pca_dimension(BAD), "samples must be finite"),
        (lambda: two_nn(BAD), "samples must be finite"),
        (lambda: maximum_likelihood(BAD), "samples must be finite"),
        (lambda: relative_contrast(BAD, torch.eye(3)), "samples must be finite"),
        (lambda: relative_contrast(torch.eye(3), BAD), "samples must be finite"),
    ],
)
def test_invalid_arguments_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


class TestScikitDimension:
    def test_estimates_on_a_plane_are_close(self):
        pytest.importorskip("skdim")
        found = scikit_dimension(torch.rand(400, 2) @ torch.randn(2, 7))
        assert set(found) == {"correlation integral", "method of moments"}
        assert list(found.values()) == pytest.approx([2, 2], abs=0.4)  # edges and few samples

    def test_too_few_samples_are_refused(self):
        pytest.importorskip("skdim")
        with pytest.raises(InputError, match="at least 101 distinct ones, got 3"):
            scikit_dimension(torch.eye(3))

    def test_result_is_empty_without_the_package(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "skdim.id", None)
        assert scikit_dimension(torch.rand(200, 2)) == {}
