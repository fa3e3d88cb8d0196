"""Rank reduction: exact ranks, models left unchanged, and a history of every phase."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorae.estimator.rank_reduction import Trainer, ladder, train_at_rank, walk
from lorae.nn.autoencoder import Architecture, Autoencoder, build
from lorae.objectives.base import AE

X = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> Autoencoder:
    torch.manual_seed(0)
    return build(Architecture("residual", (6,), 5, value_range=None)).eval()


def trainer(held_out: int = 10) -> Trainer:
    return Trainer(X, batch_size=20, learning_rate=1e-2, held_out=held_out, device="cpu")


@given(st.integers(1, 300), st.floats(0.1, 0.95))
def test_a_ladder_falls_by_one_at_least_down_to_one(latent, ratio):
    rungs = ladder(latent, ratio)
    assert all(a > b for a, b in zip([latent, *rungs], rungs, strict=False))
    assert latent == 1 or rungs[-1] == 1


@pytest.mark.parametrize("held_out", [0, 10])
def test_training_and_held_out_samples_are_all_and_copied_at_most_once(held_out):
    one = trainer(held_out)
    assert one.training_samples is one.training_samples
    assert (one.training_samples.data_ptr() == X.data_ptr()) == (held_out == 0)
    everything = torch.cat([one.training_samples, one.held_out])
    assert sorted(everything.tolist()) == sorted(X.tolist())


def test_batches_and_history_continue_from_phase_to_phase(model):
    one = trainer()
    one.run("first", AE(model), 60)
    one.run("second", AE(model), 10, cool=True)
    assert [(line["phase"], line["step"]) for line in one.history] == [
        ("first", 50),
        ("first", 60),
        ("second", 70),
    ]
    assert one.step == 70


@pytest.mark.parametrize("rank", [1, 3, 5, 9])
def test_the_rank_is_reached_and_the_model_unchanged(model, rank):
    before = copy.deepcopy(model.state_dict())
    lower, weight = trainer().lower_rank(model, rank, 20)
    assert lower is not model
    assert lower.bridge.latent == min(rank, 5)
    assert (weight > 0) == (rank < 5)
    assert train_at_rank(trainer(), model, rank, 30).bridge.latent == min(rank, 5)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_a_path_has_a_point_for_each_rank(model):
    points = list(walk(trainer(), model, 20, ranks=[3, 2]))
    assert [point.rank for point in points] == [5, 3, 2]
    assert [point.model.bridge.latent for point in points] == [5, 3, 2]
    assert points[0].weight == 0


def test_a_path_along_weights_ends_at_rank_one(model):
    points = list(walk(trainer(), model, 20, weights=[1e-9, 1e9, 1e9]))
    assert [point.rank for point in points] == [5, 5, 1]
    assert [point.weight for point in points] == [0, 1e-9, 1e9]
