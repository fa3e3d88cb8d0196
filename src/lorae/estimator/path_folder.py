"""The folder of a path: the model of each rank and its figures, written as soon as it is trained.

A point counts once its figures are written, after its model; both have checksums, and the figures
a key of the samples and arguments. So a path that was killed goes on with the next rank.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from lorae.data.arrays import checksum
from lorae.errors import InputError
from lorae.estimator.inputs import to_array
from lorae.nn.serialization import load
from lorae.utils.records import read_record, write_record
from lorae.utils.tensor_files import read_checksum

if TYPE_CHECKING:
    from lorae.estimator.path import PathPoint


class PointRecord(TypedDict):
    """The figures of a point, in a file."""

    key: str
    model: str
    rank: int
    error: float
    standard_error: float
    pca_error: float
    seconds: float
    distance: float | None


@dataclass(frozen=True)
class PathFolder:
    """Points of a path in a folder.

    Args:
        path: the folder.
        key: a digest of the samples and the arguments.
    """

    path: Path
    key: str

    @classmethod
    def of(cls, path: Path, X: Any, arguments: dict[str, Any]) -> "PathFolder":
        """Return the folder of a path of some samples and arguments."""
        decisive = {k: v for k, v in arguments.items() if k not in ("device", "verbose")}
        values = checksum({"X": np.asarray(to_array(X))})
        text = values + json.dumps(decisive, default=repr, sort_keys=True)
        return cls(path, hashlib.blake2b(text.encode(), digest_size=16).hexdigest())

    def read(self, rank: int) -> dict[str, Any] | None:
        """Return the figures of a rank with its model, or None if there are none yet.

        Raises:
            InputError: if they are damaged, or of other samples or arguments.
        """
        file = self._figures(rank)
        if not file.is_file():
            return None
        figures: dict[str, Any] = read_record(file, PointRecord)
        if figures.pop("key") != self.key:
            raise InputError(f"{str(file)!r} is of a path of other samples or options")
        model = load(self._model(rank))
        if read_checksum(self._model(rank)) != figures.pop("model"):
            raise InputError(f"{str(self._model(rank))!r} is not the model of this path")
        return figures | {"model": model}

    def write(self, point: "PathPoint") -> None:
        """Write a point: its model, and then its figures."""
        point.model.cpu().save(self._model(point.rank))
        names = [field.name for field in dataclasses.fields(point) if field.name != "model"]
        figures = {name: getattr(point, name) for name in names}
        about = {"key": self.key, "model": read_checksum(self._model(point.rank))}
        write_record(self._figures(point.rank), about | figures)

    def _model(self, rank: int) -> Path:
        return self.path / f"rank-{rank:03}.safetensors"

    def _figures(self, rank: int) -> Path:
        return self.path / f"rank-{rank:03}.json"
