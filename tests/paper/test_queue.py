"""The work queue: nothing is measured twice or lost, and no two cells share a key."""

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
from launcher import needs_fork, start
from small import SMALL, load

from lorae.errors import InputError
from lorae.paper import queue as queue_module
from lorae.paper.queue import Cell, Queue, unique
from lorae.training.loop import Stepper
from lorae.training.options import Options

TRAINING = replace(SMALL, steps=4, evaluate_every=2)


@pytest.fixture(autouse=True)
def cached_data(monkeypatch):
    monkeypatch.setattr(Options, "load", load)
    monkeypatch.setattr(queue_module, "_loaded", load)


@pytest.fixture
def trace(tmp_path) -> Path:
    path = tmp_path / "trace"
    path.touch()
    return path


def lines(path: Path) -> list[str]:
    return path.read_text().split()


def test_a_cell_is_measured_once(tmp_path, trace):
    cells = [Cell(counting.traced, {"trace": str(trace), "value": k}) for k in range(3)]
    queue = Queue(tmp_path / "sweep")
    assert queue.work(cells) == {}
    assert Queue(tmp_path / "sweep").work(cells) == {}
    assert lines(trace) == ["0", "1", "2"]
    assert [queue.result(cell)["value"] for cell in cells] == [0, 1, 2]
    assert queue.done(cells) == 3


def test_a_record_holds_definition_cost_and_origin(tmp_path, trace):
    cell = Cell(counting.traced, {"trace": str(trace)}, TRAINING)
    queue = Queue(tmp_path / "sweep")
    queue.work([cell])
    record = queue.record(cell)
    assert record["cell"]["training"]["model"] == "lorae"
    assert record["cell"]["measure"] == "traced"
    assert record["data"] == load(TRAINING).checksum
    assert {"seconds", "commit", "environment"} <= set(record)
    json.dumps(record)


def test_cells_of_one_training_share_its_run(tmp_path, trace):
    cells = [Cell(counting.traced, {"trace": str(trace), "value": k}, TRAINING) for k in range(2)]
    other = Cell(counting.traced, {"trace": str(trace)}, replace(TRAINING, seed=1))
    queue = Queue(tmp_path / "sweep")
    queue.work([*cells, other])
    runs = [queue.result(cell)["run"] for cell in (*cells, other)]
    assert runs[0] == runs[1] != runs[2]
    assert len(list((queue.folder / "trainings").iterdir())) == 2


CHANGES = {
    "settings": {"settings": {"trace": "b"}},
    "weight": {"options": replace(TRAINING, weight=0.5)},
    "seed": {"options": replace(TRAINING, seed=7)},
    "settings of the model": {"options": replace(TRAINING, settings={"depth": 3})},
    "no training": {"options": None},
    "measure": {"measure": counting.diverging},
}


@pytest.mark.parametrize("changed", CHANGES.values(), ids=CHANGES)
def test_everything_that_changes_a_result_changes_its_key(changed):
    cell = Cell(counting.traced, {"trace": "a"}, TRAINING)
    assert replace(cell, **changed).key != cell.key


def test_the_version_of_the_package_is_part_of_the_key(monkeypatch):
    before = Cell(counting.traced).key
    monkeypatch.setattr("lorae.__version__", "9.9")
    assert Cell(counting.traced).key != before


def test_the_device_is_not_part_of_the_key():
    cell = Cell(counting.traced, {}, TRAINING)
    assert replace(cell, options=replace(TRAINING, device="cpu")).key == cell.key


def test_a_diverged_training_is_a_result(tmp_path, trace):
    cell = Cell(counting.diverging, {"trace": str(trace)})
    queue = Queue(tmp_path / "sweep")
    queue.work([cell])
    queue.work([cell])
    assert queue.result(cell) == {"failed": "the loss is no longer finite"}
    assert lines(trace) == ["1"]


def test_cells_of_missing_data_are_left_out(tmp_path, trace):
    gone = replace(TRAINING, data="gone.npy")
    cells = [Cell(counting.traced, {"trace": str(trace)}, one) for one in (gone, TRAINING)]
    queue = Queue(tmp_path / "sweep")
    missing = queue.work(cells)
    assert list(missing) == ["gone.npy"]
    assert "gone.npy" in missing["gone.npy"]
    assert queue.done(cells) == 1


def test_results_of_data_that_have_changed_are_measured_again(tmp_path, trace, monkeypatch):
    monkeypatch.undo()
    path = tmp_path / "table.npy"
    cell = Cell(
        counting.traced,
        {"trace": str(trace)},
        Options(data=str(path), steps=2, batch_size=10, latent=2, width=0.1),
    )
    queue = Queue(tmp_path / "sweep")
    for seed in (0, 0, 1):
        np.save(path, np.random.default_rng(seed).normal(size=(60, 5)).astype("float32"))
        queue_module._loaded.cache_clear()
        queue.work([cell])
    assert lines(trace) == ["1", "1"]
    assert len(list((queue.folder / "trainings").iterdir())) == 2


def test_an_error_of_the_program_is_not_a_result(tmp_path):
    cell = Cell(counting.traced, {"no such argument": 1})
    with pytest.raises(TypeError):
        Queue(tmp_path).work([cell])
    assert Queue(tmp_path).result(cell) is None


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nMore of it"),
        RuntimeError("CUDA error: an illegal memory access was encountered\nMore of it"),
    ],
    ids=["memory", "access"],
)
def test_a_cell_at_which_the_gpu_fails_is_left_out_and_the_others_are_measured(
    error, tmp_path, trace, monkeypatch
):
    real = Stepper.step

    def failing(self, x):
        if self.objective.weight == 2e-3:
            raise error
        return real(self, x)

    monkeypatch.setattr(Stepper, "step", failing)
    queue, settings = Queue(tmp_path / "work"), {"trace": str(trace)}
    bad = Cell(counting.traced, settings, replace(TRAINING, weight=2e-3))
    good = [Cell(counting.traced, settings, TRAINING), Cell(counting.traced, settings)]
    missing = queue.work([bad, *good])
    assert list(missing.values()) == [f"{bad.label}: {str(error).splitlines()[0]}"]
    assert bad.label.endswith("of lorae, seed 0")
    assert queue.done([bad, *good]) == 2
    monkeypatch.setattr(Stepper, "step", real)
    assert queue.work([bad]) == {}  # once the GPU works again
    assert queue.done([bad]) == 1


def test_unique_keeps_the_order():
    a, b = (Cell(counting.traced, {"trace": name}) for name in "ab")
    assert list(unique([b, a, dataclasses.replace(b)])) == [b, a]


def test_keys_do_not_depend_on_where_the_measure_is(monkeypatch):
    before = Cell(counting.traced).key
    monkeypatch.setattr(counting.traced, "__module__", "elsewhere")
    monkeypatch.setattr(counting.traced, "__qualname__", "renamed")
    assert Cell(counting.traced).key == before


def test_names_of_measures_are_unique():
    names = list(queue_module._NAMES.values())
    assert len(set(names)) == len(names)
    assert not any("." in name for name in names)


def test_records_that_were_altered_are_refused(tmp_path, trace):
    cell = Cell(counting.traced, {"trace": str(trace), "value": 3})
    queue = Queue(tmp_path)
    queue.work([cell])
    path = tmp_path / "cells" / f"{cell.key}.json"
    text = path.read_text()
    for change in (text.replace('"value": 3', '"value": 4'), "[]", text[:-20], '{"result": 1}'):
        path.write_text(change)
        with pytest.raises(InputError, match=path.name):
            queue.result(cell)


WORK = """
import sys
sys.path.insert(0, {tests!r})
import counting
from pathlib import Path
from lorae.paper.queue import Cell, Queue
settings = {{"trace": {trace!r}, "seconds": 0.15}}
cells = [Cell(counting.traced, settings | {{"value": k}}) for k in range(8)]
Queue(Path({folder!r})).work(cells)
"""


def working(tmp_path: Path, trace: Path):
    code = WORK.format(
        tests=str(Path(counting.__file__).parent), trace=str(trace), folder=str(tmp_path / "sweep")
    )
    return start(folder=tmp_path, code=code)


def cells_in(folder: Path) -> dict[str, dict]:
    return {path.name: json.loads(path.read_text()) for path in (folder / "cells").glob("*.json")}


@needs_fork
@pytest.mark.slow
def test_a_killed_worker_repeats_no_finished_cell(tmp_path, trace):
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
def test_two_workers_on_one_folder_divide_the_work(tmp_path, trace):
    both = [working(tmp_path, trace) for _ in range(2)]
    assert [child.wait() for child in both] == [0, 0]
    assert sorted(lines(trace)) == [str(k) for k in range(8)]
    assert len(cells_in(tmp_path / "sweep")) == 8
