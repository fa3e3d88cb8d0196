"""Statistics of a fitted model: sums of variances, units and ranks."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from lorae.estimator.nested import NestedModel
from lorae.estimator.networks import build_model
from lorae.estimator.statistics import MAX_CODES, fit_statistics
from lorae.objectives.nested import NestedDenoising

X = torch.randn(80, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 7.0)


@pytest.fixture
def nested() -> NestedModel:
    torch.manual_seed(0)
    objective = NestedDenoising(build_model(X, 3))
    with torch.no_grad():
        for parameter in objective.parameters():  # no longer linear
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return NestedModel.from_objective(objective.eval())


def test_variances_sum_to_what_reconstructions_explain(nested):
    fitted = fit_statistics(nested, X, None)
    total = float(X.var(0).sum())
    with torch.no_grad():
        model = fitted.nested.model
        unexplained = float((nested.model(X) - X).square().sum()) / (len(X) - 1)
        torch.testing.assert_close(model(X), nested.model(X), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(fitted.codes, model.encode(X))
    assert fitted.explained_variance.sum() == pytest.approx(total - unexplained, rel=1e-4)
    assert fitted.explained_variance_ratio.sum() == pytest.approx(1 - unexplained / total, rel=1e-4)
    assert fitted.reconstruction_error == pytest.approx(unexplained * 79 / 80 / 6, rel=1e-4)
    np.testing.assert_allclose(fitted.mean, X.mean(0), rtol=1e-5)


def test_of_pca_they_are_those_of_pca():
    pca = PCA(3).fit(X.numpy())
    start = NestedModel.from_objective(NestedDenoising(build_model(X, 3)).eval())
    fitted = fit_statistics(start, X, None)
    np.testing.assert_allclose(fitted.explained_variance, pca.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(fitted.singular_values, pca.singular_values_, rtol=1e-4)
    np.testing.assert_allclose(np.abs(fitted.components), np.abs(pca.components_), atol=1e-4)
    assert fitted.ranks[0.1] == int(
        (pca.explained_variance_ > 0.1 * pca.explained_variance_[0]).sum()
    )


def test_at_most_a_fixed_number_of_codes_is_kept(nested):
    many = X.repeat(MAX_CODES // len(X) + 1, 1)
    assert len(fit_statistics(nested, many, None).codes) == MAX_CODES
