"""The command that computes the error at each rank: `lorae path`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from lorae.cli.output import print_answer, show_warnings
from lorae.cli.parsing import Given, Json
from lorae.data.registry import DATASETS, check_source
from lorae.errors import InputError
from lorae.training.options import DataOptions
from lorae.utils.validation import check_range

if TYPE_CHECKING:
    from collections.abc import Callable

    from lorae.data.datasets import Data
    from lorae.estimator.path import RankPath, SeededPath
    from lorae.nn.autoencoder import Autoencoder

FILE = ".path.json"
"""The options of the path in a folder."""
_FREE = {"out", "resume", "as_json", "given", "processes"}


@dataclass(frozen=True)
class PathCommand(DataOptions):
    """Train a model of each rank, and write the models and their errors beside those of PCA.

    Only the training samples are used. With several seeds, errors have intervals, and each seed has
    a folder of models. --resume continues a stopped path without training finished ranks again.
    """

    out: Path | None = None
    """New folder for path.json, path.svg and a model for each rank; runs/DATA-path by default."""
    ranks: tuple[int, ...] = ()
    """Decreasing ranks; by default each is about a fifth less than the one before, from 64."""
    width: float = 1.0
    """Factor on the hidden widths of the networks."""
    steps: int | None = None
    """Most optimizer steps of each training; by default 10 epochs, but 1,000 to 10,000 steps."""
    batch_size: int = 100
    """Samples in a step."""
    learning_rate: float = 3e-3
    """Step size of Adam."""
    validation: float = 0.1
    """Share of the training samples held out to measure the errors, 0 to 0.5."""
    features: str | None = None
    """Also measure the distance of generated to held-out images for each model, in features of
    inception or classifier; off by default."""
    samples: int = 1000
    """Number of images generated for that distance."""
    seeds: tuple[int, ...] = ()
    """Seeds to repeat the path with, for intervals of the errors."""
    device: str = "auto"
    """Device: auto, cpu, cuda or mps."""
    processes: int | None = None
    """Number of processes for several seeds; by default one for each core, or a single one with a
    GPU."""
    resume: Path | None = None
    """Resume the stopped path in this folder with its original options."""
    as_json: Json = False
    given: Given = frozenset()

    def __call__(self) -> None:
        """Compute, write and print the path or paths."""
        if "resume" in self.given:
            _resumed(self)()
            return
        if self.seeds and self.features:
            raise InputError("give seeds or features, not both")
        self.check_reading()
        check_range("seed", self.seed, 0)
        check_range("processes", self.processes, 1)
        check_source(self.data)

        from sklearn.exceptions import ConvergenceWarning

        from lorae.report.rank_paths import plot_path
        from lorae.training.progress import print_notes
        from lorae.training.run_folder import free_folder
        from lorae.utils.files import check_new_folder
        from lorae.utils.records import write_record

        data = self.load()
        out = self.resume or self.out or free_folder(f"{data.name}-path")
        if self.resume is None:
            check_new_folder(out)
            write_record(out / FILE, self._saved(), new=True)
        print_notes(data.name, data.notes)
        with show_warnings(ConvergenceWarning):
            try:
                path = self._compute(data, out)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"continue with: lorae path --resume {out}") from None
        about = path.to_dict() | {"data": data.checksum, "notes": data.notes}
        plot_path(path, data).save(out / "path.svg")
        write_record(out / "path.json", about if self.seeds else {"seed": self.seed} | about)
        if self.as_json:
            print_answer(path.to_dict() | {"folder": str(out)})
        else:
            print_answer(path.table())
            print_answer(f"models, path.json and path.svg in {out} (next: lorae explore {out})")

    def _compute(self, data: "Data", out: Path) -> "RankPath | SeededPath":
        """Compute the path of one seed or the paths of several, and keep their models."""
        from lorae.estimator.path import lorae_path, lorae_paths
        from lorae.training.sweep import process_count

        common: dict[str, Any] = {
            "folder": out,
            "standardize": data.is_table,  # columns have units of their own
            "ranks": self.ranks or None,
            "validation_fraction": self.validation,
        } | {
            name: getattr(self, name)
            for name in ("width", "steps", "batch_size", "learning_rate", "device")
        }
        if self.seeds:
            count = process_count(self.processes, len(self.seeds))
            jobs = count if count > 1 else None
            return lorae_paths(data.train, seeds=self.seeds, n_jobs=jobs, **common)
        distance = self._distance(data)
        return lorae_path(data.train, distance=distance, random_state=self.seed, **common)

    def _saved(self) -> dict[str, Any]:
        """Return the options that a resumed path takes over."""
        fields = {k: v for k, v in dataclasses.asdict(self).items() if k not in _FREE}
        data = self.data if self.data in DATASETS else str(Path(self.data).expanduser().resolve())
        return fields | {"data": data}

    def _distance(self, data: "Data") -> "Callable[[Autoencoder], float] | None":
        """Return what measures a model's samples, drawn from a Gaussian of its training codes."""
        if self.features is None:
            return None
        if not data.is_image:
            raise InputError(f"features must be left out unless data are images, got {data.name!r}")
        from lorae.metrics.protocol import Protocol
        from lorae.metrics.scores import generation
        from lorae.metrics.subject import Subject, build_extractor

        protocol = Protocol(
            samples=self.samples, repeats=1, seed=self.seed, densities=("gaussian",)
        )
        extractor = build_extractor(self.features, data)

        def measure(model: "Autoencoder") -> float:
            subject = Subject(model.cpu().eval(), data, protocol, extractor)
            return next(iter(generation(subject))).values[0]

        return measure


def _resumed(command: PathCommand) -> PathCommand:
    """Return the command that started the path in a folder."""
    if given := sorted(command.given - {"resume", "json", "processes"}):
        raise InputError(f"a path is resumed with its own options: do not give {', '.join(given)}")
    assert command.resume is not None
    return dataclasses.replace(command, given=frozenset(), **read_options(command.resume))


def read_options(folder: Path) -> dict[str, Any]:
    """Return the options of the path in a folder."""
    from lorae.utils.records import check_json, read_record

    if not (folder / FILE).is_file():
        raise InputError(f"there is no path at {str(folder)!r}: it holds no {FILE}")
    saved = read_record(folder / FILE, dict[str, Any])
    hints = {k: v for k, v in get_type_hints(PathCommand).items() if k not in _FREE}
    options: dict[str, Any] = {}
    for name, hint in hints.items():
        check_json({name: saved.get(name)}, dict[str, hint], str(folder / FILE))  # type: ignore[valid-type]
        options[name] = tuple(x) if isinstance(x := saved[name], list) else x
    return options
