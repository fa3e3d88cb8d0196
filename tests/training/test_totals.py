"""Sums of terms: their means, over processes too, and their state."""

from unittest.mock import Mock

import pytest
import torch
from lightning_fabric import Fabric

from lorae.training.totals import Totals


def filled(*values: float) -> Totals:
    totals = Totals()
    for value in values:
        totals.add({"a": torch.tensor(value), "b": torch.tensor(2 * value, requires_grad=True)})
    return totals


@pytest.mark.parametrize("values", [(1.0,), (1.0, 2.0, 6.0), (-3.0, 0.5)])
def test_means_are_per_step_and_the_loss_is_their_sum(values):
    totals, mean = filled(*values), sum(values) / len(values)
    assert totals.means() == pytest.approx({"loss": 3 * mean, "a": mean, "b": 2 * mean})
    assert not any(total.requires_grad for total in totals.sums.values())
    totals.clear()
    totals.add({"a": torch.tensor(5.0)})
    assert totals.means() == {"loss": 5.0, "a": 5.0}


@pytest.mark.parametrize(("value", "finite"), [(1.0, True), (float("nan"), False), (1e39, False)])
def test_what_is_not_finite_is_seen(value, finite):
    assert filled(1.0, value).finite() is finite


def test_processes_agree_on_the_mean_and_go_on_from_there():
    totals = filled(1.0, 3.0)
    other = {"a": 8.0, "b": 16.0}  # the sums of another process after two steps
    fabric = Mock(Fabric)
    fabric.all_reduce = lambda total: (total + other["a" if total == 4 else "b"]) / 2
    totals.agree(fabric)
    assert totals.means() == {"loss": 9.0, "a": 3.0, "b": 6.0}
    totals.add({"a": torch.tensor(3.0), "b": torch.tensor(6.0)})
    assert totals.means() == {"loss": 9.0, "a": 3.0, "b": 6.0}


def test_the_state_is_taken_up_without_a_change():
    totals, fresh = filled(1.0, 2.5), Totals()
    state = totals.state_dict()
    fresh.load_state_dict(state)
    assert fresh.means() == totals.means()
    assert set(state) == {"a", "b", "steps"}  # the state given is left as it was
