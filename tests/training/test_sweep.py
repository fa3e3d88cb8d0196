"""Sweeps: each run ends as it would by itself."""

import dataclasses
import pickle
import signal

import pytest
from small import SMALL, outcome

from lorae.errors import Diverged, InputError, Interrupted
from lorae.training import sweep
from lorae.training.run_folder import Run
from lorae.training.sweep import grid, read_sweep, train_sweep
from lorae.training.train import train

pytestmark = pytest.mark.usefixtures("cached_data")
QUICK = dataclasses.replace(SMALL, steps=4, evaluate_every=2)


def test_every_weight_is_trained_with_every_seed():
    members = grid(QUICK, seeds=(0, 3), weights=(0.1, 0.2))
    assert [(one.seed, one.weight) for one in members.values()] == [
        (0, 0.1), (3, 0.1), (0, 0.2), (3, 0.2)
    ]  # fmt: skip
    with pytest.raises(InputError, match="must be distinct, got seed-1 twice"):
        grid(QUICK, seeds=(1, 1))
    with pytest.raises(InputError, match=r"seed must be .*got -1"):
        grid(QUICK, seeds=(-1,))


def test_runs_end_as_they_would_by_themselves(tmp_path):
    runs = train_sweep(grid(QUICK, seeds=(0, 1)), tmp_path / "sweep", processes=1, show=False)
    for seed, run in enumerate(runs):
        alone = train(dataclasses.replace(QUICK, seed=seed), tmp_path / str(seed), show=False)
        assert outcome(run) == outcome(alone)


@pytest.mark.slow
def test_processes_do_not_change_the_result(tmp_path):
    members = grid(QUICK, seeds=(0, 1, 2))
    one, two = (
        train_sweep(members, tmp_path / str(count), processes=count, show=False) for count in (1, 2)
    )
    assert [outcome(run) for run in one] == [outcome(run) for run in two]


def test_a_stopped_sweep_is_resumed(tmp_path, monkeypatch):
    members, out = grid(QUICK, seeds=(0, 1)), tmp_path / "sweep"

    def interrupted(options, path, **settings):
        if options.seed == 1:
            raise Interrupted(1, signal.SIGINT, "lorae train --resume")
        return train(options, path, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(sweep, "train", interrupted)
        with pytest.raises(Interrupted, match=f"step 1; .*lorae sweep --resume {out}"):
            train_sweep(members, out, processes=1, show=False)
    assert read_sweep(out) == members
    assert Run(out / "seed-0").finished
    runs = train_sweep(read_sweep(out), out, resume=True, processes=1, show=False)
    assert [run.finished for run in runs] == [True, True]


def test_a_run_that_diverges_does_not_stop_the_others(tmp_path, monkeypatch):
    def diverging(options, path, **settings):
        if options.seed == 0:
            raise Diverged("the loss is nan")
        return train(options, path, **settings)

    monkeypatch.setattr(sweep, "train", diverging)
    with pytest.raises(Diverged, match="seed-0: the loss is nan; 1 of 2 runs have ended"):
        train_sweep(grid(QUICK, seeds=(0, 1)), tmp_path / "sweep", processes=1, show=False)
    assert Run(tmp_path / "sweep" / "seed-1").finished


def test_an_interruption_passes_between_processes():
    stop = pickle.loads(pickle.dumps(Interrupted(3, 2, "lorae train")))
    assert (stop.step, stop.signal) == (3, 2)
    assert str(stop) == "stopped at step 3; continue with: lorae train"
