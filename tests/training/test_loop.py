"""One loop: its samples, its stops, its averages and what it writes down."""

import json
import math
from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
from lightning_fabric import Fabric
from small import SMALL, VARIANTS, outcome
from torch.optim.optimizer import register_optimizer_step_pre_hook

from lorae.errors import Diverged, InputError
from lorae.objectives.base import AE
from lorae.objectives.registry import METHODS, Method
from lorae.training import loop as training
from lorae.training.devices import fabric_for
from lorae.training.evaluation import evaluate
from lorae.training.loop import Sampler, Session, train
from lorae.training.run_folder import Run
from lorae.training.sampler import drawn

pytestmark = pytest.mark.usefixtures("data_kept")


class Poisoned(AE):
    """Turns its loss, or a weight, into NaN at the twelfth batch."""

    in_weight = False

    def __init__(self, model):
        super().__init__(model)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        bad = math.nan if self.calls == 12 else 1.0
        if self.in_weight:
            with torch.no_grad():
                self.model.encoder[0].bias.mul_(bad)
            bad = 1.0
        return {"reconstruction": bad * super().forward(x)["reconstruction"]}


class PoisonedWeight(Poisoned):
    in_weight = True


@pytest.mark.parametrize("objective", [Poisoned, PoisonedWeight])
def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(objective, tmp_path, monkeypatch):
    monkeypatch.setitem(
        METHODS,
        "poisoned",
        Method(objective=f"{__name__}:{objective.__name__}", bridge="none", summary=""),
    )
    kept = []
    save = training.save_checkpoint
    monkeypatch.setattr(
        training,
        "save_checkpoint",
        lambda path, *a: (save(path, *a), kept.append(path.read_bytes())),
    )
    with pytest.raises(Diverged, match=r"no longer finite at step 1\d.*last\.safetensors") as error:
        train(replace(SMALL, model="poisoned", steps=30), tmp_path, show=False)
    assert str(error.value).count("\n") == 0
    assert len(kept) == 2
    run = Run(tmp_path)
    assert run.checkpoint.read_bytes() == kept[-1]
    assert [line["step"] for line in run.metrics()] == [5, 10]
    assert not run.finished


def test_early_stopping_keeps_the_best_model(tmp_path):
    options = VARIANTS["patience"]
    run = train(options, tmp_path, show=False)
    *lines, final = run.metrics()
    errors = [line["validation"]["reconstruction"] for line in lines]
    best = errors.index(min(errors))
    assert best == len(errors) - 1 - options.patience
    assert final["step"] == lines[-1]["step"] < options.steps
    data = options.load()
    held_out = Sampler(data.train, options.resolved(data), fabric_for(options)).held_out
    assert len(held_out) == lines[0]["validation"]["samples"]
    assert evaluate(run.model(), held_out).reconstruction == pytest.approx(errors[best], rel=1e-6)


def test_the_moving_average_is_what_its_name_says(tmp_path, monkeypatch):
    step, weights = Session.step, []

    def noted(self, x):
        names = dict(self.objective.model.named_parameters())
        if not weights:
            weights.append({k: v.detach().double() for k, v in names.items()})
        terms = step(self, x)
        weights.append({k: v.detach().double() for k, v in names.items()})
        return terms

    monkeypatch.setattr(Session, "step", noted)
    model = train(VARIANTS["ema"], tmp_path, show=False).model()
    mean = weights[0]
    for new in weights[1:]:
        mean = {k: 0.8 * mean[k] + 0.2 * new[k] for k in mean}
    assert len(weights) == 1 + SMALL.steps
    for name, parameter in model.named_parameters():
        # twelve float32 roundings of numbers below 1
        torch.testing.assert_close(parameter.detach().double(), mean[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("limit", [None, 1e-2])
def test_the_gradient_is_clipped_where_asked(limit, tmp_path):
    norms = []

    def note(optimizer, *_):
        grads = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]
        norms.append(float(torch.cat(grads).norm()))

    hook = register_optimizer_step_pre_hook(note)
    try:
        train(replace(SMALL, clip_norm=limit), tmp_path, show=False)
    finally:
        hook.remove()
    assert len(norms) == SMALL.steps
    if limit is None:
        assert max(norms) > 2e-2
    else:
        assert max(norms) == pytest.approx(limit, rel=1e-3)


def process(rank: int, world: int) -> Fabric:
    """Return what stands for one of several processes."""
    return Mock(Fabric, global_rank=rank, world_size=world, device=torch.device("cpu"))


@pytest.mark.parametrize("validation", [0.0, 0.3])
@pytest.mark.parametrize("size", [1, 7, 50])
def test_every_sample_comes_once_an_epoch(validation, size):
    samples = torch.arange(50.0)[:, None]
    options = replace(SMALL, validation=validation, batch_size=min(size, 35))
    sampler = Sampler(samples, options, process(0, 1))
    orders = [
        torch.cat([sampler.batch(epoch * sampler.per_epoch + k) for k in range(sampler.per_epoch)])
        for epoch in range(3)
    ]
    held_out = set(sampler.held_out[:].flatten().tolist())
    assert len(held_out) == round(validation * 50)
    for order in orders:
        seen = order.flatten().tolist()
        assert len(set(seen)) == len(seen) == sampler.per_epoch * options.batch_size
        assert not held_out & set(seen)
    assert not torch.equal(orders[0], orders[1])
    assert torch.equal(sampler.batch(0), orders[0][: options.batch_size])  # going back is allowed
    other = Sampler(samples, replace(options, seed=1), process(0, 1))
    several = [other.batch(k) for k in range(sampler.per_epoch)]
    assert not torch.equal(torch.cat(several), orders[0])


def test_drawn_samples_keep_their_order_and_are_those_of_the_seed():
    samples = torch.arange(50.0)
    for count in (0, 7, 50, 99):
        found = drawn(samples, count, 0)
        assert len(found) == min(count, 50)
        assert torch.equal(found, found.sort().values)
        assert len(set(found.tolist())) == len(found)
        assert torch.equal(found, drawn(samples, count, 0))
    assert not torch.equal(drawn(samples, 7, 0), drawn(samples, 7, 1))


def test_no_epoch_of_a_seed_is_one_of_another():
    samples = torch.arange(50.0)[:, None]
    orders = [
        tuple(Sampler(samples, replace(SMALL, seed=seed, batch_size=50), process(0, 1)).batch(e))
        for seed in range(4)
        for e in range(4)
    ]
    assert len(set(map(str, orders))) == len(orders)


@pytest.mark.parametrize("world", [2, 3, 4])
def test_processes_share_the_batch_of_one(world):
    samples = torch.arange(50.0)[:, None]
    options = replace(SMALL, batch_size=12)
    whole = Sampler(samples, options, process(0, 1))
    shares = [Sampler(samples, options, process(rank, world)) for rank in range(world)]
    for step in range(10):
        parts = [share.batch(step) for share in shares]
        assert {len(part) for part in parts} == {12 // world}
        assert torch.equal(torch.cat(parts).sort(0).values, whole.batch(step).sort(0).values)


def test_the_metrics_say_what_happened(tmp_path):
    run = train(replace(SMALL, validation=0.1), tmp_path, show=False)
    *lines, final = run.metrics()
    assert [line["step"] for line in lines] == [5, 10, 12]
    assert [line["final"] for line in [*lines, final]] == [False, False, False, True]
    seconds = [line["seconds"] for line in lines]
    assert 0 < seconds[0] < seconds[1] < seconds[2] == final["seconds"]
    for line in lines:
        terms = dict(line["train"])
        assert terms.pop("loss") == pytest.approx(sum(terms.values()))
        assert set(terms) == {"reconstruction", "nuclear_norm"}
    assert final["test"]["samples"] == len(SMALL.load().test)
    found = evaluate(run.model(), SMALL.load().test)
    assert found.covariance.tolist() == pytest.approx(final["test"]["covariance"], rel=1e-5)
    assert found.matrix.tolist() == pytest.approx(final["test"]["matrix"], rel=1e-5)
    for line in run.path.joinpath("metrics.jsonl").read_text().splitlines():
        assert json.loads(line)["test"]["rank"] == sum(
            s > 0.01 * max(json.loads(line)["test"]["covariance"])
            for s in json.loads(line)["test"]["covariance"]
        )


def test_the_seed_decides_and_nothing_else(tmp_path):
    names = ("one", "again", "other")
    seeds = (0, 0, 1)
    one, again, other = (
        outcome(train(replace(SMALL, seed=seed), tmp_path / name, show=False))
        for name, seed in zip(names, seeds, strict=True)
    )
    assert one == again
    assert one[0] != other[0]


@pytest.mark.parametrize(
    "change",
    [
        {"latent": 65},
        {"network": "mnist"},
        {"network": "konv"},
        {"model": "ae", "weight": 0.1},
        {"settings": {"depth": 3}},
        {"model": "irmae", "settings": {"depth": 0}},
        {"model": "rrae", "settings": {"rank": 65}},
        {"batch_size": 2000},
        {"device": "gpux"},
        {"device": "cuda"},
    ],
    ids=str,
)
def test_options_that_do_not_fit_leave_no_folder(change, tmp_path):
    if change == {"device": "cuda"} and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError):
        train(replace(SMALL, **change), tmp_path / "run", show=False)
    assert not (tmp_path / "run").exists()
