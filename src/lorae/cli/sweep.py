"""The command that trains one model with several seeds and weights: `lorae sweep`."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from lorae.cli.output import Json, print_answer
from lorae.data.registry import check_source
from lorae.errors import InputError
from lorae.training.options import Options


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
    """Resume the stopped sweep in this folder with the options that it was started with."""
    as_json: Json = False
    """Print the answer as JSON."""
    given: tyro.conf.Suppress[frozenset[str]] = frozenset()
    """Names of the options that were written out."""

    def __call__(self) -> None:
        """Train, then print error and ranks of each run on the test samples."""
        self.options.check()
        check_source(self.options.data)

        from lorae.training.evaluation import summary
        from lorae.training.run_folder import free_folder
        from lorae.training.train import train

        if self.resume is None:
            out = self.out or free_folder(
                f"{Path(self.options.data).stem}-{self.options.model}-sweep"
            )
            members = grid(self.options, self.seeds, self.weights)
        else:
            raise InputError("sweeps cannot be resumed")
        runs = [train(options, out / name) for name, options in members.items()]
        if self.as_json:
            print_answer([{"run": str(run.path)} | run.last["test"] for run in runs])
        else:
            print_answer(summary(runs))
            print_answer(f"run folders: {out} (next: lorae report {out}/*)")


def grid(
    options: Options, seeds: Sequence[int] = (), weights: Sequence[float] = ()
) -> dict[str, Options]:
    """Return the options of a sweep by the names of their runs: every weight with every seed.

    Example:
        >>> list(grid(Options(), seeds=(0, 1), weights=(1e-3,)))
        ['weight-0.001-seed-0', 'weight-0.001-seed-1']
    """
    members: dict[str, Options] = {}
    for weight in weights or (options.weight,):
        for seed in seeds or (options.seed,):
            name = f"seed-{seed}"
            if weights and weight is not None:
                name = f"weight-{float(weight)}-{name}"
            if name in members:
                raise InputError(f"seeds and weights must be distinct, got {name} twice")
            members[name] = dataclasses.replace(options, seed=seed, weight=weight)
    return members
