"""Training: as long as held-out samples gain, from PCA and back to it."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from lorae.estimator.networks import build_model
from lorae.estimator.training import Setting, one_cycle, one_pass, split, train
from lorae.nn.autoencoder import Autoencoder
from lorae.objectives.nested import NestedDenoising
from lorae.training.devices import single_process
from lorae.utils.seeding import temporary_seed


def setting(**changes) -> Setting:
    fabric = single_process("cpu")
    fields = {"steps": 200, "batch_size": 50, "learning_rate": 3e-3, "held_out": 0.2, "seed": 0}
    return Setting(**fields | {"fabric": fabric} | changes)


def fit(samples, **changes):
    with temporary_seed(0):
        return train(lambda part: build_model(part, 2, width=0.25), samples, setting(**changes))


def curved() -> torch.Tensor:
    t = torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) * 4 - 2
    return torch.cat([t, t.square(), t.sin()], 1)


def noise() -> torch.Tensor:
    return torch.randn(60, 8, generator=torch.Generator().manual_seed(0))


def test_curved_samples_are_learnt_better_than_by_pca():
    trained = fit(curved())
    assert trained.errors[trained.best_step] < 0.5 * trained.errors[0]
    assert trained.best_step == min(trained.errors, key=trained.errors.__getitem__)


def test_where_networks_overfit_the_model_is_pca_of_all_samples():
    trained = fit(noise(), learning_rate=0.5)
    assert trained.best_step == 0
    assert min(trained.errors, key=trained.errors.__getitem__) == 0
    torch.testing.assert_close(trained.model(noise()), build_model(noise(), 2)(noise()))


def test_held_out_samples_do_not_take_part():
    kept, held_out = split(torch.arange(50.0)[:, None], setting())
    assert len(held_out) == 10
    assert not set(kept.flatten().tolist()) & set(held_out.flatten().tolist())
    assert len(split(torch.zeros(2, 1), setting(held_out=0.5))[1]) == 1


def test_one_seed_gives_one_model():
    one, two = fit(curved(), steps=30), fit(curved(), steps=30)
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("unsaturated", "built_from"), [(False, [320, 400]), (True, [320, 400])])
def test_a_known_result_is_trained_anew_or_on_with_all_samples(unsaturated, built_from):
    built = []

    def build(part: torch.Tensor) -> Autoencoder:
        built.append(len(part))
        return build_model(part, 2)

    lines = []
    found = train(build, curved(), setting(steps=25), refit=False)
    found = dataclasses.replace(found, best_step=20, unsaturated=unsaturated)
    again = train(build, curved(), setting(steps=25, report=lines.append), found=found)
    assert built == built_from
    assert [line["steps"] for line in lines] == [25 if unsaturated else 20]
    assert again.best_step == 20


def test_training_is_continued_where_held_out_samples_lose_no_more_than_others():
    smooth, noisy = fit(curved()), fit(noise(), steps=400)
    assert smooth.unsaturated
    assert not noisy.unsaturated


@pytest.mark.parametrize("unsaturated", [False, True])
def test_training_that_ends_above_its_start_is_undone(unsaturated):
    samples = curved()
    found = train(lambda part: build_model(part, 2), samples, setting(steps=25), refit=False)
    before = copy.deepcopy(found.model) if unsaturated else build_model(samples, 2)
    late = dataclasses.replace(found, best_step=4, unsaturated=unsaturated)
    wild = setting(steps=25, learning_rate=0.3)
    undone = train(lambda part: build_model(part, 2), samples, wild, found=late)
    assert undone.best_step == (4 if unsaturated else 0)
    torch.testing.assert_close(undone.model(samples), before(samples))


def test_a_model_that_reproduces_samples_worse_than_pca_is_dropped():
    samples = curved()
    found = train(lambda part: build_model(part, 2), samples, setting(steps=25), refit=False)
    other = NestedDenoising(build_model(samples.flip(1), 2))  # of other samples
    worse = dataclasses.replace(found, objective=other, best_step=20, unsaturated=True)
    still = setting(steps=25, learning_rate=1e-9)
    dropped = train(lambda part: build_model(part, 2), samples, still, found=worse)
    assert dropped.best_step == 0
    torch.testing.assert_close(dropped.model(samples), build_model(samples, 2)(samples))


def test_one_pass_makes_one_pass():
    lines = []
    objective = NestedDenoising(build_model(curved(), 2))
    one_pass(objective, curved(), setting(report=lines.append))
    assert [line["step"] for line in lines] == [8]


def test_the_cycle_rises_and_falls():
    factors = [one_cycle(k, 100) for k in range(101)]
    assert int(np.argmax(factors)) == 30
    assert max(factors) == pytest.approx(1)
    assert np.all(np.diff(factors[30:]) < 0)
