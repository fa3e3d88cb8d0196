"""One loop, whatever happens to it: stopped anywhere and resumed, a run ends the same."""

import json
import math
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from unittest.mock import Mock

import pytest
import torch
from launcher import needs_fork, start
from lightning_fabric import Fabric
from torch.optim.optimizer import register_optimizer_step_pre_hook

from lorae import training
from lorae.autoencoder import Autoencoder
from lorae.errors import Diverged, InputError, Interrupted
from lorae.evaluation import evaluate
from lorae.objectives import AE, METHODS, Method
from lorae.options import Options
from lorae.runs import Run
from lorae.training import Sampler, Session, train

SMALL = Options(data="digits", steps=12, evaluate_every=5, batch_size=64, width=0.1, latent=6)

VARIANTS = {
    "plain": SMALL,
    "ema": replace(SMALL, ema=0.8),
    "proximal": replace(SMALL, model="lorae-proximal"),
    "scale-free": replace(SMALL, model="lorae-scale-free"),
    "irmae": replace(SMALL, model="irmae", weight_decay=1e-3),
    "patience": replace(
        SMALL, validation=0.2, patience=2, evaluate_every=3, learning_rate=0.05, steps=16, ema=0.5
    ),
    "clip": replace(SMALL, clip_norm=1e-2, learning_rate=1e-2),
    "mixed": replace(SMALL, precision="bf16-mixed"),
    "double": replace(SMALL, precision="64-true"),
}


@pytest.fixture(autouse=True)
def data_kept(monkeypatch):
    """Read the data once, not for each of the two hundred trainings of this file."""
    monkeypatch.setattr(Options, "load", _load)


_load = cache(Options.load)


class Crash(BaseException):
    """What nothing catches, like the end of the process."""


def outcome(run: Run) -> tuple[bytes, list[dict]]:
    """Return what a run must end with: the model's bytes and the metrics without the clock."""
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics()]
    return (run.path / "model.safetensors").read_bytes(), lines


@cache
def undisturbed(variant: str) -> tuple[bytes, list[dict]]:
    return outcome(train(VARIANTS[variant], mkdtemp(), show=False))


def crashing(method: Callable, call: int, *, after: bool = False) -> Callable:
    """Return a method that raises Crash at its call of that number, before or after its work."""
    calls = iter(range(1, 10**6))

    def crashes(*arguments, **named):
        number = next(calls)
        if number == call and not after:
            raise Crash
        result = method(*arguments, **named)
        if number == call:
            raise Crash
        return result

    return crashes


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_crashed_again_and_again_ends_as_if_it_had_not_been(variant, tmp_path, monkeypatch):
    step, options = Session.step, VARIANTS[variant]
    for call in (2, 6, 3, 7):  # before the first checkpoint, after it, before the next, ...
        monkeypatch.setattr(Session, "step", crashing(step, call))
        resume = Run(tmp_path).exists
        try:
            train(options, tmp_path, resume=resume, show=False)
        except Crash:
            continue
    monkeypatch.setattr(Session, "step", step)
    run = train(options, tmp_path, resume=True, show=False)
    assert outcome(run) == undisturbed(variant)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("variant", ["plain", "patience"])
@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (training, "save_checkpoint", 1),
        (training, "save_checkpoint", 3),
        (Run, "append_metrics", 2),
        (Run, "append_metrics", 4),
        (Run, "rewind_metrics", 1),
        (Autoencoder, "save", 1),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_crash_beside_any_write_changes_nothing(
    variant, owner, name, call, after, tmp_path, monkeypatch
):
    for what in ((Session, "step", 4, False), (owner, name, call, after)):
        with monkeypatch.context() as patch:
            patch.setattr(what[0], what[1], crashing(getattr(*what[:2]), what[2], after=what[3]))
            with pytest.raises(Crash):
                train(VARIANTS[variant], tmp_path, resume=Run(tmp_path).exists, show=False)
    run = train(VARIANTS[variant], tmp_path, resume=True, show=False)
    assert outcome(run) == undisturbed(variant)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_the_end_of_the_step_and_loses_nothing(number, tmp_path, monkeypatch):
    step = Session.step

    def signalled(self, x):
        if self.state.step == 6:
            signal.raise_signal(number)
        return step(self, x)

    monkeypatch.setattr(Session, "step", signalled)
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="stopped at step 7; continue with") as stopped:
        train(SMALL, tmp_path, show=False)
    assert stopped.value.signal == number
    assert signal.getsignal(number) is before
    monkeypatch.setattr(Session, "step", step)
    steps = []
    monkeypatch.setattr(Session, "step", lambda self, x: steps.append(0) or step(self, x))
    run = train(SMALL, tmp_path, resume=True, show=False)
    assert len(steps) == 12 - 7
    assert outcome(run) == undisturbed("plain")


def test_a_second_ctrl_c_stops_at_once(tmp_path, monkeypatch):
    def signalled(self, x):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Session, "step", signalled)
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, tmp_path, show=False)


def flags(options: Options) -> list[str]:
    """Return the arguments that make these options on the command line."""
    changed = {k: v for k, v in vars(options).items() if v != getattr(Options(), k)}
    return [part for k, v in changed.items() for part in (f"--{k.replace('_', '-')}", str(v))]


def killed_until_done(
    folder: Path, options: Options, signals: list[int], seconds: float
) -> tuple[Run, int]:
    """Train, killed by the given signals, each at a random moment after the next evaluation.

    Returns:
        The run, and how many of the signals found it at work.
    """
    run, hits, delays = Run(folder / "run"), 0, random.Random(0)
    for number in [*signals, None]:
        where = ["--resume", run.path] if run.exists else ["--out", run.path, *flags(options)]
        process, lines = start("train", *where, folder=folder), len(run.metrics())
        if number is not None:
            give_up = time.monotonic() + 60
            while len(run.metrics()) == lines and time.monotonic() < give_up:
                time.sleep(0.01)
            time.sleep(delays.uniform(0, seconds))
            process.kill(number)
        status = process.wait()
        stopped = number is not None and status in (-number, 128 + number)
        assert stopped or status == 0, process.err
        hits += stopped
        if status == 0:
            break
    return run, hits


@needs_fork
def test_three_real_kills_change_no_bit(tmp_path):
    options = replace(SMALL, steps=400, evaluate_every=20, ema=0.9)
    signals = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
    run, hits = killed_until_done(tmp_path, options, signals, seconds=0.3)
    assert hits == 3
    assert outcome(run) == outcome(train(options, tmp_path / "whole", show=False))


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_twenty_real_kills_change_no_bit(variant, tmp_path):
    options = replace(VARIANTS[variant], steps=2000, evaluate_every=40)
    if options.patience is not None:
        options = replace(options, patience=40)
    signals = [signal.SIGKILL] * 14 + [signal.SIGTERM, signal.SIGINT] * 3
    random.Random(variant).shuffle(signals)
    run, hits = killed_until_done(tmp_path, options, signals, seconds=0.5)
    assert hits == 20
    assert outcome(run) == outcome(train(options, tmp_path / "whole", show=False))


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
        return {"reconstruction": bad * self.reconstruction(x)}


class PoisonedWeight(Poisoned):
    in_weight = True


@pytest.mark.parametrize("objective", [Poisoned, PoisonedWeight])
def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(objective, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "poisoned", Method(objective, "none", ""))
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
    options = replace(VARIANTS["patience"], steps=400)
    run = train(options, tmp_path, show=False)
    *lines, final = run.metrics()
    errors = [line["validation"]["reconstruction"] for line in lines]
    best = errors.index(min(errors))
    assert best == len(errors) - 1 - options.patience
    assert final["step"] == lines[-1]["step"] < options.steps
    data = options.load()
    held_out = Sampler(data.train, options.resolved(data), training._fabric(options)).held_out
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
    held_out = set(sampler.held_out.flatten().tolist())
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
    again = train(SMALL, tmp_path / "again", show=False)
    assert outcome(again) == undisturbed("plain")
    other = train(replace(SMALL, seed=1), tmp_path / "other", show=False)
    assert outcome(other)[0] != undisturbed("plain")[0]


@pytest.mark.parametrize(
    "change",
    [
        {"latent": 65},
        {"network": "mnist"},
        {"network": "konv"},
        {"model": "ae", "weight": 0.1},
        {"depth": 3},
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
