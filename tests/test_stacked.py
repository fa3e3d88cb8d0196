"""A sweep leaves of every member what its training alone would have left."""

import json
import math
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from launcher import flags, needs_fork, start
from small import SMALL, content, load, outcome

from lorae import cli, members, stacked
from lorae.autoencoder import Autoencoder
from lorae.errors import Diverged, InputError, Interrupted
from lorae.members import Member
from lorae.options import Options
from lorae.runs import Run
from lorae.stacked import grid, members_of, train_together
from lorae.stacking import Stack
from lorae.training import train

pytest_plugins = ["commands"]


@pytest.fixture(autouse=True)
def data_kept(monkeypatch):
    monkeypatch.setattr(Options, "load", load)


ALIKE = {
    "lorae": (SMALL, (1e-3, 1e-2)),
    "ae-double-ema-clip": (
        replace(SMALL, model="ae", precision="64-true", ema=0.8, clip_norm=0.05),
        (),
    ),
    "scale-free-warmup": (replace(SMALL, model="lorae-scale-free", warmup=10), (1e-2, 0.1)),
    "proximal-decay-validation": (
        replace(SMALL, model="lorae-proximal", weight_decay=1e-2, validation=0.2),
        (1.0, 10.0),
    ),
    "vae": (replace(SMALL, model="vae"), (0.1, 1.0)),
    "rae-mixed": (replace(SMALL, model="rae-l2", precision="bf16-mixed"), ()),
}


@pytest.mark.parametrize(
    ("case", "at_once"), [(c, True) for c in ALIKE] + [("lorae", False), ("vae", False)]
)
def test_a_member_is_what_its_training_alone_leaves(case, at_once, tmp_path, monkeypatch):
    monkeypatch.setattr("lorae.stacking.pays", lambda *_: at_once)
    options, weights = ALIKE[case]
    members = grid(options, (3, 4), weights)
    runs = train_together(members, tmp_path / "stack", show=False)
    assert [run.name for run in runs] == list(members)
    for run, given in zip(runs, members.values(), strict=True):
        one = train(given, tmp_path / "alone" / run.name, show=False)
        assert run.options == one.options
        assert run.about == one.about
        # Roundings of float32, which Adam enlarges where a gradient is all but 0 (in double
        # precision, only losses are rounded to it); bfloat16's are 2^-9, and 12 steps add up.
        exact = {"64-true": 1e-7, "bf16-mixed": 0.05}.get(options.precision, 1e-4)
        assert_close(run.metrics(), one.metrics(), exact)
        x = torch.rand(9, 1, 8, 8)
        codes, expected = (r.model().float().encode(x).detach() for r in (run, one))
        # A bias before standardisation has no gradient but rounding: where codes lie is not told.
        codes, expected = codes - codes.mean(0), expected - expected.mean(0)
        assert (codes - expected).norm() <= max(10 * exact, 1e-5) * expected.norm()


def assert_close(found, expected, share: float) -> None:
    """Compare two values that JSON can hold, but for the clock; counts may differ by one."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected.keys() - {"seconds"}:
            assert_close(found[key], expected[key], share)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        top = max((v for v in expected if isinstance(v, float)), default=0.0)
        for one, other in zip(found, expected, strict=True):
            if isinstance(other, float):  # of a spectrum, relative to its largest value
                assert abs(one - other) <= share * top
            else:
                assert_close(one, other, share)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=share)
    elif isinstance(expected, int) and not isinstance(expected, bool):
        assert abs(found - expected) <= (share > 1e-3)
    else:
        assert found == expected


SWEEP = grid(replace(SMALL, model="vae", ema=0.9), (0, 1), (0.5, 1.0))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return what the sweep ends with where nothing stops it."""
    return [outcome(run) for run in train_together(SWEEP, tmp_path_factory.mktemp("s"), show=False)]


class Crash(BaseException):
    """What nothing catches, like the end of the process."""


def stopping(method, call: int, error: BaseException | None):
    """Return a method that raises at its call of that number, or sends itself a signal."""
    calls = iter(range(1, 10**6))

    def stops(*arguments, **named):
        if next(calls) == call:
            if error is not None:
                raise error
            signal.raise_signal(signal.SIGTERM)
        return method(*arguments, **named)

    return stops


@pytest.mark.parametrize(
    ("owner", "name", "calls"),
    [
        (Stack, "backward", (2, 6, 3, 7)),  # before the first checkpoint, after it, ...
        (members, "save_checkpoint", (1, 4, 6, 11)),  # of four members
        (Member, "commit", (1, 2, 3, 4, 6)),
        (Run, "append_metrics", (2, 7, 14)),
        (Run, "claim", (3,)),
        (Autoencoder, "save", (2,)),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_sweep_crashed_anywhere_ends_as_if_it_had_not_been(
    owner, name, calls, undisturbed, tmp_path, monkeypatch
):
    out = tmp_path / "sweep"
    for call in calls:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, stopping(getattr(owner, name), call, Crash()))
            try:
                train_together(SWEEP, out, resume=out.exists(), show=False)
            except Crash:
                continue
    runs = train_together(members_of(out), out, resume=True, show=False)
    assert [outcome(run) for run in runs] == undisturbed
    before = content(out)
    train_together(SWEEP, out, resume=True, show=False)  # nothing is left to be done
    assert content(out) == before


def test_a_signal_saves_the_state_and_says_how_to_go_on(undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Stack, "backward", stopping(Stack.backward, 7, None))
        with pytest.raises(Interrupted, match=f"stopped at step 7; .*sweep --resume {tmp_path}"):
            train_together(SWEEP, tmp_path, show=False)
    steps = []
    real = Stack.backward
    monkeypatch.setattr(Stack, "backward", lambda self, x: steps.append(0) or real(self, x))
    runs = train_together(SWEEP, tmp_path, resume=True, show=False)
    assert len(steps) == SMALL.steps - 7
    assert [outcome(run) for run in runs] == undisturbed


@needs_fork
@pytest.mark.slow
def test_real_kills_change_no_bit(tmp_path):
    options = replace(SMALL, steps=150, evaluate_every=10)
    whole = train_together(grid(options, (0, 1)), tmp_path / "whole", show=False)
    out, hits = tmp_path / "sweep", 0
    for number in (signal.SIGKILL, signal.SIGTERM, None):
        where = ["--resume", out] if out.exists() else ["--out", out, *flags(options)]
        seeds = [] if out.exists() else ["--seeds", "0", "1"]
        process = start("sweep", *where, *seeds, folder=tmp_path)
        run = Run(out / "seed-1")
        lines = len(run.metrics())
        if number is not None:
            patience = time.monotonic() + 60
            while len(run.metrics()) < lines + 2 and time.monotonic() < patience:
                time.sleep(0.005)
            process.kill(number)
        status = process.wait()
        hits += status in (-9, 128 + signal.SIGTERM)
    assert (status, hits) == (0, 2)
    assert [outcome(Run(out / run.name)) for run in whole] == [outcome(run) for run in whole]


def test_a_member_that_diverges_leaves_the_others_whole(tmp_path):
    options = replace(SMALL, model="lorae")
    good = grid(options, (0, 1), (1e-3,))
    bad = {"bad": replace(options, weight=3e38)}
    with pytest.raises(Diverged, match=r"loss of bad .* at step 1 .*2 of 3 members are whole"):
        train_together(good | bad, tmp_path, show=False)
    runs = [Run(tmp_path / name) for name in (*good, "bad")]
    assert [run.finished for run in runs] == [True, True, False]
    assert runs[2].metrics() == []
    before = content(tmp_path)
    with pytest.raises(Diverged, match=r"loss of bad .* at step 1 "):
        train_together(good | bad, tmp_path, resume=True, show=False)
    assert content(tmp_path) == before
    with pytest.raises(Diverged, match="0 of 1 members are whole"):
        train_together(bad, tmp_path / "alone", show=False)


def test_members_with_data_of_their_own_have_them(tmp_path):
    runs = train_together(grid(SMALL, (0, 1)), tmp_path, show=False)
    assert runs[0].about["data"]["checksum"] != runs[1].about["data"]["checksum"]
    assert math.isfinite(cli.evaluate(runs[1].model(), cli.data_of(runs[1]).test).reconstruction)


def test_the_same_data_are_kept_once():
    options = [replace(SMALL, seed=0), replace(SMALL, seed=1), replace(SMALL, seed=0, weight=1.0)]
    assert len({id(data) for data in stacked._loaded(options).values()}) == 2


BAD = {
    "none": ({}, "at least one member"),
    "name": ({"a/b": SMALL}, "name must be that of a folder, got 'a/b'"),
    "hidden": ({".stack": SMALL}, "name must be that of a folder, got '.stack'"),
    "width": ({"a": SMALL, "b": replace(SMALL, width=0.2)}, "width is 0.1 in a and 0.2 in b"),
    "model": ({"a": SMALL, "b": replace(SMALL, model="ae")}, "model is lorae in a and ae in b"),
    "rrae": ({"a": replace(SMALL, model="rrae")}, "rrae cannot be stacked .*one by one"),
    "patience": (
        {"a": replace(SMALL, validation=0.1, patience=3)},
        "patience must not be given, got 3",
    ),
    "weight": ({"a": replace(SMALL, model="ae", weight=1.0)}, "weight is not an option of AE"),
    "batch": (
        {"a": replace(SMALL, model="wae", batch_size=1)},
        "batch_size must be at least 2 for wae",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_stacked_is_refused_and_writes_nothing(case, tmp_path):
    members, message = BAD[case]
    with pytest.raises(InputError, match=message):
        train_together(members, tmp_path / "out", show=False)
    assert not (tmp_path / "out").exists()


def test_data_of_another_range_are_refused():
    datas = {0: load(SMALL), 1: replace(load(SMALL), value_range=None)}
    members = {str(s): replace(SMALL, seed=s).resolved(datas[s]) for s in (0, 1)}
    with pytest.raises(InputError, match="must have one architecture"):
        stacked._check_alike(members, datas)


class TestFolders:
    def test_a_folder_with_something_in_it_is_left_alone(self, tmp_path):
        (tmp_path / "a.txt").write_text("mine")
        with pytest.raises(InputError, match="out must be a new or empty folder"):
            train_together(grid(SMALL), tmp_path, show=False)
        assert content(tmp_path) == {str(tmp_path / "a.txt"): b"mine"}

    def test_a_sweep_is_resumed_with_its_own_members_only(self, tmp_path):
        train_together(grid(replace(SMALL, steps=1), (0,)), tmp_path, show=False)
        with pytest.raises(InputError, match="has other members: seed-0"):
            train_together(grid(SMALL, (0, 1)), tmp_path, resume=True, show=False)
        with pytest.raises(InputError, match="steps was 1 and is now 12"):
            train_together(grid(SMALL, (0,)), tmp_path, resume=True, show=False)

    def test_what_is_no_sweep_is_not_resumed(self, tmp_path):
        with pytest.raises(InputError, match="there is no sweep at"):
            train_together(grid(SMALL), tmp_path, resume=True, show=False)

    def test_a_member_can_be_trained_alone_where_the_sweep_was_stopped(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Stack, "backward", stopping(Stack.backward, 7, Crash()))
        with pytest.raises(Crash):
            train_together(grid(SMALL, (0, 1)), tmp_path, show=False)
        run = train(Options.from_dict(Run(tmp_path / "seed-0").options), tmp_path / "seed-0",
                    resume=True, show=False)  # fmt: skip
        before = content(run.path)
        assert run.finished
        assert [r.finished for r in train_together(grid(SMALL, (0, 1)), tmp_path, resume=True,
                                                   show=False)] == [True, True]  # fmt: skip
        assert content(run.path) == before


class TestCommand:
    def test_answers_with_every_run(self, lorae, tmp_path):
        small = [*flags(replace(SMALL, steps=2)), "--seeds", "0", "1", "--weights", "0.01"]
        status, out, err = lorae("sweep", *small, "--out", tmp_path / "s")
        assert status == 0, err
        assert "weight-0.01-seed-0 " in out
        assert "next: lorae report" in out
        assert "step 2/2, error" in err
        assert " to " in err
        status, out, _ = lorae("report", *sorted((tmp_path / "s").iterdir())[1:])
        assert status == 0
        status, out, _ = lorae("sweep", "--resume", tmp_path / "s", "--json")
        rows = json.loads(out)
        assert [Path(row["run"]).name for row in rows] == [
            "weight-0.01-seed-0", "weight-0.01-seed-1"]  # fmt: skip
        assert all(len(row["covariance"]) == SMALL.latent for row in rows)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--seeds", "1", "1"], "name each seed and weight once, got seed-1 twice"),
            (["--model", "gan", "--weights", "1"], "weight is not an option of GAN"),
            (["--model", "vae-flow"], "vae-flow cannot be stacked"),
            (["--seeds", "-1"], "seed must be .* got -1"),
            (["--resume", "nowhere"], "there is no sweep at 'nowhere'"),
            (["--resume", "nowhere", "--seeds", "1"], "resumed with its own options"),
        ],
    )
    def test_refuses_in_one_sentence(self, arguments, message, lorae):
        given = [] if "--resume" in arguments else ["--data", "digits"]
        status, out, err = lorae("sweep", *given, *arguments)
        assert (status, out) == (2, "")
        assert err.startswith("lorae: ")
        assert err.count("\n") == 1
        assert re.search(message, err), err
