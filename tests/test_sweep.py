"""Sweeps: nothing measured twice, nothing lost, nothing shared that should not be."""

import dataclasses
import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import counting
import numpy as np
import pytest
import torch
from filelock import FileLock
from launcher import needs_fork, start
from small import SMALL, load

from lorae import stacked, stacking
from lorae import sweep as sweeping
from lorae.options import Options
from lorae.runs import Run
from lorae.sweep import Cell, Sweep, distinct

TRAINING = replace(SMALL, steps=4, evaluate_every=2)


@pytest.fixture(autouse=True)
def data_kept(monkeypatch):
    monkeypatch.setattr(Options, "load", load)
    monkeypatch.setattr(sweeping, "_loaded", load)


@pytest.fixture
def trace(tmp_path) -> Path:
    path = tmp_path / "trace"
    path.touch()
    return path


def lines(path: Path) -> list[str]:
    return path.read_text().split()


def test_a_cell_is_measured_once(tmp_path, trace):
    cells = [Cell(counting.traced, {"trace": str(trace), "value": k}) for k in range(3)]
    sweep = Sweep(tmp_path / "sweep")
    assert sweep.work(cells) == {}
    assert Sweep(tmp_path / "sweep").work(cells) == {}
    assert lines(trace) == ["0", "1", "2"]
    assert [sweep.result(cell)["value"] for cell in cells] == [0, 1, 2]
    assert sweep.done(cells) == 3


def test_a_record_tells_what_when_and_where(tmp_path, trace):
    cell = Cell(counting.traced, {"trace": str(trace)}, TRAINING)
    sweep = Sweep(tmp_path / "sweep")
    sweep.work([cell])
    record = sweep.record(cell)
    assert record["cell"]["training"]["model"] == "lorae"
    assert record["cell"]["measure"] == "counting.traced"
    assert record["data"] == load(TRAINING).checksum
    assert {"seconds", "commit", "environment"} <= set(record)
    json.dumps(record)


def test_cells_of_one_training_share_its_run(tmp_path, trace):
    cells = [Cell(counting.traced, {"trace": str(trace), "value": k}, TRAINING) for k in range(2)]
    other = Cell(counting.traced, {"trace": str(trace)}, replace(TRAINING, seed=1))
    sweep = Sweep(tmp_path / "sweep")
    sweep.work([*cells, other])
    runs = [sweep.result(cell)["run"] for cell in (*cells, other)]
    assert runs[0] == runs[1] != runs[2]
    assert len(list((sweep.folder / "trainings").iterdir())) == 2


CHANGES = {
    "settings": {"settings": {"trace": "b"}},
    "weight": {"options": replace(TRAINING, weight=0.5)},
    "seed": {"options": replace(TRAINING, seed=7)},
    "settings of the model": {"options": replace(TRAINING, settings={"depth": 3})},
    "no training": {"options": None},
    "measure": {"measure": counting.diverging},
}


@pytest.mark.parametrize("changed", CHANGES.values(), ids=CHANGES)
def test_whatever_changes_a_result_changes_its_key(changed):
    cell = Cell(counting.traced, {"trace": "a"}, TRAINING)
    assert replace(cell, **changed).key != cell.key


def test_the_version_of_the_package_is_part_of_the_key(monkeypatch):
    before = Cell(counting.traced).key
    monkeypatch.setattr("lorae.__version__", "9.9")
    assert Cell(counting.traced).key != before


def test_where_it_is_trained_is_not_part_of_the_key():
    cell = Cell(counting.traced, {}, TRAINING)
    assert replace(cell, options=replace(TRAINING, device="cpu")).key == cell.key


def test_a_diverged_training_is_a_result(tmp_path, trace):
    cell = Cell(counting.diverging, {"trace": str(trace)})
    sweep = Sweep(tmp_path / "sweep")
    sweep.work([cell])
    sweep.work([cell])
    assert sweep.result(cell) == {"failed": "the loss is no longer finite"}
    assert lines(trace) == ["1"]


def test_data_that_cannot_be_had_leave_their_cells_out(tmp_path, trace):
    gone = replace(TRAINING, data="gone.npy")
    cells = [Cell(counting.traced, {"trace": str(trace)}, one) for one in (gone, TRAINING)]
    sweep = Sweep(tmp_path / "sweep")
    missing = sweep.work(cells)
    assert list(missing) == ["gone.npy"]
    assert "gone.npy" in missing["gone.npy"]
    assert sweep.done(cells) == 1


def test_results_of_data_that_have_changed_are_measured_again(tmp_path, trace, monkeypatch):
    monkeypatch.undo()
    path = tmp_path / "table.npy"
    cell = Cell(
        counting.traced,
        {"trace": str(trace)},
        Options(data=str(path), steps=2, batch_size=10, latent=2, width=0.1),
    )
    sweep = Sweep(tmp_path / "sweep")
    for seed in (0, 0, 1):
        np.save(path, np.random.default_rng(seed).normal(size=(60, 5)).astype("float32"))
        sweeping._loaded.cache_clear()
        sweep.work([cell])
    assert lines(trace) == ["1", "1"]
    assert len(list((sweep.folder / "trainings").iterdir())) == 2


def test_an_error_of_the_program_is_not_a_result(tmp_path):
    cell = Cell(counting.traced, {"no such argument": 1})
    with pytest.raises(TypeError):
        Sweep(tmp_path).work([cell])
    assert Sweep(tmp_path).result(cell) is None


def test_distinct_keeps_the_order():
    a, b = (Cell(counting.traced, {"trace": name}) for name in "ab")
    assert list(distinct([b, a, dataclasses.replace(b)])) == [b, a]


SIX = [replace(TRAINING, seed=seed, weight=w) for seed in (0, 1, 2) for w in (1e-3, 1e-2)]


@pytest.fixture
def stacks(monkeypatch) -> list[int]:
    """Let stacks pay always; return a list that each adds its number of members to."""
    monkeypatch.setattr(stacking, "pays", lambda *_: True)
    sizes, real = [], stacked.train_alike

    def noting(trainings):
        sizes.append(len(trainings))
        return real(trainings)

    monkeypatch.setattr(stacked, "train_alike", noting)
    return sizes


def measured(folder: Path, trace: Path, trainings=SIX, **how) -> tuple[Sweep, list[Cell]]:
    """Work on two cells of each training."""
    cells = [
        Cell(counting.traced, {"trace": str(trace), "value": k}, options)
        for k in range(2)
        for options in trainings
    ]
    sweep = Sweep(folder, **how)
    assert sweep.work(cells) == {}
    assert sweep.done(cells) == len(cells)
    return sweep, cells


def assert_same_trainings(found: Path, expected: Path) -> None:
    """Compare the folders of two sweeps: to the rounding of a few steps, else by bits."""
    names = sorted(path.name for path in (expected / "trainings").iterdir())
    assert sorted(path.name for path in (found / "trainings").iterdir()) == names
    x = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for name in names:
        one, other = (Run(folder / "trainings" / name) for folder in (found, expected))
        assert one.finished
        assert one.about == other.about
        assert {str(path.relative_to(one.path)) for path in one.path.rglob("*")} == {
            str(path.relative_to(other.path)) for path in other.path.rglob("*")
        }
        errors, told = (
            [(line["step"], line["test"]["reconstruction"]) for line in run.metrics()]
            for run in (one, other)
        )
        assert [step for step, _ in errors] == [step for step, _ in told]
        assert [e for _, e in errors] == pytest.approx([e for _, e in told], rel=1e-4)
        z, expected_z = (run.model().float().encode(x).detach() for run in (one, other))
        z, expected_z = z - z.mean(0), expected_z - expected_z.mean(0)
        assert (z - expected_z).norm() <= 1e-3 * expected_z.norm()


def test_a_stack_leaves_what_single_trainings_leave(tmp_path, trace, stacks):
    measured(tmp_path / "alone", trace, together=1)
    assert stacks == []
    sweep, cells = measured(tmp_path / "stack", trace)
    assert stacks == [6]
    assert_same_trainings(tmp_path / "stack", tmp_path / "alone")
    assert all(sweep.record(cell)["seconds"] > 0 for cell in cells[:6])
    measured(tmp_path / "stack", trace)
    assert stacks == [6]


def test_a_stack_has_so_many_members_at_most(tmp_path, trace, stacks):
    measured(tmp_path / "sweep", trace, SIX[:5], together=2)
    assert stacks == [2, 2]


def test_only_what_is_alike_is_stacked(tmp_path, trace, stacks):
    unlike = [
        replace(SIX[0], width=0.2),
        replace(SIX[0], model="rrae", weight=None),
        replace(SIX[0], validation=0.1, patience=3),
    ]
    measured(tmp_path / "sweep", trace, [*unlike, *SIX[:2]])
    assert stacks == [2]


def test_where_a_stack_does_not_pay_there_is_none(tmp_path, trace, stacks, monkeypatch):
    monkeypatch.setattr(stacking, "pays", lambda *_: False)
    measured(tmp_path / "sweep", trace, SIX[:2])
    assert stacks == []


def test_what_another_worker_holds_is_left_to_it(tmp_path, trace, stacks):
    """Its lock is never waited for while others are held."""
    cells = [Cell(counting.traced, {"trace": str(trace)}, options) for options in SIX[:4]]
    sweep = Sweep(tmp_path / "sweep")
    (sweep.folder / "locks").mkdir(parents=True)
    other = FileLock(sweep.folder / "locks" / f"{cells[1].job}.lock")
    other.acquire()
    done = []

    def watched(cell, _):
        done.append(cell.options)
        if len(done) == 3:
            other.release()

    assert sweep.work(cells, watched) == {}
    assert stacks == [3]
    assert done == [SIX[0], SIX[2], SIX[3], SIX[1]]


def test_a_member_that_diverges_fails_and_the_others_are_whole(tmp_path, trace, stacks):
    bad = replace(TRAINING, weight=3e38)
    trainings = [SIX[0], bad, SIX[1]]
    cells = [Cell(counting.traced, {"trace": str(trace)}, options) for options in trainings]
    results = []
    for folder, together in (("stack", 8), ("alone", 1)):
        sweep = Sweep(tmp_path / folder, together)
        assert sweep.work(cells) == {}
        results.append([sweep.result(cell) for cell in cells])
    assert stacks == [3]
    assert results[0] == results[1]
    assert "the loss is no longer finite at step 1" in results[0][1]["failed"]
    assert lines(trace) == ["1"] * 4


def test_a_stack_that_finds_no_room_is_trained_one_by_one(tmp_path, trace, stacks, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patch:
        patch.setattr(stacking.Stack, "backward", full)
        measured(tmp_path / "full", trace, SIX[:2])
    measured(tmp_path / "alone", trace, SIX[:2], together=1)
    assert stacks == [2]
    assert_same_trainings(tmp_path / "full", tmp_path / "alone")


STACK = """
import sys
sys.path.insert(0, {tests!r})
import counting, small
from dataclasses import replace
from pathlib import Path
from lorae.sweep import Cell, Sweep
given = replace(small.SMALL, steps=120, evaluate_every=10, precision="64-true")
trainings = [replace(given, seed=k, weight=w) for k in (0, 1, 2) for w in (1e-3, 1e-2)]
cells = [Cell(counting.traced, {{"trace": {trace!r}, "value": k}}, o)
         for k, o in enumerate(trainings)]
Sweep(Path({folder!r}), {together}).work(cells)
"""


def stacking_worker(folder: Path, trace: Path, together: int):
    tests = str(Path(__file__).parent)
    code = STACK.format(tests=tests, trace=str(trace), folder=str(folder), together=together)
    return start(folder=trace.parent, code=code)


def written(folder: Path) -> int:
    """Return the number of lines of metrics in a sweep."""
    return sum(len(Run(path).metrics()) for path in folder.glob("trainings/*"))


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "trace").touch()
    assert stacking_worker(folder / "alone", folder / "trace", 1).wait() == 0
    return folder / "alone"


@needs_fork
@pytest.mark.slow
def test_a_stack_killed_at_any_moment_goes_on(tmp_path, trace, one_by_one):
    folder, hits = tmp_path / "sweep", 0
    for lines_before in (7, 20, 33, 60, None):  # in the midst of a line for each, after all, ...
        child = stacking_worker(folder, trace, 6)
        begun = written(folder)
        patience = time.monotonic() + 60
        while lines_before is not None and time.monotonic() < patience:
            if written(folder) >= max(lines_before, begun + 1):
                child.kill(signal.SIGKILL)
                break
            time.sleep(0.002)
        hits += child.wait() == -signal.SIGKILL
        assert len(list(folder.glob("trainings/*/metrics.jsonl"))) == 6  # all at once, not in turn
    assert hits == 4
    assert lines(trace) == [str(k) for k in range(6)]
    for path in folder.glob("trainings/*/checkpoint/.*"):
        path.unlink()  # the part of a file that a kill cut off
    assert_same_trainings(folder, one_by_one)


@needs_fork
@pytest.mark.slow
def test_two_workers_divide_what_is_alike(tmp_path, trace, one_by_one):
    both = [stacking_worker(tmp_path / "sweep", trace, 3) for _ in range(2)]
    assert [child.wait() for child in both] == [0, 0]
    assert sorted(lines(trace)) == [str(k) for k in range(6)]
    assert_same_trainings(tmp_path / "sweep", one_by_one)


WORK = """
import sys
sys.path.insert(0, {tests!r})
import counting
from pathlib import Path
from lorae.sweep import Cell, Sweep
settings = {{"trace": {trace!r}, "seconds": 0.15}}
cells = [Cell(counting.traced, settings | {{"value": k}}) for k in range(8)]
Sweep(Path({folder!r})).work(cells)
"""


def working(tmp_path: Path, trace: Path):
    code = WORK.format(
        tests=str(Path(__file__).parent), trace=str(trace), folder=str(tmp_path / "sweep")
    )
    return start(folder=tmp_path, code=code)


def cells_in(folder: Path) -> dict[str, dict]:
    return {path.name: json.loads(path.read_text()) for path in (folder / "cells").glob("*.json")}


@needs_fork
@pytest.mark.slow
def test_a_killed_sweep_repeats_no_finished_cell(tmp_path, trace):
    child = working(tmp_path, trace)
    while len(lines(trace)) < 3:
        time.sleep(0.01)
    child.kill(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    before = cells_in(tmp_path / "sweep")
    assert 2 <= len(before) < 8
    assert working(tmp_path, trace).wait() == 0
    after = cells_in(tmp_path / "sweep")
    assert {name: after[name] for name in before} == before
    assert sorted(record["result"]["value"] for record in after.values()) == list(range(8))
    counts = [lines(trace).count(str(k)) for k in range(8)]
    assert max(counts) <= 2  # the one cell that the kill cut off
    assert sum(counts) <= 9


@needs_fork
@pytest.mark.slow
def test_two_sweeps_in_one_folder_divide_the_work(tmp_path, trace):
    both = [working(tmp_path, trace) for _ in range(2)]
    assert [child.wait() for child in both] == [0, 0]
    assert sorted(lines(trace)) == [str(k) for k in range(8)]
    assert len(cells_in(tmp_path / "sweep")) == 8
