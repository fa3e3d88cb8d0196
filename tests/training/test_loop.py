"""The loop, against one written by hand, and the sums of the terms."""

import math
from unittest.mock import Mock

import pytest
import torch
from lightning_fabric import Fabric

from lorae.errors import Diverged
from lorae.nn.autoencoder import Architecture, build
from lorae.objectives.base import AE
from lorae.training.devices import single_process
from lorae.training.loop import Stepper, Totals, optimize
from lorae.training.options import OptimizerOptions


def batch(step: int) -> torch.Tensor:
    return torch.rand(10, 6, generator=torch.Generator().manual_seed(step))


def objective() -> AE:
    torch.manual_seed(0)
    return AE(build(Architecture("mlp", (6,), 3, width=0.1)))


def stepper(model: AE, steps: int = 0, **options) -> Stepper:
    options = {"learning_rate": 1e-2} | options
    return Stepper(model, OptimizerOptions(**options), single_process("cpu"), steps)


def test_the_loop_equals_one_written_by_hand():
    ours, theirs = objective(), objective()
    loop = optimize(stepper(ours), batch, 7, schedule=lambda k: 1 / (1 + k))
    assert list(loop) == [1, 2, 3, 4, 5, 6, 7]
    optimizer = torch.optim.Adam(theirs.parameters(), fused=True)
    for k in range(7):
        optimizer.param_groups[0]["lr"] = 1e-2 / (1 + k)
        optimizer.zero_grad()
        sum(theirs(batch(k)).values()).backward()
        optimizer.step()
    for found, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_steps_made_before_count():
    one = stepper(objective(), steps=3)
    asked = []
    assert list(optimize(one, lambda k: asked.append(k) or batch(k), 5)) == [4, 5]
    assert asked == [3, 4]
    assert list(optimize(one, batch, 5)) == []


def test_a_warm_up_raises_the_strength_of_the_penalty():
    model = objective()
    seen = [model.strength for _ in optimize(stepper(model, warmup=4), batch, 6)]
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_a_loss_that_is_not_finite_ends_the_loop():
    steps = optimize(stepper(objective()), lambda k: batch(k) * (math.nan if k == 2 else 1), 5)
    with pytest.raises(Diverged, match=r"the loss is no longer finite at step 3: .* below 0.01"):
        list(steps)


def test_a_weight_that_is_not_finite_is_found_at_the_end():
    model = objective()
    steps = optimize(stepper(model), batch, 1)
    next(steps)
    next(model.parameters()).data[0] = math.inf
    with pytest.raises(Diverged, match="a weight is no longer finite at step 1"):
        next(steps)


def sums_of(*values: float) -> Totals:
    totals = Totals()
    for value in values:
        totals.add({"a": torch.tensor(value), "b": torch.tensor(2 * value, requires_grad=True)})
    return totals


@pytest.mark.parametrize("values", [(1.0,), (1.0, 2.0, 6.0), (-3.0, 0.5)])
def test_means_are_per_step_and_the_loss_is_their_sum(values):
    totals, mean = sums_of(*values), sum(values) / len(values)
    assert totals.means() == pytest.approx({"loss": 3 * mean, "a": mean, "b": 2 * mean})
    assert not any(total.requires_grad for total in totals.sums.values())
    totals.clear()
    totals.add({"a": torch.tensor(5.0)})
    assert totals.means() == {"loss": 5.0, "a": 5.0}


@pytest.mark.parametrize(("value", "finite"), [(1.0, True), (float("nan"), False), (1e39, False)])
def test_sums_that_are_not_finite_are_found(value, finite):
    assert sums_of(1.0, value).finite() is finite


def test_synchronized_sums_are_means_over_processes():
    totals = sums_of(1.0, 3.0)
    other = {"a": 8.0, "b": 16.0}  # the sums of another process after two steps
    fabric = Mock(Fabric)
    fabric.all_reduce = lambda total: (total + other["a" if total == 4 else "b"]) / 2
    totals.synchronize(fabric)
    assert totals.means() == {"loss": 9.0, "a": 3.0, "b": 6.0}
    totals.add({"a": torch.tensor(3.0), "b": torch.tensor(6.0)})
    assert totals.means() == {"loss": 9.0, "a": 3.0, "b": 6.0}


def test_the_state_is_restored_unchanged():
    totals, fresh = sums_of(1.0, 2.5), Totals()
    state = totals.state_dict()
    fresh.load_state_dict(state)
    assert fresh.means() == totals.means()
    assert set(state) == {"a", "b", "steps"}  # loading does not change the state
