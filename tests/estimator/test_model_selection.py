"""The number of components from a curve of held-out errors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lorae.estimator.model_selection import (
    MAX_TORN,
    Curve,
    knee,
    levels,
    prediction_errors,
    refine,
    torn_share,
)
from lorae.estimator.networks import build_model, wrap_modules


def curve(errors: list[float], predictions: list[float], spread: float = 0.0) -> Curve:
    """Return a curve of 100 samples, whose prediction errors differ by `spread`."""
    ones = torch.ones(100, dtype=torch.float64)
    wave = spread * torch.linspace(-1, 1, 100, dtype=torch.float64)
    rows = torch.tensor(predictions, dtype=torch.float64)[:, None] * ones
    return Curve(
        ranks=tuple(range(1, len(errors) + 1)),
        errors=torch.tensor(errors, dtype=torch.float64)[:, None] * ones,
        predictions=rows + wave * torch.arange(len(predictions))[:, None],
        pca_errors=torch.tensor(errors, dtype=torch.float64),
        deviations=ones,
        torn=torch.zeros(len(errors), dtype=torch.float64),
    )


@pytest.mark.parametrize(
    ("errors", "predictions", "count"),
    [
        ([0.5, 0.2, 0.1, 0.05], [0.6, 0.3, 0.31, 0.33], 2),  # the smallest prediction error
        ([0.5, 0.2, 0.1, 0.05], [0.6, 0.314, 0.3, 0.33], 2),  # up to a twentieth of it
        ([0.5, 0.2, 0.1, 0.05], [0.6, 0.316, 0.3, 0.33], 3),
        ([0.5, 0.2, 0.1, 0.05], [0.6, 0.0019, 0.0, 0.0], 2),  # up to 0.2 % of the variance
        ([0.5, 0.2, 0.1, 0.05], [0.6, 0.0021, 0.0, 0.0], 3),
        ([0.9, 0.8, 0.7, 0.6], [0.9, 0.896, 0.89, 0.889], 3),  # or of what can be predicted
        ([0.5, 0.0019, 0.0, 0.0], [0.6, 0.3, 0.1, 0.0], 2),  # samples are reproduced
        ([0.5, 0.2, 0.1, 0.0], [], 4),  # too few values to predict
        ([0.9, 0.8, 0.7, 0.6], [1.1, 1.2, 1.3, 1.4], 0),  # noise
        ([0.9, 0.8, 0.7, 0.6], [], 4),
    ],
)
def test_rules(errors, predictions, count):
    assert curve(errors, predictions).select() == count


def test_a_difference_within_its_standard_error_does_not_count():
    assert curve([0.5, 0.2, 0.1], [0.6, 0.33, 0.3]).select() == 3
    assert curve([0.5, 0.2, 0.1], [0.6, 0.33, 0.3], spread=1.0).select() == 2


@pytest.mark.parametrize(
    ("error", "spread", "count"), [(0.00205, 0.0, 3), (0.00205, 0.001, 2), (0.0041, 1.0, 3)]
)
def test_an_error_may_exceed_the_tolerance_by_its_standard_error(error, spread, count):
    found = curve([0.5, error, 0.001], [])
    found.errors[1] += spread * torch.linspace(-1, 1, 100, dtype=torch.float64)
    assert found.select() == count


def test_an_outlier_does_not_decide():
    # Without its limit, the sample that no code reproduces makes every code as bad as the mean.
    changed = curve([0.5, 0.2, 0.1, 0.05], [0.6, 0.3, 0.31, 0.33])
    for part, factor in (
        (changed.deviations, 1.0),
        (changed.errors, 1.1),
        (changed.predictions, 2),
    ):
        part[..., 7] = 1e4 * factor
    assert changed.select() == 2
    assert changed.interval(seed=0) == (2, 2)


def test_a_share_and_the_interval():
    found = curve([0.5, 0.2, 0.1, 0.05], [0.6, 0.3, 0.31, 0.33])
    assert [found.share(s) for s in (0.5, 0.8, 0.9, 0.99)] == [1, 2, 3, 4]
    assert found.interval(0) == (2, 2)


def test_refinement_finds_the_smallest_rank_whose_own_model_passes():
    asked = []

    def evaluate(rank):
        asked.append(rank)
        error = 0.0 if rank >= 3 else 0.5
        row = torch.full((100,), error, dtype=torch.float64)
        return row, row, 0.0 if rank >= 4 else 0.1

    wide = curve([0.9 - 0.1 * k for k in range(9)], [0.9 - 0.1 * k for k in range(9)])
    assert refine(wide, evaluate).select() == 4, "codes of rank 3 tear neighbours apart"
    assert len(asked) == len(set(asked)) <= 6


@pytest.mark.parametrize(
    ("needed", "asked"), [(4, [4, 7, 3]), (3, [4, 7, 3, 1, 2]), (6, [4, 7, 6, 5])]
)
def test_refinement_begins_at_the_knee(needed, asked):
    found = []

    def evaluate(rank):
        found.append(rank)
        row = torch.full((100,), 0.0 if rank >= needed else 0.5, dtype=torch.float64)
        return row, row, 0.0

    errors = [0.5, 0.3, 0.1, 0.009, 0.008, 0.007, 0.006, 0.005, 0.004]
    assert refine(curve(errors, errors), evaluate).select() == needed
    assert found == asked


@given(st.integers(2, 12), st.floats(1e-6, 1e-3))
def test_the_knee_of_a_cliff_is_its_foot(foot, low):
    ranks = list(range(1, 20))
    errors = [0.5 if r < foot else low * (1 - 1e-3 * r) for r in ranks]
    assert ranks[knee(ranks, errors)] == foot


def test_an_end_of_a_path_is_no_knee():
    assert knee([3], [0.1]) is None
    assert knee([2, 1], [0.1, 0.9]) is None
    assert knee([30, 20, 10], [0.1, 0.8, 0.9]) is None
    ranks, errors = [8, 6, 4, 3, 2, 1], [0.100, 0.101, 0.105, 0.15, 0.4, 0.7]
    at = ranks[knee(ranks, errors)]
    assert ranks[::-1][knee(ranks[::-1], [1e6 * e for e in errors[::-1]])] == at


def test_points_lose_no_more_than_those_of_fewer_codes():
    points = curve([0.5, 0.1, 0.3, 0.05], [0.6, 0.2, 0.1]).points
    assert [point.error for point in points] == pytest.approx([0.5, 0.1, 0.1, 0.05])
    assert [point.prediction_error for point in points] == [0.6, 0.2, 0.2, None]


def test_hidden_values_of_a_plane_are_predicted_by_its_model_and_not_by_a_wider_one():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(2, 12, generator=generator)
    X = torch.randn(200, 2, generator=generator) @ mixing
    X = X + 0.1 * torch.randn(200, 12, generator=generator)
    variance = float((X - X.mean(0)).square().mean())
    lost = []
    for rank in (1, 2, 6):
        model = build_model(X, rank)
        unit = float(model.scale[0]) ** 2
        lost.append(float(prediction_errors(model, X).mean()) * unit / variance)
    assert lost[1] < 0.02
    assert lost[2] > 1.2 * lost[1]
    assert lost[0] > 10 * lost[1]


@pytest.mark.parametrize(("codes", "is_torn"), [(1, True), (2, False)])
def test_one_code_tears_a_circle_and_two_do_not(codes, is_torn):
    angle = 2 * torch.pi * torch.rand(500, generator=torch.Generator().manual_seed(0))
    X = torch.stack([angle.cos(), angle.sin()], 1)
    if codes == 2:
        model = build_model(X, 2)
    else:
        model = wrap_modules(Angle(), Direction(), X[:2], latent=1, shift=zeros, scale=zeros + 1)
    torch.testing.assert_close(model(X), X, atol=1e-4, rtol=0)
    assert (torn_share(model, X) > MAX_TORN) == is_torn


class Angle(nn.Module):
    def forward(self, x):
        return torch.atan2(x[:, 1:], x[:, :1])


class Direction(nn.Module):
    def forward(self, z):
        return torch.cat([z.cos(), z.sin()], 1)


zeros = torch.zeros(2)


def test_levels_are_dense_first():
    assert levels(3) == (1, 2, 3)
    assert levels(64)[-1] == 64
    assert all(b - a <= max(1, a / 7) for a, b in zip(levels(64), levels(64)[1:], strict=False))
