"""A run that is interrupted, anywhere and repeatedly, ends as if it had not been."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from launcher import flags, needs_fork, start
from small import SMALL, VARIANTS, outcome

from lorae.errors import InputError, Interrupted
from lorae.nn.autoencoder import Autoencoder
from lorae.objectives.registry import METHODS
from lorae.training import session as training
from lorae.training import train as training_command
from lorae.training.loop import Stepper
from lorae.training.options import Options
from lorae.training.run_folder import Run
from lorae.training.train import train

pytestmark = pytest.mark.usefixtures("cached_data")


class Crash(BaseException):
    """An exception that nothing catches, like the end of the process."""


@cache
def undisturbed(variant: str) -> tuple[bytes, list[dict]]:
    return outcome(train(VARIANTS[variant], mkdtemp(), show=False))


def crashing(method: Callable, call: int, *, after: bool = False) -> Callable:
    """Return a method that raises Crash in its n-th call, before or after its work."""
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


QUICK = {"vae-flow", "wae", "vrrae", "rae-sn", "rae-gp", "nested-dropout", "gan", "least-volume"}


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(v, marks=[pytest.mark.slow] if v in METHODS and v not in QUICK else [])
        for v in VARIANTS
    ],
)
def test_repeated_crashes_change_nothing(variant, tmp_path, monkeypatch):
    step, options = Stepper.step, VARIANTS[variant]
    for call in (2, 6, 3, 7):  # before the first checkpoint, after it, before the next, ...
        monkeypatch.setattr(Stepper, "step", crashing(step, call))
        resume = Run(tmp_path).exists
        try:
            train(options, tmp_path, resume=resume, show=False)
        except Crash:
            continue
    monkeypatch.setattr(Stepper, "step", step)
    run = train(options, tmp_path, resume=True, show=False)
    assert outcome(run) == undisturbed(variant)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("variant", "owner", "name", "call"),
    [
        ("plain", training, "save_checkpoint", 1),
        ("plain", training, "save_checkpoint", 3),
        ("plain", Run, "append_metrics", 2),
        ("plain", Run, "append_metrics", 4),
        ("plain", Run, "rewind_metrics", 1),
        ("plain", Autoencoder, "save", 1),
        ("patience", training, "save_checkpoint", 2),
        ("patience", Run, "append_metrics", 2),
        ("patience", Autoencoder, "save", 1),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_crash_before_or_after_any_write_changes_nothing(
    variant, owner, name, call, after, tmp_path, monkeypatch
):
    for what in ((Stepper, "step", 4, False), (owner, name, call, after)):
        with monkeypatch.context() as patch:
            patch.setattr(what[0], what[1], crashing(getattr(*what[:2]), what[2], after=what[3]))
            with pytest.raises(Crash):
                train(VARIANTS[variant], tmp_path, resume=Run(tmp_path).exists, show=False)
    run = train(VARIANTS[variant], tmp_path, resume=True, show=False)
    assert outcome(run) == undisturbed(variant)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_training_after_the_step_and_loses_nothing(number, tmp_path, monkeypatch):
    step = Stepper.step

    def signalled(self, x):
        if self.steps == 6:
            signal.raise_signal(number)
        return step(self, x)

    monkeypatch.setattr(Stepper, "step", signalled)
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="stopped at step 7; continue with") as stopped:
        train(SMALL, tmp_path, show=False)
    assert stopped.value.signal == number
    assert signal.getsignal(number) is before
    monkeypatch.setattr(Stepper, "step", step)
    steps = []
    monkeypatch.setattr(Stepper, "step", lambda self, x: steps.append(0) or step(self, x))
    run = train(SMALL, tmp_path, resume=True, show=False)
    assert len(steps) == 12 - 7
    assert outcome(run) == undisturbed("plain")


def test_a_second_ctrl_c_stops_immediately(tmp_path, monkeypatch):
    def signalled(self, x):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Stepper, "step", signalled)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
    try:
        with pytest.raises(KeyboardInterrupt):
            train(SMALL, tmp_path, show=False)
    finally:
        signal.signal(signal.SIGINT, before)


def train_and_kill(folder: Path, options: Options, signals: list[int]) -> int:
    """Train while the process is killed by the signals, each at a random moment, and resumed.

    Most signals come between the next two evaluations, so that the run makes progress; one in five
    comes soon after the start.

    Returns:
        The number of signals that interrupted the training.
    """
    run, hits, chance = Run(folder / "run"), 0, random.Random(0)
    whole = train(options, folder / "whole", show=False)
    interval = whole.metrics()[-1]["seconds"] * options.evaluate_every / options.steps
    for number in [*signals, None]:
        where = ["--resume", run.path] if run.exists else ["--out", run.path, *flags(options)]
        process, lines = start("train", *where, folder=folder), len(run.metrics())
        if number is not None:
            wait_until = time.monotonic() + chance.choice((0, 60, 60, 60, 60))
            while len(run.metrics()) == lines and time.monotonic() < wait_until:
                time.sleep(0.005)
            time.sleep(chance.uniform(0, interval))
            process.kill(number)
        status = process.wait()
        stopped = number is not None and status in (-number, 128 + number)
        assert stopped or status == 0, process.err
        hits += stopped
        if status == 0:
            break
    assert outcome(run) == outcome(whole)
    return hits


@needs_fork
def test_three_real_kills_change_no_bit(tmp_path):
    options = replace(SMALL, steps=150, evaluate_every=10, ema=0.9)
    signals = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
    assert train_and_kill(tmp_path, options, signals) == 3


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["ema"])  # a minute or two each; the law holds for all
def test_twenty_real_kills_change_no_bit(variant, tmp_path):
    options = replace(VARIANTS[variant], steps=2000, evaluate_every=40)
    if options.patience is not None:
        options = replace(options, patience=40)
    signals = [signal.SIGKILL] * 14 + [signal.SIGTERM, signal.SIGINT] * 3
    random.Random(variant).shuffle(signals)
    assert train_and_kill(tmp_path, options, signals) == 20


@pytest.mark.parametrize("steps", [12, 20])
def test_a_run_of_a_version_with_fewer_options_resumes(tmp_path, monkeypatch, steps):
    def older(*arguments):
        about = description(*arguments)
        del about["options"]["sigmoid"]
        return about

    longer = replace(SMALL, steps=steps)
    expected = outcome(train(longer, tmp_path / "new", show=False))
    description = training_command._description
    with monkeypatch.context() as patch:
        patch.setattr(training_command, "_description", older)
        patch.setattr(Stepper, "step", crashing(Stepper.step, 8))
        with pytest.raises(Crash):
            train(SMALL, tmp_path / "old", show=False)
    run = train(longer, tmp_path / "old", resume=True, show=False)
    assert "sigmoid" not in run.options
    assert outcome(run)[0] == expected[0]
    with pytest.raises(InputError, match="sigmoid was False and is now True"):
        train(replace(longer, sigmoid=True), tmp_path / "old", resume=True, show=False)
