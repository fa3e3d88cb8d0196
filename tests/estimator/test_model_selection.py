"""Rules over a path, its knee, and the warning about models no better than the mean."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from lorae.errors import InputError
from lorae.estimator.model_selection import (
    explains,
    knee,
    one_standard_error,
    rule_for,
    warn_if_no_better_than_mean,
)
from lorae.estimator.rank_reduction import Point, Trainer
from lorae.nn.autoencoder import Architecture, build
from lorae.nn.residual import start_from_components

MODEL = build(Architecture("mlp", (2,), 1, width=0.01, value_range=None))


def points(errors: dict[int, float], deviation: float = 0.0) -> list[Point]:
    return [Point(0.0, rank, error, deviation, 0.0, MODEL) for rank, error in errors.items()]


PATH = {8: 0.100, 6: 0.101, 4: 0.105, 3: 0.15, 2: 0.4, 1: 0.7}


def smallest(rule, path: list[Point]) -> int:
    return min(p.rank for p in path if rule(p, path, 1.0))


@pytest.mark.parametrize(("share", "rank"), [(0.3, 1), (0.6, 2), (0.9, 3), (0.99, 4), (0.998, 6)])
def test_a_share_is_of_what_the_best_model_explains(share, rank):
    assert smallest(explains(share), points(PATH)) == rank


@pytest.mark.parametrize(("deviation", "rank"), [(0.0, 4), (0.004, 4), (0.06, 3), (0.5, 2)])
def test_auto_allows_a_standard_error_or_a_hundredth_of_what_is_explained(deviation, rank):
    assert smallest(one_standard_error, points(PATH, deviation)) == rank


@given(st.lists(st.floats(0, 10), min_size=1, max_size=9), st.floats(0.01, 0.99))
def test_the_best_model_always_passes_even_where_none_explains_anything(errors, share):
    path = points(dict(enumerate(errors, 1)))
    best = min(path, key=lambda p: p.error)
    for rule in (explains(share), one_standard_error):
        assert rule(best, path, 1.0)


@pytest.mark.parametrize("bad", [0.0, 1.0, 1.5, -0.1, "most", None, 3])
def test_bad_rules(bad):
    with pytest.raises(InputError, match="n_components must be"):
        rule_for(bad)


@given(st.integers(2, 12), st.floats(1e-6, 1e-3))
def test_the_knee_of_a_cliff_is_its_foot(foot, low):
    ranks = list(range(1, 20))
    errors = [0.5 if r < foot else low * (1 - 1e-3 * r) for r in ranks]
    assert ranks[knee(ranks, errors)] == foot


def test_the_knee_does_not_depend_on_units_or_order():
    ranks, errors = list(PATH), list(PATH.values())
    at = ranks[knee(ranks, errors)]
    assert ranks[knee(ranks, [1e6 * e for e in errors])] == at
    assert ranks[::-1][knee(ranks[::-1], errors[::-1])] == at
    assert knee([3], [0.1]) == 0


@pytest.mark.parametrize(("share", "named"), [(0.5, "held-out"), (0.0, "training")])
def test_a_model_no_better_than_the_mean_is_warned_of(share: float, named: str):
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) + 5
    trainer = Trainer(x, batch_size=10, held_out=round(40 * share), device="cpu")
    torch.manual_seed(0)
    model = build(Architecture("residual", (3,), 2, value_range=None)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    said = rf"autoencoder of 2 codes explains -\d+\.\d% of the variance of {named} samples"
    with pytest.warns(ConvergenceWarning, match=said):
        warn_if_no_better_than_mean(trainer, model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start_from_components(model.encoder, model.decoder, x)
        warn_if_no_better_than_mean(trainer, model)
        warn_if_no_better_than_mean(Trainer(torch.ones(40, 3), batch_size=10, device="cpu"), model)
