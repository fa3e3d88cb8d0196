"""A work queue of trainings and measurements in a folder: nothing is lost or computed twice.

A cell is one measurement, usually of one training. Its result is a file named by a digest of the
measure, its settings, the options of the training and the version of the package; a cell is done
when it has this file. Before a worker starts on a cell, it takes the lock of the training that the
cell needs. The operating system releases the lock if the worker is killed. Therefore any number of
workers, on one machine or on several that share the folder, can divide the work, even those of
different commands. A training that was stopped resumes from its last checkpoint.

========================= ==================================================================
`cells/KEY.json`          the result of a cell, its definition, cost, machine and commit
`trainings/NAME-KEY/`     run folders, shared by all cells that need them
`locks/KEY.lock`          held while a worker is busy with a training and its cells
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
from typing import Any, NotRequired, TypedDict, TypeVar

from filelock import FileLock, Timeout

from lorae.data.datasets import Data
from lorae.errors import Diverged, InputError
from lorae.training.options import DataOptions, Options
from lorae.training.run_folder import MACHINES, Run, environment
from lorae.utils.files import read_json
from lorae.utils.records import check_json, unseal, write_record

_PAUSE = 1.0  # seconds between two checks of the results of other workers

Result = dict[str, Any]
Measure = Callable[..., Result]
_Registered = TypeVar("_Registered", bound=Measure)

_NAMES: dict[Measure, str] = {}


def measure(name: str) -> Callable[[_Registered], _Registered]:
    """Name a measure in the keys of its cells, so that its function may be renamed or moved.

    Example:
        >>> @measure("example-length")
        ... def length(*, text):
        ...     return {"length": len(text)}
        >>> Cell(length, {"text": "abc"}).name
        'example-length'
    """

    def register(function: _Registered) -> _Registered:
        _NAMES[function] = name
        return function

    return register


@dataclass(frozen=True)
class Cell:
    """One measurement, of one training or of none.

    Args:
        measure: a function registered by :func:`measure`. It takes the finished run, if there is a
            training, and the settings by name, and returns values that JSON can hold.
        settings: its other arguments, as values that JSON can hold.
        options: the training whose run is measured, or None.
    """

    measure: Measure
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Options | None = None

    @property
    def name(self) -> str:
        """The name of the measure."""
        return _NAMES[self.measure]

    @property
    def label(self) -> str:
        """The name with model and seed."""
        if self.options is None:
            return self.name
        return f"{self.name} of {self.options.model}, seed {self.options.seed}"

    @cached_property
    def about(self) -> dict[str, Any]:
        """Everything that the result depends on, except the content of the data."""
        from lorae import __version__

        return {
            "measure": self.name,
            "settings": dict(self.settings),
            "training": None if self.options is None else portable_options(self.options),
            "version": __version__,
        }

    @cached_property
    def key(self) -> str:
        """The name of the result: a digest of everything that it depends on."""
        return _digest(self.about)

    @property
    def job(self) -> str:
        """The name of the lock that a worker on the cell holds."""
        return self.key if self.options is None else _digest(portable_options(self.options))


class Record(TypedDict):
    """The result of a cell, in its file."""

    cell: dict[str, Any]
    data: NotRequired[str | None]
    result: dict[str, Any]


@dataclass(frozen=True)
class Queue:
    """A folder of results and trainings.

    Example:
        >>> from tempfile import mkdtemp
        >>> @measure("example-sum")
        ... def total(*, numbers):
        ...     return {"total": sum(numbers)}
        >>> queue = Queue(Path(mkdtemp()))
        >>> cell = Cell(total, {"numbers": [40, 2]})
        >>> queue.result(cell) is None
        True
        >>> queue.work([cell])
        {}
        >>> queue.result(cell)["total"]
        42
    """

    folder: Path

    def result(self, cell: Cell) -> Result | None:
        """Return the result of a cell, or None if it is not done."""
        record = self.record(cell)
        return None if record is None else record["result"]

    def record(self, cell: Cell) -> dict[str, Any] | None:
        """Return a cell's result with its definition, cost, machine and commit."""
        path = self._path(cell)
        if not path.is_file():
            return None
        content = read_json(path)
        if isinstance(content, dict) and "checksum" not in content:  # of earlier versions
            check_json(content, Record, repr(str(path)))
            return content
        found: dict[str, Any] = unseal(content, repr(str(path)), Record)
        return found

    def done(self, cells: Iterable[Cell]) -> int:
        """Return how many of the cells have a result."""
        return sum(self._path(cell).is_file() for cell in cells)

    def work(
        self, cells: Sequence[Cell], on_measured: Callable[[Cell, float], None] | None = None
    ) -> dict[str, str]:
        """Measure every cell that has no result, and wait for those of other workers.

        Args:
            cells: in the order of measurement.
            on_measured: called after each cell that was measured here, with the seconds it took.

        Returns:
            The data sets that could not be loaded, and the cells at which the GPU failed, with the
            reason. These cells are left out.
        """
        jobs: dict[str, list[Cell]] = {}
        for cell in cells:
            self._drop_if_stale(cell)
            jobs.setdefault(cell.job, []).append(cell)
        missing: dict[str, str] = {}
        while jobs:
            ended = {key for key, job in jobs.items() if self._try(key, job, missing, on_measured)}
            jobs = {key: job for key, job in jobs.items() if key not in ended}
            if jobs and not ended:
                time.sleep(_PAUSE)
        return missing

    def _drop_if_stale(self, cell: Cell) -> None:
        """Delete a result whose data have changed; it stays if the data cannot be loaded."""
        record = None if cell.options is None else self.record(cell)
        if record is None or cell.options is None:
            return
        with contextlib.suppress(InputError):
            if load_data(cell.options).checksum != record["data"]:
                self._path(cell).unlink(missing_ok=True)

    def _try(
        self,
        key: str,
        cells: Sequence[Cell],
        missing: dict[str, str],
        on_measured: Callable[[Cell, float], None] | None,
    ) -> bool:
        """Measure the cells of a training unless another worker does; return whether it is done."""
        if self.done(cells) == len(cells):
            return True
        lock = self.folder / "locks" / f"{key}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            try:
                held.enter_context(FileLock(lock, timeout=0))
            except Timeout:
                return False
            for cell in cells:
                if self._path(cell).is_file():
                    continue
                start = time.perf_counter()
                if self._measure(cell, missing, start) and on_measured is not None:
                    on_measured(cell, time.perf_counter() - start)
        return True

    def _measure(self, cell: Cell, missing: dict[str, str], start: float) -> bool:
        """Train if necessary, measure and write the result; return False if data are missing."""
        data, arguments = None, []
        try:
            if cell.options is not None:
                data = load_data(cell.options)
                arguments = [self.train(cell.options, data)]
            result = cell.measure(*arguments, **cell.settings)
        except Diverged as error:  # it would diverge again
            result = {"failed": str(error)}
        except InputError as error:
            name = cell.settings.get("data", "") if cell.options is None else cell.options.data
            if data is not None:
                raise
            missing[name] = str(error)
            return False
        except RuntimeError as error:  # this machine's fault: another one may do it
            if not _is_device_error(error):
                raise
            missing[cell.label] = f"{cell.label}: {str(error).partition(chr(10))[0]}"
            return False
        record = {
            "cell": cell.about,
            "data": None if data is None else data.checksum,
            "result": result,
            "seconds": round(time.perf_counter() - start, 3),
            "commit": commit(),
            "environment": environment(),
        }
        write_record(self._path(cell), record)
        return True

    def train(self, options: Options, data: Data) -> Run:
        """Return the finished run of a training: start it, resume it or find it."""
        from lorae.training.train import train  # slow import, not needed if all is done

        key = _digest([portable_options(options), data.checksum])
        run = Run(self.folder / "trainings" / f"{data.name}-{options.model}-{key}")
        return run if run.finished else train(options, run.path, resume=run.exists, show=False)

    def _path(self, cell: Cell) -> Path:
        return self.folder / "cells" / f"{cell.key}.json"


def _is_device_error(error: RuntimeError) -> bool:
    """Return whether a device has failed or is out of memory, and not the program."""
    kinds = {"AcceleratorError", "OutOfMemoryError"}
    return type(error).__name__ in kinds or "CUDA error" in str(error)


def load_data(options: DataOptions) -> Data:
    """Return the data set of some options, cached so that many trainings read it once."""
    names = [field.name for field in dataclasses.fields(DataOptions)]
    return _loaded(DataOptions(**{name: getattr(options, name) for name in names}))


@cache
def _loaded(options: DataOptions) -> Data:
    return options.load()


@cache
def commit() -> str | None:
    """Return the commit of the checkout that this package runs from, or None without a checkout.

    A plus sign after it means that files have been changed since.
    """
    git = ["git", "-C", str(Path(__file__).parent)]
    head = ["rev-parse", "--short=12", "HEAD"]
    status = ["status", "--porcelain", "--untracked-files=no", "--", "."]
    try:
        commit, changes = (
            subprocess.run([*git, *words], capture_output=True, text=True, check=True)  # noqa: S603
            for words in (head, status)
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if changes.stdout else "")


def unique(cells: Iterable[Cell]) -> Iterator[Cell]:
    """Yield each cell once, in order."""
    seen: set[str] = set()
    for cell in cells:
        if cell.key not in seen:
            seen.add(cell.key)
            yield cell


_ADDED = (
    *("value_range", "layout", "header", "separator", "decimal", "encoding"),
    *("columns", "drop", "index", "categories", "missing", "padding", "sigmoid"),
)
"""Options that records of earlier versions do not have."""


def portable_options(options: Options) -> dict[str, Any]:
    """Return the options that a result depends on, as JSON values.

    These are all except devices, and except those that were added later and have their default.
    """
    fields = dataclasses.asdict(options)
    unset = {name for name in _ADDED if fields[name] == getattr(Options, name)}
    return {k: v for k, v in fields.items() if k not in MACHINES and k not in unset}


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
