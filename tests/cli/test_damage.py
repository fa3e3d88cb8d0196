"""Run folders with damaged files: refused in one sentence, or the same answer as before.

Every mutation of a file is followed by a command that reads it. The command has to print and to
write what it does for the whole folder, or to be refused with exit status 2 and one line.
"""

import contextlib
import io
import itertools
import json
import os
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from launcher import flags
from small import SMALL

from lorae.cli import main
from lorae.training.loop import Stepper
from lorae.training.run_folder import Run
from lorae.training.train import train
from lorae.utils.records import seal
from lorae.utils.tensor_files import load_tensors, save_tensors

MUTATIONS = 300
EARLY = replace(SMALL, validation=0.2, patience=3, evaluate_every=3)
STOPPED = {"half": SMALL, "early": EARLY}
TRAIN = {name: ("train", "--resume", name, "--json") for name in ("done", *STOPPED)}
SPECTRUM, REPORT = ("spectrum", "done", "--json"), ("report", "done", "--out", "page.html")
SAMPLE = ("sample", "done", "-n", "3", "--out", "samples.npy")
HUB = ("export", "done", "--to", "hub", "--out", "hub", "--json")
FOLD = ("fold", "done", "--out", "folded", "--seconds", "0")
EVALUATE = ("evaluate", "done", "--only", "dimension", "--repeats", "1", "--samples", "60")
READERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "done/config.json": (SPECTRUM, REPORT, TRAIN["done"], HUB, SAMPLE),
    "done/metrics.jsonl": (REPORT, TRAIN["done"], HUB),
    "done/model.safetensors": (SPECTRUM, SAMPLE, FOLD, REPORT),
    "done/evaluation.json": (REPORT, HUB, EVALUATE),
    "half/config.json": (TRAIN["half"],),
    "half/metrics.jsonl": (TRAIN["half"],),
    "half/checkpoint/last.safetensors": (TRAIN["half"],),
    "early/checkpoint/best.safetensors": (TRAIN["early"],),
    "early/checkpoint/last.safetensors": (TRAIN["early"],),
    "sweep/.sweep.json": (("sweep", "--resume", "sweep", "--json", "--processes", "1"),),
}
"""The files of run folders, and commands that read them."""
STRANGE: tuple[Any, ...] = (None, [], {}, [1], "", "5", -5, 2.5, 10**9, float("nan"), True)


def flip(content, chance, _):
    """Flip a bit."""
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


def cut(content, chance, _):
    """Cut the end off, often between two lines."""
    ends = [match.end() for match in re.finditer(rb"\n", content)] if len(content) < 10**5 else []
    return content[: chance.choice([chance.randrange(len(content)), *ends[:-1]])]


def drop(content, chance, _):
    """Leave out a part in the middle: some lines, or some bytes."""
    lines = content.splitlines(keepends=True)
    if len(content) < 10**5 and len(lines) > 1 and chance.random() < 0.5:
        del lines[chance.randrange(len(lines))]
        return b"".join(lines)
    a, b = sorted(chance.randrange(len(content)) for _ in range(2))
    return content[:a] + content[b + 1 :]


def double(content, chance, _):
    """Repeat a line."""
    lines = content.splitlines(keepends=True)
    at = chance.randrange(len(lines))
    return b"".join([*lines[: at + 1], *lines[at:]])


def swap(_, chance, file):
    """Put the file of another run there."""
    other = Path("others", file)
    return other.read_bytes() if other.is_file() else b""


def reseal(content, chance, file):
    """Change or delete a value somewhere, and compute the checksum again."""
    if file.suffix == ".json":
        record = json.loads(content)
        del record["checksum"]
        return json.dumps(resealed(strange(record, chance))).encode()
    lines = [json.loads(line) for line in content.decode().splitlines()]
    at = chance.randrange(len(lines))
    previous, text = Run(file.parent).identity, ""
    for number, line in enumerate(lines):
        del line["checksum"]
        sealed = resealed(strange(line, chance) if number == at else line, previous)
        previous = sealed["checksum"] if isinstance(sealed, dict) else ""
        text += json.dumps(sealed) + "\n"
    return text.encode()


def resealed(value, previous=""):
    return seal(value, previous) if isinstance(value, dict) else value


def edit(content, chance, file):
    """Change or delete a value somewhere, or write something of another type."""
    if file.suffix == ".safetensors":
        return content[:8] + flip(content[8:600], chance, file) + content[600:]
    lines = content.decode().splitlines() if file.suffix == ".jsonl" else [content.decode()]
    at = chance.randrange(len(lines))
    value = json.loads(lines[at])
    lines[at] = json.dumps(strange(value, chance))
    return ("\n".join(lines) + "\n").encode()


def strange(value, chance):
    """Return JSON with something of a wrong type or value in a random place."""
    if isinstance(value, dict | list) and value and chance.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = chance.choice(keys)
        changed: Any = value.copy()
        if chance.random() < 0.2:
            del changed[key]
        else:
            changed[key] = strange(value[key], chance)
        return changed
    return chance.choice([one for one in STRANGE if one != value])


KINDS = (flip, flip, cut, drop, double, swap, edit, edit)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of the runs of `READERS` and, in `others`, of runs with another seed."""
    folder = tmp_path_factory.mktemp("damage")
    with contextlib.chdir(folder):
        make_runs()
        Path("others").mkdir()
        made = ["done", *STOPPED, "sweep"]
        for name in made:
            Path(name).rename(Path("others", name))
        make_runs(seed=0)
        yield folder


def make_runs(seed=1):
    """Train a run to its end and evaluate it, stop others, and train a small sweep."""
    train(replace(SMALL, seed=seed), "done", show=False)
    statuses = [call(*EVALUATE, "--seed", str(seed))[0]]
    options = flags(replace(SMALL, steps=2, seed=seed))
    sweep = ("sweep", "--out", "sweep", "--seeds", "3", "4", "--processes", "1")
    statuses += [call(*sweep, *map(str, options))[0]]
    assert statuses == [0, 0]
    step = Stepper.step

    def stop(self, x):
        if self.steps == 7:
            raise KeyboardInterrupt
        return step(self, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stepper, "step", stop)
        for name, one in STOPPED.items():
            with contextlib.suppress(KeyboardInterrupt):
                train(replace(one, seed=seed), name, show=False)


def call(*arguments):
    """Run a command, and return its status, or what it raised, its output and its errors."""
    out, err = io.StringIO(), io.StringIO()
    status: int | BaseException
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as stop:
            status = int(stop.code or 0)
        except Exception as error:  # noqa: BLE001 - it is counted
            status = error
    return status, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def copied(*names):
    """Work in a folder with copies of some runs."""
    here = Path.cwd()
    work = here / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    for name in names:
        shutil.copytree(here / name, work / name)
    with contextlib.chdir(work):
        yield


def result(arguments, change=lambda: None):
    """Return what a command prints and writes after a change: status, result and errors."""
    with copied(next(name for name in arguments if name in ("done", *STOPPED, "sweep"))):
        change()
        status, out, err = call(*arguments)
        written = [
            path.read_bytes()
            for path in map(Path, ("page.html", "samples.npy", "folded"))
            if path.exists()
        ]
        run = Run(Path(arguments[2]))
        if arguments[0] == "train" and status == 0:
            written += [(run.path / "model.safetensors").read_bytes()]
            written += [timeless_lines(run.path / "metrics.jsonl")]
        if Path("hub").exists():
            written += [path.read_bytes() for path in sorted(Path("hub").iterdir())]
        return status, (out, written), err


whole = cache(result)


def judge(arguments, change):
    """Return whether a command did right after a change: "same", "refused", or what is wrong."""
    expected = whole(arguments)
    assert expected[0] == 0, expected
    status, answer, err = result(arguments, change)
    if isinstance(status, BaseException):
        return "traceback", repr(status)
    if status == 2 and re.fullmatch(r"(lorae: warning: [^\n]+\n)*lorae: [^\n]+\n", err):
        return "refused", err
    if status == 0 and answer == expected[1]:
        return "same", ""
    return ("silently wrong" if status == 0 else "unclear"), err


def campaign(count, kinds=KINDS, files=tuple(READERS), seed=0):
    """Damage files at random; return how often each outcome occurred, and what was wrong."""
    chance, counts, wrong = random.Random(seed), Counter[str](), []
    here = Path.cwd()
    for number in range(count):
        name = files[number % len(files)]
        kind, arguments = chance.choice(kinds), chance.choice(READERS[name])
        state, source = chance.getrandbits(64), here / ("others" if kind is swap else ".") / name

        def damage(kind=kind, name=name, state=state, source=source):
            Path(name).write_bytes(kind(source.read_bytes(), random.Random(state), Path(name)))

        outcome, why = judge(arguments, damage)
        counts[outcome] += 1
        if outcome not in ("same", "refused"):
            wrong.append(f"{number}: {kind.__name__} of {name}, {arguments[0]}: {outcome}: {why}")
    return counts, wrong


@pytest.mark.usefixtures("cached_data")
def test_damaged_files_are_refused_or_change_nothing(folder):
    counts, wrong = campaign(MUTATIONS)
    assert not wrong, "\n".join([str(counts), *wrong])


@pytest.mark.usefixtures("cached_data")
def test_strange_content_with_a_right_checksum_is_no_traceback(folder):
    """A value of the right type may change the answer; anything else must be refused."""
    files = tuple(name for name in READERS if "json" in name)
    counts, wrong = campaign(60, (reseal,), files)
    assert not [line for line in wrong if "silently wrong" not in line], "\n".join(wrong)
    assert counts["refused"] > 30


CHECKPOINTS: dict[str, Callable[[dict, dict], object]] = {
    "step of a text": lambda _, about: about["state"].update(step="5"),
    "negative step": lambda _, about: about["state"].update(step=-5),
    "step beyond the end": lambda _, about: about["state"].update(step=10**9),
    "broken step": lambda _, about: about["state"].update(step=2.5),
    "no step": lambda _, about: about["state"].pop("step"),
    "seconds are NaN": lambda _, about: about["state"].update(seconds=float("nan")),
    "best is NaN": lambda _, about: about["state"].update(best=float("nan")),
    "negative patience": lambda _, about: about["state"].update(stale=-1),
    "no state": lambda _, about: about.pop("state"),
    "no metrics": lambda _, about: about.pop("metrics"),
    "other metrics": lambda _, about: about.update(metrics="0" * 32),
    "another run": lambda _, about: about.update(run="0" * 32),
    "untouched parameters": lambda _, about: about.update(untouched=[0]),
    "no generator": lambda tensors, _: tensors.pop("generator.cpu"),
    "short generator": lambda tensors, _: tensors.update({"generator.cpu": torch.zeros(9).byte()}),
    "empty generator": lambda tensors, _: tensors["generator.cpu"].zero_(),
    "float generator": lambda tensors, _: tensors.update({"generator.cpu": torch.zeros(5056)}),
    "no moments": lambda tensors, _: [tensors.pop(n) for n in list(tensors) if "exp" in n],
    "no optimizer": lambda tensors, _: [tensors.pop(n) for n in list(tensors) if "optim" in n],
    "one moment missing": lambda tensors, _: tensors.pop("optimizer.0.exp_avg"),
    "more moments": lambda tensors, _: tensors.update({"optimizer.999.exp_avg": torch.ones(1)}),
    "a moment's shape": lambda t, _: t.update({"optimizer.0.exp_avg": torch.ones(3)}),
    "a moment's type": lambda t, _: t.update({k: t[k].double() for k in ("optimizer.0.exp_avg",)}),
    "a moment is NaN": lambda tensors, _: tensors["optimizer.0.exp_avg"].fill_(float("nan")),
    "negative moment": lambda tensors, _: tensors["optimizer.0.exp_avg_sq"].fill_(-1),
    "a weight is NaN": lambda t, _: weight_of(t).fill_(float("nan")),
    "a weight is missing": lambda t, _: t.pop(next(n for n in t if n.startswith("objective."))),
    "an unknown tensor": lambda tensors, _: tensors.update({"more": torch.ones(1)}),
    "sums without steps": lambda tensors, _: tensors.pop("totals.steps"),
    "negative steps of sums": lambda tensors, _: tensors["totals.steps"].fill_(-1),
}


def weight_of(tensors):
    return next(one for name, one in tensors.items() if name.endswith("encoder.0.weight"))


@pytest.mark.usefixtures("cached_data")
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_that_cannot_be_right_is_refused_before_anything_is_restored(folder, name):
    def damage():
        tensors, about = load_tensors(Run(Path("half")).checkpoint)
        CHECKPOINTS[name](tensors, about)
        save_tensors(Run(Path("half")).checkpoint, tensors, about)

    outcome, why = judge(TRAIN["half"], damage)
    assert outcome == "refused", why


class Killed(BaseException):
    """The process is killed."""


def kill_at(patch, number):
    """Kill this process, so to speak, before its n-th change of the disk; none follows."""
    changes: list[str] = []

    def killing(change, name):
        def changed(*arguments, **named):
            mode = (*arguments[1:2], named.get("mode", "r"))[0]
            if name != "open" or set(str(mode)) & set("xwa"):
                changes.append(name)
                if len(changes) >= number:
                    raise Killed
            return change(*arguments, **named)

        return changed

    for owner, name in (
        (Path, "open"),
        (Path, "mkdir"),
        (Path, "replace"),
        (Path, "hardlink_to"),
        (Path, "unlink"),
        (Path, "rmdir"),
        (os, "fsync"),
        (shutil, "rmtree"),
    ):
        patch.setattr(owner, name, killing(getattr(owner, name), name))
    return changes


TINY = [*map(str, flags(replace(SMALL, steps=1, evaluate_every=1)))]
KILLED = {
    "early": (
        ["train", "--out", "run", *map(str, flags(replace(EARLY, steps=2, evaluate_every=1)))],
        ["train", "--resume", "run"],
    ),
    "sweep": (
        ["sweep", "--out", "run", "--seeds", "0", "1", "--processes", "1", *TINY],
        ["sweep", "--resume", "run", "--processes", "1"],
    ),
}


@pytest.mark.usefixtures("cached_data")
@pytest.mark.parametrize("name", KILLED)
def test_after_a_kill_before_any_change_of_the_disk_resuming_or_starting_again_ends_it(
    name, tmp_path, monkeypatch
):
    start, resume = KILLED[name]
    results = {}
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        with monkeypatch.context() as patch:
            changes = kill_at(patch, number)
            with contextlib.suppress(Killed):
                call(*start)
        killed = len(changes) >= number
        if killed and call(*resume)[0] != 0:
            status, _, err = call(*start)
            assert status == 0, (number, changes, err)
        files = {p.relative_to("run"): p for p in sorted(Path("run").rglob("*")) if p.is_file()}
        assert not [path for path in files.values() if path.suffix == ".part"]
        results[number] = {
            str(place): timeless_lines(path) if path.suffix == ".jsonl" else path.read_bytes()
            for place, path in files.items()
            if path.name in ("model.safetensors", "metrics.jsonl", "config.json")
        }
        if not killed:
            break
    assert number > 20
    assert all(one == results[number] for one in results.values())


def timeless_lines(path):
    return [line | {"seconds": 0} for line in Run(path.parent).metrics()]
