"""The run folder: what a training leaves behind, and all that later commands read.

====================== =======================================================================
`config.json`          the resolved options, the data's checksum and the environment
`metrics.jsonl`        one JSON object per line: errors and spectra in the course of training
`data.npy`             the samples, if they were given in memory; `data.parquet` for a data frame
`model.safetensors`    the trained model, once training has ended
`checkpoint/`          the state to resume from
`report.html`          the report, if one was written
`explorer.html`        the explorer, if one was written
====================== =======================================================================

`config.json` and each line of `metrics.jsonl` end in a checksum. That of a line covers the line
before it, and that of the first line the options and the data; the last line of a finished run
holds the checksum of the model. So a file that is damaged, or that belongs to another run, is
refused.
"""

import dataclasses
import hashlib
import itertools
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, Self, TypedDict

from lorae.errors import InputError
from lorae.training.options import Options
from lorae.utils.files import check_new_folder, remove_leftovers, write_atomic
from lorae.utils.records import read_record, seal, unseal, write_record

if TYPE_CHECKING:
    from lorae.data.columns import Schema
    from lorae.nn.autoencoder import Autoencoder

PARTS = {"config.json", "metrics.jsonl", "model.safetensors"}
"""The files that a run cannot do without."""
MACHINES = {"device", "devices", "nodes", "strategy", "capture"}
"""Options that may change when a run is resumed: those of the machine."""


class DataRecord(TypedDict):
    """The data set, in `config.json`."""

    name: str
    checksum: str
    train: int
    test: int
    shape: list[int]
    columns: NotRequired[list[str] | None]
    schema: NotRequired[dict[str, Any] | None]
    file: NotRequired[str | None]


class Config(TypedDict):
    """The content of `config.json`."""

    options: dict[str, Any]
    data: DataRecord
    environment: dict[str, str]
    continued_from: NotRequired[list[int]]


class TestFigures(TypedDict):
    """The figures on test samples, in a line of `metrics.jsonl`."""

    samples: int
    reconstruction: float | None
    rank: int
    covariance: list[float]
    matrix: list[float]
    spread: NotRequired[float]
    accuracy: NotRequired[list[float]]


class MetricsLine(TypedDict):
    """A line of `metrics.jsonl`."""

    step: int
    epoch: float
    seconds: float
    final: bool
    test: TestFigures
    warnings: list[str]
    train: NotRequired[dict[str, float]]
    validation: NotRequired[dict[str, float]]
    model: NotRequired[str]


@dataclass(frozen=True)
class Run:
    """A run folder.

    Example:
        >>> Run(Path("nowhere")).exists
        False
    """

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Return the run at a path.

        Raises:
            InputError: if there is none.
        """
        run = cls(Path(path))
        if not run.exists:
            raise InputError(f"there is no run at {str(path)!r}: it holds no config.json")
        return run

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run, finished or not."""
        return (self.path / "config.json").is_file()

    def _repr_html_(self) -> str:
        from lorae.training.notebook import run_html

        return run_html(self)

    @property
    def finished(self) -> bool:
        """Whether training has ended and left a model."""
        return (self.path / "model.safetensors").is_file()

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.resolve().name

    @property
    def checkpoint(self) -> Path:
        """The file of the last checkpoint."""
        return self.path / "checkpoint" / "last.safetensors"

    @property
    def _metrics(self) -> Path:
        """The file of the lines of metrics."""
        return self.path / "metrics.jsonl"

    @property
    def best(self) -> Path:
        """The file of the best model so far, with early stopping."""
        return self.path / "checkpoint" / "best.safetensors"

    @cached_property
    def about(self) -> dict[str, Any]:
        """The content of `config.json`."""
        content: dict[str, Any] = read_record(self.path / "config.json", Config)
        return content

    @property
    def options(self) -> dict[str, Any]:
        """The resolved options of training."""
        options: dict[str, Any] = self.about["options"]
        return options

    @property
    def data_file(self) -> Path | None:
        """The file of samples that were given in memory."""
        name = self.about["data"].get("file")
        return None if name is None else self.path / name

    @property
    def schema(self) -> "Schema | None":
        """The columns of a table."""
        from lorae.data.columns import Schema
        from lorae.data.frames import schema_of

        data = self.about["data"]
        if (fields := data.get("schema")) is not None:
            return Schema.from_dict(fields)
        columns = data.get("columns")
        return None if columns is None else schema_of(columns)

    @cached_property
    def identity(self) -> str:
        """A digest of what decides the course of training: the data, and all but the last step."""
        free = MACHINES | {"steps"}
        decisive = {name: value for name, value in self.options.items() if name not in free}
        text = json.dumps([decisive, self.about["data"]["checksum"]], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def claim(self, about: dict[str, Any], *, resume: bool) -> None:
        """Create this folder for a new run, or check that it holds the run to resume."""
        if resume:
            if not self.exists:
                raise InputError(f"there is no run to resume at {str(self.path)!r}")
            self._check_same(about)
            if about["options"]["steps"] > self.options["steps"]:
                self._extend(about["options"])
        else:
            self._create(about | {"environment": environment()})
        remove_leftovers(self.path)
        if self.checkpoint.parent.is_dir():
            remove_leftovers(self.checkpoint.parent)

    def _extend(self, options: dict[str, Any]) -> None:
        """Continue a run to more steps; the model and the scores that it ended with are renamed."""
        old = self.options["steps"]
        if self.finished:
            if self.last["step"] < old:
                raise InputError(
                    f"steps must be {old} for run {str(self.path)!r}, whose patience ended it at "
                    f"step {self.last['step']}, got {options['steps']}"
                )
            for name in ("evaluation.json", "model.safetensors"):
                path = self.path / name
                if path.exists():
                    path.replace(path.with_stem(f"{path.stem}-{old}"))
        before = [*self.about.get("continued_from", []), old]
        # the folder may have moved, and an earlier version has fewer options
        kept = {name: options[name] for name in self.options} | {"data": self.options["data"]}
        about = self.about | {"options": kept, "continued_from": before}
        write_record(self.path / "config.json", about)

    def _create(self, about: dict[str, Any]) -> None:
        """Write `config.json` unless the folder has content; this one step claims the folder."""
        try:
            if not Run(self.path.resolve()).exists:
                check_new_folder(self.path)
                write_record(self.path / "config.json", about, new=True)
                return
        except FileExistsError:
            pass  # another process was faster
        raise InputError(
            f"{str(self.path)!r} already holds a run: choose another folder, "
            f"or continue it with: lorae train --resume {self.path}"
        )

    def check_data(self, checksum: str) -> None:
        """Check that data are those of this run."""
        if self.about["data"]["checksum"] != checksum:
            raise InputError(
                f"the data {self.options['data']!r} are not those that run {str(self.path)!r} was "
                "trained on: their checksum differs"
            )

    def _check_same(self, about: dict[str, Any]) -> None:
        now = json.loads(json.dumps(about["options"]))
        defaults = json.loads(json.dumps(dataclasses.asdict(Options())))
        then = defaults | self.options  # that of an earlier version has fewer
        free = MACHINES | ({"steps"} if now["steps"] > then["steps"] else set())
        free |= set() if self.data_file is None else {"data"}
        differing = [k for k in now if k not in free and then[k] != now[k]]
        if differing:
            changes = "; ".join(f"{k} was {then[k]} and is now {now[k]}" for k in differing)
            raise InputError(f"run {str(self.path)!r} was made with other options: {changes}")
        self.check_data(about["data"]["checksum"])

    @property
    def warnings(self) -> list[str]:
        """Warnings about the model at the end of training."""
        lines = [warning for line in self.metrics()[-2:] for warning in line.get("warnings", [])]
        return list(dict.fromkeys(lines))

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of `metrics.jsonl`, without a last one that a crash has cut short."""
        lines, previous = [], ""
        for number, line in enumerate(self._read_lines(), 1):
            name = f"line {number} of {str(self._metrics)!r}"
            lines.append(unseal(line, name, MetricsLine, previous or self.identity))
            previous = line["checksum"]
        return lines

    def _read_lines(self) -> list[Any]:
        content = self._metrics.read_bytes() if self._metrics.exists() else b""
        try:
            return [json.loads(line) for line in content.split(b"\n")[:-1]]
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{str(self._metrics)!r} has a line that is not JSON ({error})"
            ) from None

    @property
    def metrics_checksum(self) -> str:
        """The checksum of the last line of `metrics.jsonl`, which covers those before it."""
        lines = self._read_lines()
        return str(lines[-1]["checksum"]) if lines else self.identity

    @property
    def last(self) -> dict[str, Any]:
        """The last line of `metrics.jsonl`; in a finished run it has the final figures.

        Raises:
            InputError: if there is none, or the run has a model and the line is not the final one.
        """
        lines = self.metrics()
        if not lines:
            raise InputError(f"{str(self._metrics)!r} is missing or empty")
        if self.finished and not lines[-1]["final"]:
            raise InputError(
                f"{str(self._metrics)!r} has no final line, though the run has a model: its end "
                "was cut off"
            )
        return lines[-1]

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Add a line to `metrics.jsonl`."""
        sealed = seal(line, self.metrics_checksum)
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(sealed) + "\n")

    def rewind_metrics(self, step: int, checksum: str) -> None:
        """Drop the lines after a checkpoint and the final one, which a resumed run writes again."""
        kept, last = [], self.identity
        for line, sealed in zip(self.metrics(), self._read_lines(), strict=True):
            if line["step"] <= step and not line["final"]:
                kept.append(json.dumps(sealed) + "\n")
                last = sealed["checksum"]
        if last != checksum:
            raise InputError(
                f"{str(self._metrics)!r} does not belong to the checkpoint of step {step}: lines "
                "before it are missing"
            )
        write_atomic(self._metrics, "".join(kept).encode())

    def model(self) -> "Autoencoder":
        """Return the trained model, on the CPU and in evaluation mode.

        Raises:
            InputError: if training has not ended, or the file is damaged.
        """
        from lorae.nn.serialization import load
        from lorae.utils.tensor_files import read_checksum

        if not self.finished:
            raise InputError(
                f"run {str(self.path)!r} has no model yet: its training has not ended "
                f"(continue it with: lorae train --resume {self.path})"
            )
        model = load(self.path)
        if read_checksum(self.path / "model.safetensors") != self.last.get("model"):
            raise InputError(
                f"{str(self.path / 'model.safetensors')!r} is not the model that this run ended "
                "with: its checksum differs from that in metrics.jsonl"
            )
        model.schema = self.schema
        return model


def find_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Return the finished runs at some paths, and a sentence on each path that was skipped."""
    runs, skipped = [], []
    for path in paths:
        if not path.exists():
            raise InputError(f"there is no run at {str(path)!r}: it does not exist")
        inside = [] if Run(path).exists or not path.is_dir() else sorted(path.iterdir())
        found = [run for run in (Run(path), *map(Run, inside)) if run.exists]
        runs += [run for run in found if run.finished]
        skipped += [
            f"skipped {str(one.path)!r}: its training has not ended; continue it with `lorae train "
            f"--resume {one.path}`"
            for one in found
            if not one.finished
        ]
        if not found:
            skipped.append(f"skipped {str(path)!r}: it is no run, and holds none")
    if not runs:
        raise InputError("; ".join(skipped).replace("skipped ", "there is no finished run at "))
    return runs, skipped


def check_output_file(out: Path) -> Path:
    """Return a path to write to, unless it is one of the files that make up a run."""
    if out.name in PARTS and Run(out.parent).exists:
        raise InputError(f"out must not be a file that a run consists of, got {str(out)!r}")
    return out


def free_folder(name: str) -> Path:
    """Return `runs/name`, or `runs/name-2` and so on if that exists."""
    paths = (Path("runs") / (f"{name}-{k}" if k > 1 else name) for k in itertools.count(1))
    return next(path for path in paths if not path.exists())


def environment() -> dict[str, str]:
    """Return the versions, and the machine, that results depend on."""
    from importlib.metadata import version

    import torch

    return {
        "lorae": version("lorae"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": str(torch.get_num_threads()),
    }
