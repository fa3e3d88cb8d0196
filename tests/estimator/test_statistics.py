"""Statistics of a fitted model: sums of variances, units and ranks."""

import numpy as np
import pytest
import torch

from lorae.estimator.statistics import MAX_CODES, code_ranks, fit_statistics
from lorae.linalg.moments import Moments
from lorae.nn.autoencoder import Architecture, Autoencoder, build
from lorae.nn.residual import start_from_components

X = torch.randn(80, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 7.0)


@pytest.fixture
def model() -> Autoencoder:
    torch.manual_seed(0)
    model = build(Architecture("residual", (6,), 3, value_range=None), shift=X.mean(0))
    start_from_components(model.encoder, model.decoder, model.scaled(X))
    return model


def test_variances_sum_to_what_reconstructions_explain(model):
    fitted = fit_statistics(model, X)
    total = float(X.var(0).sum())
    with torch.no_grad():
        unexplained = float((model.eval()(X) - X).square().sum()) / (len(X) - 1)
        torch.testing.assert_close(fitted.model(X), model(X), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(fitted.codes, fitted.model.encode(X))
    assert fitted.explained_variance.sum() == pytest.approx(total - unexplained, rel=1e-4)
    assert fitted.explained_variance_ratio.sum() == pytest.approx(1 - unexplained / total, rel=1e-4)
    np.testing.assert_allclose(fitted.mean, X.mean(0), rtol=1e-5)
    assert set(fitted.ranks["whitened"].values()) == {3}


def test_a_unit_multiplies_codes_and_leaves_ratios_unchanged(model):
    one, two = fit_statistics(model, X), fit_statistics(model, X, unit=2.0)
    torch.testing.assert_close(two.codes, 2 * one.codes, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(two.explained_variance, 4 * one.explained_variance, rtol=1e-5)
    np.testing.assert_allclose(
        two.explained_variance_ratio, one.explained_variance_ratio, rtol=1e-5
    )
    assert two.reconstruction_error == pytest.approx(4 * one.reconstruction_error, rel=1e-5)


def test_at_most_a_fixed_number_of_codes_is_kept(model):
    many = X.repeat(MAX_CODES // len(X) + 1, 1)
    assert len(fit_statistics(model, many).codes) == MAX_CODES


def test_whitened_codes_have_full_rank_at_thresholds_where_others_have_not():
    codes = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)).double()
    ranks = code_ranks(Moments(2).update(codes * torch.tensor([1.0, 1e-2])))
    assert set(ranks["whitened"].values()) == {2}
    assert (ranks["coordinates"][1e-3], ranks["coordinates"][1e-5]) == (1, 2)
