"""The command that trains a model: `lorae train`."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from lorae.cli.output import print_answer
from lorae.cli.parsing import Given, Json
from lorae.data.registry import check_source
from lorae.errors import InputError
from lorae.training.options import Options, options_of
from lorae.utils.files import read_json


@dataclass(frozen=True)
class Train:
    """Train a model on a data set and write a run folder."""

    options: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=Options)
    """The model, the data and how to train."""
    out: Path | None = None
    """Run folder, new or empty; runs/DATA-MODEL by default."""
    resume: Path | None = None
    """Resume the stopped run in this folder with its original options, or continue a finished one
    with more --steps."""
    config: Path | None = None
    """Take the options from the config.json of a run; options on the command line override them."""
    dry_run: bool = False
    """Print the resolved options and an estimate of the training time, without training."""
    as_json: Json = False
    given: Given = frozenset()

    def __call__(self) -> None:
        """Train, then print error and ranks on the test samples."""
        options = self._resolve()

        from lorae.training.evaluation import summary
        from lorae.training.train import train
        from lorae.utils.distributed import is_main

        if self.dry_run:
            self._estimate(options)
            return
        run = train(options, self.resume or self.out, resume=self.resume is not None)
        if not is_main():
            return
        if self.as_json:
            final = run.last
            print_answer({"run": str(run.path), "step": final["step"]} | final["test"])
        else:
            print_answer(summary([run]))
            print_answer(f"run folder: {run.path} (next: lorae report {run.path})")

    def _resolve(self) -> Options:
        """Return the options that were given, or saved ones changed by those.

        Training compares those of a resumed run with the saved ones, and refuses a change that
        would make another run.
        """
        options = self.options if self.config is None else self._saved(self.config)
        options.check()
        if self.resume is None:
            check_source(options.data)
            return options
        if self.config is not None:
            raise InputError("give config or resume, not both: a run has its own config.json")
        if self.out is not None:
            raise InputError(f"give out or resume, not both (got {self.out} and {self.resume})")
        from lorae.training.run_folder import Run

        return self._change(options_of(Run.open(self.resume)))

    def _saved(self, file: Path) -> Options:
        content = read_json(file)
        if not isinstance(content, dict) or not isinstance(content.get("options"), dict):
            raise InputError(f"config must be the config.json of a run, got {str(file)!r}")
        try:
            return self._change(Options.from_dict(content["options"]))
        except InputError as error:
            raise InputError(f"config {str(file)!r} does not fit: {error}") from None

    def _change(self, saved: Options) -> Options:
        names = {f.name for f in dataclasses.fields(Options)} & self.given
        changed = {name: getattr(self.options, name) for name in names}
        if "epochs" in changed:  # a run only saves its steps
            changed["steps"] = None
        if "model" in changed:  # weight and settings of another model do not apply
            changed = {"weight": None, "settings": {}} | changed
        return dataclasses.replace(saved, **changed)

    def _estimate(self, options: Options) -> None:
        """Print the resolved options and the time that training would take."""
        from lorae.training.train import notes, time_step
        from lorae.utils.text import format_duration, format_table

        data = options.load()
        resolved = options.resolve(data)
        assert resolved.steps is not None
        each = time_step(resolved, data)
        seconds, fields = resolved.steps * each, dataclasses.asdict(resolved)
        if self.as_json:
            print_answer({"options": fields, "seconds_per_step": each, "seconds": seconds})
            return
        rows = [(name, value) for name, value in fields.items() if value not in (None, {})]
        print_answer(format_table(rows, align="l"))
        for note in notes(resolved, data, options):
            print_answer(f"note: {note}")
        print_answer(
            f"{resolved.steps:,} steps of {1000 * each:.3g} ms take about "
            f"{format_duration(seconds)} here, evaluations not counted"
        )
