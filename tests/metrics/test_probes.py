"""Draws are balanced, probes classify, and nothing is selected on the test set."""

from dataclasses import replace

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import lorae
from lorae.errors import InputError
from lorae.metrics.probes import (
    PROBES,
    LabelledCodes,
    accuracies,
    balanced_subset,
    best_on_test,
    encode_labelled,
    head,
)
from lorae.nn.autoencoder import Architecture, build


def digits() -> LabelledCodes:
    x, y = (torch.tensor(part) for part in load_digits(return_X_y=True))
    return LabelledCodes(x[:1200].float(), y[:1200], x[1200:].float(), y[1200:])


@pytest.mark.parametrize("n", [3, 4, 10, 60])
@pytest.mark.parametrize("names", [(0, 1, 2), (2, 5, 9)])
def test_draws_have_equally_many_of_each_class(n, names):
    labels = torch.tensor(names).repeat_interleave(torch.tensor([40, 30, 20]))
    chosen = balanced_subset(labels, n, seed=0)
    assert len(set(chosen.tolist())) == n
    counts = torch.stack([(labels[chosen] == name).sum() for name in names])
    assert counts.max() - counts.min() <= 1
    assert torch.equal(chosen, balanced_subset(labels, n, seed=0))
    if n > 3:
        assert not torch.equal(chosen, balanced_subset(labels, n, seed=1))


def test_small_classes_contribute_all_their_samples():
    labels = torch.tensor([0] * 50 + [1] * 3)
    chosen = balanced_subset(labels, 20, seed=0)
    assert int((labels[chosen] == 1).sum()) == 3


@pytest.mark.parametrize("n", [2, 91])
def test_draws_of_impossible_size_are_refused(n):
    labels = torch.arange(3).repeat_interleave(30)
    with pytest.raises(
        InputError, match=rf"at least 3 \(one of each class\) and at most 90, got {n}"
    ):
        balanced_subset(labels, n, seed=0)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_labels_of_one_class_are_refused(n):
    labels = torch.full((n,), 3)
    with pytest.raises(InputError, match="needs labels of two classes or more"):
        LabelledCodes(torch.randn(n, 2), labels, torch.randn(n, 2), labels)


@pytest.mark.parametrize("name", PROBES)
class TestEveryProbe:
    def test_classifies_digits_better_with_more_labels(self, name):
        codes = digits()
        few, many = (PROBES[name](codes.draw(n, 0), seed=0) for n in (10, 400))
        assert 0.2 < few < many
        assert many > 0.8

    def test_depends_on_the_seed_alone(self, name):
        drawn = digits().draw(50, 3)
        first = PROBES[name](drawn, seed=1)
        torch.manual_seed(99)
        assert PROBES[name](drawn, seed=1) == first

    def test_is_at_chance_on_noise(self, name):
        x, y = torch.randn(600, 5), torch.arange(600) % 4
        codes = LabelledCodes(x[:300], y[:300], x[300:], y[300:])
        assert PROBES[name](codes.draw(200, 0), seed=0) == pytest.approx(0.25, abs=0.1)

    def test_does_not_see_the_test_labels(self, name, monkeypatch):
        """With other test labels the same codes get the same classes."""
        codes = digits().draw(60, 0)
        accuracy = PROBES[name](codes, seed=0)
        wrong = LabelledCodes(
            codes.train, codes.train_labels, codes.test, (codes.test_labels + 1) % 10
        )
        assert PROBES[name](wrong, seed=0) <= 1 - accuracy

    def test_does_not_depend_on_scale_or_unused_directions(self, name):
        codes = digits()
        dead = [
            torch.cat([1e4 * x, 1e-9 * torch.randn(len(x), 3)], 1)
            for x in (codes.train, codes.test)
        ]
        other = LabelledCodes(dead[0], codes.train_labels, dead[1], codes.test_labels)
        a, b = (PROBES[name](one.draw(100, 0), seed=0) for one in (codes, other))
        assert b == pytest.approx(a, abs=0.06)


def test_draws_are_standardized_by_themselves():
    drawn = digits().draw(100, 0)
    used = drawn.train.std(0) > 0
    torch.testing.assert_close(
        drawn.train[:, used].mean(0), torch.zeros(int(used.sum())), atol=1e-5, rtol=0
    )
    assert 0.9 < drawn.train[:, used].std(0).median() <= 1.01


def test_supervised_trains_encoder_and_head_together():
    codes = digits()
    images = LabelledCodes(
        codes.train / 16, codes.train_labels, codes.test / 16, codes.test_labels, standardize=False
    )
    found = head(images.draw(400, 0), encoder=lambda: nn.Linear(64, 32), epochs=20)
    assert found > 0.75


def test_the_head_is_trained_on_all_its_labels():
    """Wherever a code is moved away, the head learns something else."""
    codes = digits().draw(40, 0)
    found = PROBES["head"](codes, epochs=3)
    for k in (0, 17, 39):
        moved = codes.train.clone()
        moved[k] = 100.0
        assert PROBES["head"](replace(codes, train=moved), epochs=3) != found, k


def test_test_codes_do_not_influence_the_training():
    codes = digits().draw(40, 0)
    part = replace(codes, test=codes.test[:200], test_labels=codes.test_labels[:200])
    rest = replace(codes, test=codes.test[200:], test_labels=codes.test_labels[200:])
    n, m = len(part.test), len(rest.test)
    for whole, a, b in zip(
        *(accuracies(one, steps=40, every=10) for one in (codes, part, rest)), strict=True
    ):
        assert whole == pytest.approx((n * a + m * b) / (n + m))


def test_the_best_epoch_on_the_test_set_is_the_maximum_along_the_training():
    codes = digits().draw(150, 0)
    along = accuracies(codes, seed=3, steps=60, every=20)  # two steps an epoch
    assert best_on_test(codes, seed=3, epochs=30) == max(along)
    assert max(along) > min(along)


def test_of_a_posterior_the_mean_alone_is_encoded():
    model = build(Architecture("mlp", (64,), 5, "gaussian", width=0.1))
    data = lorae.data.load("digits")
    data = replace(data, train=data.train.flatten(1), test=data.test.flatten(1))
    codes = encode_labelled(model, data, "encoder", standardize=False)
    assert codes.train.shape[1] == 5
    assert torch.equal(codes.test, encode_labelled(model, data).test)
    assert torch.equal(codes.draw(20, 0).test, codes.test)  # as they are


def test_rounding_in_unused_directions_is_not_amplified():
    labels = torch.arange(40) % 2
    z = torch.randn(40, 3) * torch.tensor([1.0, 10.0, 1e-9])
    drawn = LabelledCodes(z, labels, z, labels).draw(20, 0)
    deviations = drawn.train.double().std(0)
    torch.testing.assert_close(deviations[:2], torch.ones(2).double(), rtol=1e-5, atol=1e-5)
    assert deviations[2] < 1e-9
