"""Runs: early stopping, averages, clipping, metrics, and options that are refused."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from small import SMALL, VARIANTS, outcome
from torch.optim.optimizer import register_optimizer_step_pre_hook

from lorae.errors import Diverged, InputError
from lorae.nn.autoencoder import Architecture, build
from lorae.objectives.base import AE
from lorae.objectives.registry import METHODS, Method
from lorae.training import session as training
from lorae.training.devices import single_process
from lorae.training.evaluation import evaluate
from lorae.training.loop import Stepper
from lorae.training.options import Options, data_of
from lorae.training.run_folder import Run
from lorae.training.sampler import Sampler
from lorae.training.train import train

pytestmark = pytest.mark.usefixtures("cached_data")


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
    held_out = Sampler(
        data.train,
        single_process("cpu"),
        batch_size=options.batch_size,
        held_out=round(options.validation * len(data.train)),
        seed=options.seed,
    ).held_out
    assert len(held_out) == lines[0]["validation"]["samples"]
    assert evaluate(run.model(), held_out).reconstruction == pytest.approx(errors[best], rel=1e-6)


def test_the_moving_average_follows_its_formula(tmp_path, monkeypatch):
    step, weights = Stepper.step, []

    def noted(self, x):
        names = dict(self.objective.model.named_parameters())
        if not weights:
            weights.append({k: v.detach().double() for k, v in names.items()})
        terms = step(self, x)
        weights.append({k: v.detach().double() for k, v in names.items()})
        return terms

    monkeypatch.setattr(Stepper, "step", noted)
    model = train(VARIANTS["ema"], tmp_path, show=False).model()
    mean = weights[0]
    for new in weights[1:]:
        mean = {k: 0.8 * mean[k] + 0.2 * new[k] for k in mean}
    assert len(weights) == 1 + SMALL.steps
    for name, parameter in model.named_parameters():
        # twelve float32 roundings of numbers below 1
        torch.testing.assert_close(parameter.detach().double(), mean[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("limit", [None, 1e-2])
def test_the_gradient_is_clipped_if_requested(limit, tmp_path):
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


def test_metrics_agree_with_the_run(tmp_path):
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


def test_results_depend_on_the_seed_alone(tmp_path):
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
        {"network": "mnist"},
        {"network": "konv"},
        {"model": "ae", "weight": 0.1},
        {"settings": {"depth": 3}},
        {"model": "irmae", "settings": {"depth": 0}},
        {"model": "rrae", "settings": {"rank": 65}},
        {"device": "gpux"},
        {"device": "cuda"},
    ],
    ids=str,
)
def test_unsuitable_options_leave_no_folder(change, tmp_path):
    if change == {"device": "cuda"} and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError):
        train(replace(SMALL, **change), tmp_path / "run", show=False)
    assert not (tmp_path / "run").exists()


def test_a_batch_that_processes_cannot_share_leaves_no_folder(tmp_path):
    options = replace(SMALL, device="cpu", devices=3)
    with pytest.raises(InputError, match="multiple of the number of processes, 3, got 64"):
        train(options, tmp_path / "run", show=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("devices", "nodes"), [(2, 2), (4, 1), (1, 4)])
def test_a_share_of_a_batch_that_is_too_small_leaves_no_folder(
    devices, nodes, tmp_path, monkeypatch
):
    """Before any process is started."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("NODE_RANK", "0")
    options = replace(SMALL, model="rrae", batch_size=4, devices=devices, nodes=nodes)
    with pytest.raises(InputError, match=r"batch_size must be at least 6 for rrae with .*, got 4"):
        train(replace(options, device="cpu"), tmp_path / "run", show=False)
    assert not (tmp_path / "run").exists()


def test_collapsed_models_are_warned_about():
    torch.manual_seed(0)
    model, x = build(Architecture("mlp", (6,), 3, "low-rank")), torch.rand(100, 6)
    with torch.no_grad():
        model.bridge.weight.copy_(torch.eye(3))
        for parameter in (*model.encoder.parameters(), *model.decoder.parameters()):
            parameter.mul_(2)
        assert evaluate(model, x).final_warnings == []
        model.bridge.weight.copy_(torch.diag(torch.tensor([1.0, 0, 0])))
        assert "the codes have rank 1 at 1e-02" in evaluate(model, x).final_warnings[0]
        model.bridge.weight.zero_()
        assert "maps all samples to nearly one" in evaluate(model, x).final_warnings[0]


def test_samples_in_memory_are_trained_on_as_a_file_is_and_stay_with_the_run(tmp_path):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=["a", "b", "c"])
    frame.to_csv(tmp_path / "a.csv", index=False)
    options = {"latent": 2, "steps": 4, "width": 0.1, "show": False}
    of_file = train(data=tmp_path / "a.csv", out=tmp_path / "file", **options)
    runs = [
        train(Options(latent=2), tmp_path / name, data=data, **options)
        for name, data in (("frame", frame), ("array", frame.to_numpy()))
    ]
    for run in runs:
        moved = Run(run.path.rename(tmp_path / f"moved-{run.name}"))
        assert torch.equal(data_of(moved).test, data_of(of_file).test)
        for ours, theirs in zip(
            moved.model().state_dict().values(), of_file.model().state_dict().values(), strict=True
        ):
            assert torch.equal(ours, theirs)
    longer = train(data=frame, out=tmp_path / "moved-frame", resume=True, **options | {"steps": 6})
    assert longer.last["step"] == 6


def test_samples_in_memory_that_cannot_be_trained_on_leave_no_folder(tmp_path):
    cases = [
        ({"data": pd.DataFrame({"a": ["x", "y"], "b": [1, 2]})}, "columns of data must be numbers"),
        ({"data": np.full((5, 2), np.nan)}, "data must hold finite numbers"),
        ({"data": np.ones(5)}, "data must be an array of samples"),
        ({"data": np.ones((5, 2)), "step": 3}, "unknown option 'step' .did you mean 'steps'"),
    ]
    for arguments, message in cases:
        with pytest.raises(InputError, match=message):
            train(out=tmp_path / "a", **arguments)
        assert not (tmp_path / "a").exists()
