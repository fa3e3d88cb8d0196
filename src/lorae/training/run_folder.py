"""A run folder: what one training leaves behind, and all that later commands read.

====================== =======================================================================
`config.json`          the resolved options, the data's checksum and the environment
`metrics.jsonl`        one JSON object a line: errors and spectra as training went on
`model.safetensors`    the trained model (absent until training has ended)
`checkpoint/`          the state to go on from, if training was stopped
`report.html`          the report, once asked for
====================== =======================================================================
"""

import itertools
import json
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch

from lorae.errors import InputError
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.serialization import load
from lorae.utils.files import check_new_folder, read_json, write_atomic, write_json

PARTS = {"config.json", "metrics.jsonl", "model.safetensors"}
"""The files that a run cannot do without."""
MACHINES = {"device", "devices", "nodes", "strategy"}
"""Options of where a run is made, which may differ when it is gone on with."""


@dataclass(frozen=True)
class Run:
    """A run folder by its path.

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

    @property
    def finished(self) -> bool:
        """Whether training has ended and left a model."""
        return (self.path / "model.safetensors").is_file()

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def checkpoint(self) -> Path:
        """The file of the last state of training."""
        return self.path / "checkpoint" / "last.safetensors"

    @property
    def best(self) -> Path:
        """The file of the best model so far, where early stopping keeps one."""
        return self.path / "checkpoint" / "best.safetensors"

    @cached_property
    def about(self) -> dict[str, Any]:
        """The content of `config.json`."""
        content = read_json(self.path / "config.json")
        if not isinstance(content, dict) or "options" not in content:
            raise InputError(f"{str(self.path / 'config.json')!r} is not a configuration of lorae")
        return content

    @property
    def options(self) -> dict[str, Any]:
        """The resolved options of training."""
        options: dict[str, Any] = self.about["options"]
        return options

    def claim(self, about: dict[str, Any], *, resume: bool) -> None:
        """Make this folder that of a new run, or make sure that it is that of the same one.

        Args:
            about: the content of `config.json`, to which versions and machine are added.
            resume: whether the run is to be gone on with.

        Raises:
            InputError: if there is a run where none should be, none where one should be, one of
                other options or data, or something else.
        """
        if resume:
            if not self.exists:
                raise InputError(f"there is no run to resume at {str(self.path)!r}")
            self._check_same(about)
            return
        if Run(self.path.resolve()).exists:
            raise InputError(
                f"{str(self.path)!r} already holds a run: choose another folder, "
                f"or continue it with: lorae train --resume {self.path}"
            )
        check_new_folder(self.path)
        write_json(self.path / "config.json", about | {"environment": environment()})

    def check_data(self, checksum: str) -> None:
        """Check that data are those of this run.

        Raises:
            InputError: if their checksum is not the one that `config.json` holds.
        """
        if self.about["data"]["checksum"] != checksum:
            raise InputError(
                f"the data {self.options['data']!r} are not those that run {str(self.path)!r} was "
                "trained on: their checksum differs"
            )

    def _check_same(self, about: dict[str, Any]) -> None:
        then, now = self.options, about["options"]
        differing = [k for k in now if k not in MACHINES and then.get(k) != now[k]]
        if differing:
            changes = "; ".join(f"{k} was {then.get(k)} and is now {now[k]}" for k in differing)
            raise InputError(f"run {str(self.path)!r} was made with other options: {changes}")
        self.check_data(about["data"]["checksum"])

    @property
    def warnings(self) -> list[str]:
        """What was to be said of the model when training ended, mostly nothing."""
        said = [warning for line in self.metrics()[-2:] for warning in line.get("warnings", [])]
        return list(dict.fromkeys(said))

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of `metrics.jsonl` in order; a last line cut by a crash is left out."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        try:
            return [json.loads(line) for line in lines if line.endswith("\n")]
        except ValueError as error:
            raise InputError(f"{str(path)!r} has a line that is not JSON ({error})") from None

    @property
    def last(self) -> dict[str, Any]:
        """The last line of `metrics.jsonl`, which holds the final figures of a finished run.

        Raises:
            InputError: if there is none.
        """
        lines = self.metrics()
        if not lines:
            raise InputError(f"{str(self.path / 'metrics.jsonl')!r} is missing or empty")
        return lines[-1]

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Add one line to `metrics.jsonl`."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def rewind_metrics(self, step: int) -> None:
        """Drop the lines after `step` and the final one, which a resumed run will write again."""
        kept = [line for line in self.metrics() if line["step"] <= step and not line["final"]]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomic(self.path / "metrics.jsonl", text.encode())

    def model(self) -> Autoencoder:
        """Return the trained model, on the CPU and in evaluation mode.

        Raises:
            InputError: if training has not ended, or the file is damaged.
        """
        if not self.finished:
            raise InputError(
                f"run {str(self.path)!r} has no model yet: its training has not ended "
                f"(continue it with: lorae train --resume {self.path})"
            )
        return load(self.path)


def no_part_of_a_run(out: Path) -> Path:
    """Return a path to be written to, if it is none of the files that a run consists of.

    Raises:
        InputError: if it is one, which would then be lost.
    """
    if out.name in PARTS and Run(out.parent).exists:
        raise InputError(f"out must not be a file that a run consists of, {str(out)!r} is one")
    return out


def free_folder(name: str) -> Path:
    """Return `runs/name`, or `runs/name-2` and so on where that is taken."""
    tries = (Path("runs") / (f"{name}-{k}" if k > 1 else name) for k in itertools.count(1))
    return next(path for path in tries if not path.exists())


def environment() -> dict[str, str]:
    """Return the versions and the machine that figures depend on."""
    from importlib.metadata import version

    return {
        "lorae": version("lorae"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": str(torch.get_num_threads()),
    }
