"""The command that trains a model: `lorae train`."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from lorae.cli.output import Json, print_answer
from lorae.data.registry import check_source
from lorae.errors import InputError
from lorae.training.options import Options


@dataclass(frozen=True)
class Train:
    """Train a model on a data set and write a run folder."""

    options: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=Options)
    """The model, the data and how to train."""
    out: Path | None = None
    """Run folder, new or empty; runs/DATA-MODEL by default."""
    resume: Path | None = None
    """Resume the stopped run in this folder with the options that it was started with."""
    as_json: Json = False
    """Print the answer as JSON."""
    given: tyro.conf.Suppress[frozenset[str]] = frozenset()
    """Names of the options that were written out."""

    def __call__(self) -> None:
        """Train, then print error and ranks on the test samples."""
        options = self.options
        options.check()
        if self.resume is None:
            check_source(options.data)
        elif self.out is None:
            options = resumed_options(self.resume, options, self.given)
        else:
            raise InputError(f"give out or resume, not both (got {self.out} and {self.resume})")

        from lorae.training.evaluation import summary
        from lorae.training.train import train
        from lorae.utils.distributed import is_main

        run = train(options, self.resume or self.out, resume=self.resume is not None)
        if not is_main():
            return
        if self.as_json:
            final = run.last
            print_answer({"run": str(run.path), "step": final["step"]} | final["test"])
        else:
            print_answer(summary([run]))
            print_answer(f"run folder: {run.path} (next: lorae report {run.path})")


def resumed_options(run: Path, options: Options, given: frozenset[str]) -> Options:
    """Return the saved options of a run, changed by those that were given with `--resume`.

    Training compares them with the saved ones and refuses a change that would make another run.
    """
    from lorae.training.run_folder import Run

    fields = {f.name for f in dataclasses.fields(Options)}
    changed = {name: getattr(options, name) for name in fields & given}
    if "epochs" in changed:  # a run only saves its steps
        changed["steps"] = None
    if "model" in changed:  # weight and settings of another model do not apply
        changed = {"weight": None, "settings": {}} | changed
    return dataclasses.replace(Options.from_dict(Run.open(run).options), **changed)
