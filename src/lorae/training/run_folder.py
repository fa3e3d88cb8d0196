"""The run folder: what a training leaves behind, and all that later commands read.

====================== =======================================================================
`config.json`          the resolved options, the data's checksum and the environment
`metrics.jsonl`        one JSON object per line: errors and spectra in the course of training
`model.safetensors`    the trained model, once training has ended
`checkpoint/`          the state to resume from
`report.html`          the report, if one was written
====================== =======================================================================
"""

import itertools
import json
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lorae.errors import InputError
from lorae.utils.files import check_new_folder, read_json, write_atomic, write_json

if TYPE_CHECKING:
    from lorae.nn.autoencoder import Autoencoder

PARTS = {"config.json", "metrics.jsonl", "model.safetensors"}
"""The files that a run cannot do without."""
MACHINES = {"device", "devices", "nodes", "strategy"}
"""Options that may change when a run is resumed: where it is made."""


@dataclass(frozen=True)
class Run:
    """A run folder.

    Args:
        path: its path.

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
        """The name of the folder."""
        return self.path.resolve().name

    @property
    def checkpoint(self) -> Path:
        """The file of the last checkpoint."""
        return self.path / "checkpoint" / "last.safetensors"

    @property
    def best(self) -> Path:
        """The file of the best model so far, with early stopping."""
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
        """Create this folder for a new run, or check that it holds the same run.

        Args:
            about: the content of `config.json`, to which the environment is added.
            resume: whether the run is resumed.

        Raises:
            InputError: if a new run would overwrite something, or a resumed one does not exist or
                has other options or data.
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
            InputError: if their checksum differs from that in `config.json`.
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
        """Warnings about the model at the end of training."""
        lines = [warning for line in self.metrics()[-2:] for warning in line.get("warnings", [])]
        return list(dict.fromkeys(lines))

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of `metrics.jsonl`, without a last one that a crash has truncated."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        try:
            return [json.loads(line) for line in lines if line.endswith("\n")]
        except ValueError as error:
            raise InputError(f"{str(path)!r} has a line that is not JSON ({error})") from None

    @property
    def last(self) -> dict[str, Any]:
        """The last line of `metrics.jsonl`; in a finished run it has the final figures.

        Raises:
            InputError: if there is none.
        """
        lines = self.metrics()
        if not lines:
            raise InputError(f"{str(self.path / 'metrics.jsonl')!r} is missing or empty")
        return lines[-1]

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Add a line to `metrics.jsonl`."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def rewind_metrics(self, step: int) -> None:
        """Drop the lines after `step` and the final one, which a resumed run writes again."""
        kept = [line for line in self.metrics() if line["step"] <= step and not line["final"]]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomic(self.path / "metrics.jsonl", text.encode())

    def model(self) -> "Autoencoder":
        """Return the trained model, on the CPU and in evaluation mode.

        Raises:
            InputError: if training has not ended, or the file is damaged.
        """
        from lorae.nn.serialization import load

        if not self.finished:
            raise InputError(
                f"run {str(self.path)!r} has no model yet: its training has not ended "
                f"(continue it with: lorae train --resume {self.path})"
            )
        return load(self.path)


def check_output_file(out: Path) -> Path:
    """Return a path to write to, unless it is one of the files that make up a run.

    Raises:
        InputError: if it is, since it would be lost.
    """
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
