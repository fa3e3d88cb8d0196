"""The command that trains one model with several seeds and weights: `lorae sweep`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from lorae.cli.output import print_answer
from lorae.cli.parsing import Given, Json
from lorae.data.registry import check_source
from lorae.errors import InputError
from lorae.training.options import Options
from lorae.utils.validation import check_range


@dataclass(frozen=True)
class Sweep:
    """Train one model with several seeds and weights, and write a run folder for each."""

    options: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=Options)
    """The model, the data and how to train."""
    seeds: tuple[int, ...] = ()
    """Seeds to train with; that of --seed by default."""
    weights: tuple[float, ...] = ()
    """Weights lambda to train with, each with every seed; that of --weight by default."""
    out: Path | None = None
    """Folder of the run folders, new or empty; runs/DATA-MODEL-sweep by default."""
    resume: Path | None = None
    """Resume the stopped sweep in this folder with its original options."""
    processes: int | None = None
    """Number of processes, which share the cores; by default one for each core, or a single one
    with a GPU."""
    as_json: Json = False
    given: Given = frozenset()

    def __call__(self) -> None:
        """Train, then print error and ranks of each run on the test samples."""
        self.options.check()
        check_range("processes", self.processes, 1)
        resume = self.resume is not None
        if not resume:
            check_source(self.options.data)
        elif given := ", ".join(sorted(self.given - {"resume", "json", "processes"})):
            raise InputError(f"a sweep is resumed with its own options: do not give {given}")

        from lorae.training.evaluation import summary
        from lorae.training.run_folder import free_folder
        from lorae.training.sweep import grid, read_sweep, train_sweep

        if self.resume is None:
            members = grid(self.options, self.seeds, self.weights)
            name = f"{Path(self.options.data).stem}-{self.options.model}-sweep"
            out = self.out or free_folder(name)
        else:
            members, out = read_sweep(self.resume), self.resume
        runs = train_sweep(members, out, resume=resume, processes=self.processes)
        if self.as_json:
            print_answer([{"run": str(run.path)} | run.last["test"] for run in runs])
        else:
            print_answer(summary(runs))
            print_answer(f"run folders: {out} (next: lorae report {out}/*)")
