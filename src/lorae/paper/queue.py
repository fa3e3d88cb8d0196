"""Many trainings and measurements in one folder, of which none is lost or done twice.

A sweep is a folder, and a worker is a loop over cells. A cell is one measurement, mostly of one
training; its result is a file named by what the cell is: the measurement, its settings, the
options of the training and the version of the package. A cell that has its file is done. Before
a worker begins one, it takes the lock of the training that the cell needs, which the operating
system frees if the worker is killed; so any number of workers, on one machine or on several that
share the folder, divide the work among themselves, and two sweeps in one folder help each other.
A training that was cut off is gone on with from its last checkpoint.

========================= ==================================================================
`cells/KEY.json`          the result of a cell, with what it is, its cost, machine and commit
`trainings/NAME-KEY/`     run folders, shared by all cells that need them
`locks/KEY.lock`          held while somebody works on a training and its cells
========================= ==================================================================
"""

import contextlib
import dataclasses
import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lorae.data.datasets import Data
from lorae.errors import Diverged, InputError
from lorae.training.options import DataOptions, Options
from lorae.training.run_folder import MACHINES, Run, environment
from lorae.utils.files import read_json, write_json

_PAUSE = 1.0  # seconds between two looks at what others are working on

Result = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One measurement, of one training or of none.

    Args:
        measure: a function of a module, which takes the finished run, where there is a training,
            and the settings by name, and returns values that JSON can hold.
        settings: its further arguments, as values that JSON can hold.
        options: the training whose run is measured, None where there is none.
    """

    measure: Callable[..., Result]
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Options | None = None

    @cached_property
    def about(self) -> dict[str, Any]:
        """All that the result depends on, apart from the data's content."""
        from lorae import __version__

        measure = f"{self.measure.__module__}.{self.measure.__qualname__}"
        training = None if self.options is None else told(self.options)
        return {
            "measure": measure,
            "settings": dict(self.settings),
            "training": training,
            "version": __version__,
        }

    @cached_property
    def key(self) -> str:
        """The name of the result: a digest of what it depends on."""
        return _digest(self.about)

    @property
    def job(self) -> str:
        """The name of the lock under which the cell is worked on."""
        return self.key if self.options is None else _digest(told(self.options))


@dataclass(frozen=True)
class Sweep:
    """A folder of results and trainings.

    Args:
        folder: new, or that of the same or another sweep.

    Example:
        >>> from tempfile import mkdtemp
        >>> sweep = Sweep(Path(mkdtemp()))
        >>> cell = Cell(dict, {"answer": 42})
        >>> sweep.result(cell) is None
        True
        >>> sweep.work([cell])
        {}
        >>> sweep.result(cell)["answer"]
        42
    """

    folder: Path

    def result(self, cell: Cell) -> Result | None:
        """Return what a cell has given, None where it is not done."""
        record = self.record(cell)
        return None if record is None else record["result"]

    def record(self, cell: Cell) -> dict[str, Any] | None:
        """Return a cell's result with what it is, its cost, machine and commit."""
        path = self._path(cell)
        if not path.is_file():
            return None
        record: dict[str, Any] = read_json(path)
        return record

    def done(self, cells: Iterable[Cell]) -> int:
        """Return how many of the cells have a result."""
        return sum(self._path(cell).is_file() for cell in cells)

    def work(
        self, cells: Sequence[Cell], watched: Callable[[Cell, float], None] | None = None
    ) -> dict[str, str]:
        """Measure every cell that has no result, and wait for those that others work on.

        Args:
            cells: in the order in which they are wanted.
            watched: called after each cell that was measured here, with the seconds it took.

        Returns:
            Of the data that could not be had, by their name, the sentence that says why; the
            cells that need them are left out.
        """
        jobs: dict[str, list[Cell]] = {}
        for cell in cells:
            self._drop_if_stale(cell)
            jobs.setdefault(cell.job, []).append(cell)
        missing: dict[str, str] = {}
        while jobs:
            ended = {
                key for key, job in jobs.items() if self._attempted(key, job, missing, watched)
            }
            jobs = {key: job for key, job in jobs.items() if key not in ended}
            if jobs and not ended:
                time.sleep(_PAUSE)
        return missing

    def _drop_if_stale(self, cell: Cell) -> None:
        """Drop a result of data that have changed since; where they are gone, it stays."""
        record = None if cell.options is None else self.record(cell)
        if record is None or cell.options is None:
            return
        with contextlib.suppress(InputError):
            if loaded(cell.options).checksum != record["data"]:
                self._path(cell).unlink(missing_ok=True)

    def _attempted(
        self,
        key: str,
        cells: Sequence[Cell],
        missing: dict[str, str],
        watched: Callable[[Cell, float], None] | None,
    ) -> bool:
        """Work on the cells of a training unless somebody else does; return whether it is done."""
        if self.done(cells) == len(cells):
            return True
        with ExitStack() as held:
            if not self._locked(key, held):
                return False
            for cell in cells:
                if self._path(cell).is_file():
                    continue
                start = time.perf_counter()
                if self._measure(cell, missing, start) and watched is not None:
                    watched(cell, time.perf_counter() - start)
        return True

    def _locked(self, key: str, held: ExitStack) -> bool:
        """Take the lock of a job until the end of a context, unless somebody else has it."""
        lock = self.folder / "locks" / f"{key}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.enter_context(FileLock(lock, timeout=0))
        except Timeout:
            return False
        return True

    def _measure(self, cell: Cell, missing: dict[str, str], start: float) -> bool:
        """Train where need be, measure, and write the result; tell whether that was possible."""
        data, arguments = None, []
        try:
            if cell.options is not None:
                data = loaded(cell.options)
                arguments = [self._trained(cell.options, data)]
            result = cell.measure(*arguments, **cell.settings)
        except Diverged as error:  # the same would come of it again
            result = {"failed": str(error)}
        except InputError as error:
            name = "" if cell.options is None else cell.options.data
            if data is not None:
                raise
            missing[name] = str(error)
            return False
        record = {
            "cell": cell.about,
            "data": None if data is None else data.checksum,
            "result": result,
            "seconds": round(time.perf_counter() - start, 3),
            "commit": commit(),
            "environment": environment(),
        }
        write_json(self._path(cell), record)
        return True

    def _trained(self, options: Options, data: Data) -> Run:
        """Return the finished run of a training, which may be there, whole or in part."""
        from lorae.training.train import train  # seconds, which a finished sweep need not spend

        run = self._run(options, data)
        if run.finished:
            return run
        return train(options, run.path, resume=run.exists, show=False)

    def _run(self, options: Options, data: Data) -> Run:
        key = _digest([told(options), data.checksum])
        return Run(self.folder / "trainings" / f"{data.name}-{options.model}-{key}")

    def _path(self, cell: Cell) -> Path:
        return self.folder / "cells" / f"{cell.key}.json"


def loaded(options: DataOptions) -> Data:
    """Return the data of options; sets are kept, so that many trainings read them once."""
    names = [field.name for field in dataclasses.fields(DataOptions)]
    return _loaded(DataOptions(**{name: getattr(options, name) for name in names}))


@cache
def _loaded(options: DataOptions) -> Data:
    return options.load()


@cache
def commit() -> str | None:
    """Return the commit of the checkout that this package runs from, None where there is none.

    A plus sign after it says that files had been changed since.
    """
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    try:
        head = _output([*git, "rev-parse", "--short=12", "HEAD"])
        changed = _output([*git, "status", "--porcelain", "--untracked-files=no", "--", "."])
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout.strip()


def distinct(cells: Iterable[Cell]) -> Iterator[Cell]:
    """Yield each cell once, in order."""
    seen: set[str] = set()
    for cell in cells:
        if cell.key not in seen:
            seen.add(cell.key)
            yield cell


def told(options: Options) -> dict[str, Any]:
    """Return all of the options that a result depends on, as values that JSON can hold."""
    return {k: v for k, v in dataclasses.asdict(options).items() if k not in MACHINES}


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
