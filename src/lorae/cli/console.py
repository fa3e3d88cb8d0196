"""The command `lorae`: one dataclass a command, its fields the options.

Answers go to standard output, as text or with `--json` as JSON; progress goes to standard error.
The exit status is 0, or 2 after input that its sender can mend (one sentence, no traceback), or
128 plus the number of the signal that stopped a training.
"""

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from lorae.cli.demo import Demo
from lorae.cli.evaluate import Classify, Evaluate, Fid
from lorae.cli.export import Export, Fold
from lorae.cli.output import Json, tell
from lorae.cli.path import PathCommand
from lorae.cli.reproduce import Reproduce
from lorae.cli.sample import Interpolate, Sample
from lorae.data import datasets as data
from lorae.errors import InputError, Interrupted
from lorae.objectives.registry import METHODS
from lorae.training.evaluation import Evaluation, evaluate, ranks, summary
from lorae.training.options import Options, data_of
from lorae.training.run_folder import Run, free_folder, check_output_file
from lorae.utils.distributed import is_main


@dataclass(frozen=True)
class Train:
    """Train a model on data and leave a run folder."""

    options: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=Options)
    """What to train on what, and how."""
    out: Path | None = None
    """Run folder, new or empty; runs/DATA-MODEL by default."""
    resume: Path | None = None
    """Go on with the stopped run in this folder, with its own options."""
    as_json: Json = False
    """Print the answer as JSON."""

    def __call__(self) -> None:
        """Train, and say what came of it."""
        from lorae.training.train import train

        options = self.options
        if self.resume is not None:
            if self.out is not None:
                raise InputError(f"give out or resume, not both (got {self.out} and {self.resume})")
            options = _resumed(Run.open(self.resume), options)
        run = train(options, self.resume or self.out, resume=self.resume is not None)
        if not is_main():
            return
        final = run.last
        if self.as_json:
            tell({"run": str(run.path), "step": final["step"]} | final["test"])
        else:
            tell(summary([run]))
            tell(f"run folder: {run.path} (next: lorae report {run.path})")


@dataclass(frozen=True)
class Sweep:
    """Train one model with several seeds and weights at once, and leave a run folder of each."""

    options: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=Options)
    """What to train on what, and how."""
    seeds: tuple[int, ...] = ()
    """Seeds, each of which is trained; by default the one of --seed."""
    weights: tuple[float, ...] = ()
    """Weights lambda, each of which is trained with every seed; by default that of --weight."""
    out: Path | None = None
    """Folder of the run folders, new or empty; runs/DATA-MODEL-sweep by default."""
    resume: Path | None = None
    """Go on with the stopped sweep in this folder, with its own options."""
    as_json: Json = False
    """Print the answer as JSON."""

    def __call__(self) -> None:
        """Train, and say what came of each."""
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
            tell([{"run": str(run.path)} | run.last["test"] for run in runs])
        else:
            tell(summary(runs))
            tell(f"run folders: {out} (next: lorae report {out}/*)")


@dataclass(frozen=True)
class Spectrum:
    """Print the rank of a run's latent space, by every definition."""

    run: tyro.conf.Positional[Path]
    """Run folder of a finished training."""
    as_json: Json = False
    """Print the answer as JSON, singular values included."""

    def __call__(self) -> None:
        """Evaluate the model on the test samples of its data."""
        run = Run.open(self.run)
        model = run.model()
        found = evaluate(model, data_of(run).test)
        answer = ranks(found, matrix=model.bridge.learns_matrix)
        tell(answer if self.as_json else _rank_table(found, answer))


@dataclass(frozen=True)
class Report:
    """Write one HTML file about one or several runs, which opens offline."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of finished trainings."""
    out: Path | None = None
    """File to write; report.html in the first run's folder by default."""

    def __call__(self) -> None:
        """Write the report and print its path."""
        from lorae.report.report import write_report

        if not self.runs:
            raise InputError("report needs the folder of at least one run, got none")
        runs = [Run.open(path) for path in self.runs]
        out = check_output_file(self.out or runs[0].path / "report.html")
        tell(str(write_report(runs, out)))


@dataclass(frozen=True)
class Models:
    """List the models, each with its settings and their defaults."""

    as_json: Json = False
    """Print the answer as JSON, with what each is for and where it comes from."""

    def __call__(self) -> None:
        """Print a line for each."""
        if self.as_json:
            tell([{"name": name} | row.about() for name, row in METHODS.items()])
            return
        width = max(map(len, METHODS))
        for name, row in METHODS.items():
            settings = row.format_settings()
            tell(f"{name:{width}}  {row.summary}{f' ({settings})' if settings else ''}")


@dataclass(frozen=True)
class List:
    """List the named data sets."""

    as_json: Json = False
    """Print the answer as JSON."""

    def __call__(self) -> None:
        """Print a row for each."""
        rows = [
            {
                "name": name,
                "about": row.description,
                "source": row.source,
                "download_bytes": row.download,
                "ready": data.cached(name),
            }
            for name, row in data.DATASETS.items()
        ]
        if self.as_json:
            tell(rows)
            return
        for row in rows:
            bytes_ = row["download_bytes"]
            missing = f"{bytes_} bytes to download" if bytes_ else "not here"
            state = "ready" if row["ready"] else missing
            tell(f"{row['name']:8} {row['about']} ({row['source']}; {state})")


@dataclass(frozen=True)
class Fetch:
    """Download a named data set into the cache (LORAE_DATA, or the platform's cache folder)."""

    name: tyro.conf.Positional[str]
    """Name of the set, as in `lorae data list`."""

    def __call__(self) -> None:
        """Fetch it and print where it lies."""
        tell(str(data.fetch(self.name)))


@dataclass(frozen=True)
class DataCommand:
    """List or fetch the named data sets."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[List, tyro.conf.subcommand("list")]
        | Annotated[Fetch, tyro.conf.subcommand("fetch")]
    ]

    def __call__(self) -> None:
        """Do what was asked."""
        self.command()


Command = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Sweep, tyro.conf.subcommand("sweep")]
    | Annotated[Spectrum, tyro.conf.subcommand("spectrum")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[PathCommand, tyro.conf.subcommand("path")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Interpolate, tyro.conf.subcommand("interpolate")]
    | Annotated[Fold, tyro.conf.subcommand("fold")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Classify, tyro.conf.subcommand("classify")]
    | Annotated[Fid, tyro.conf.subcommand("fid")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[Models, tyro.conf.subcommand("models")]
    | Annotated[DataCommand, tyro.conf.subcommand("data")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    try:
        command = tyro.cli(
            Command,
            prog="lorae",
            description="Autoencoders that find their own latent dimension.",
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
        )
        command()
    except InputError as error:
        return _failed(str(error), 2)
    except Interrupted as stopped:
        return _failed(str(stopped), 128 + stopped.signal)
    except KeyboardInterrupt:
        return _failed("stopped", 130)
    except BrokenPipeError:  # the reader has gone: spare the interpreter its last flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = "" if error.filename is None else f" {str(error.filename)!r}"
        return _failed(f"cannot use{where}: {error.strerror or error}", 2)
    return 0


def _failed(message: str, status: int) -> int:
    print(f"lorae: {message}", file=sys.stderr)
    return status


def _resumed(run: Run, given: Options) -> Options:
    """Return the options of a run under those given now, which training will compare with it."""
    names = [field.name for field in dataclasses.fields(Options)]
    default = Options()
    changed = {n: getattr(given, n) for n in names if getattr(given, n) != getattr(default, n)}
    if "epochs" in changed:  # a run knows its steps only
        changed = {"steps": None} | changed
    if "model" in changed:  # another model's options are its own
        changed = {"weight": None, "settings": {}} | changed
    return dataclasses.replace(Options.from_dict(run.options), **changed)


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
                raise InputError(f"a sweep must name each seed and weight once, got {name} twice")
            members[name] = dataclasses.replace(options, seed=seed, weight=weight)
    return members


_SUMMARIES = ("effective_rank", "participation_ratio", "stable_rank")


def _rank_table(found: Evaluation, answer: dict[str, Any]) -> str:
    """Return the ranks of an evaluation as lines of text; M has a column where there is one."""
    shown = {"covariance of codes": answer["covariance"], "matrix M": answer["matrix"]}
    shown = {title: part for title, part in shown.items() if part is not None}
    cells = [("singular values above", list(shown))]
    for threshold in answer["covariance"]["rank"]:
        ranked = [str(part["rank"][threshold]) for part in shown.values()]
        cells.append((f"  {threshold} of the largest", ranked))
    for name in _SUMMARIES[: 1 + len(shown)]:
        told = [f"{part[name]:.2f}" if name in part else "" for part in shown.values()]
        cells.append((name.replace("_", " "), told))
    rows = [
        (
            f"{name:25}" + " ".join(f"{c:>{len(t)}}" for c, t in zip(row, shown, strict=True))
        ).rstrip()
        for name, row in cells
    ]
    rows.append(f"latent dimension {len(found.covariance)}; codes of {found.samples} test samples")
    rows.append(
        "no reconstruction: the codes are the features of a critic"
        if found.reconstruction is None
        else f"reconstruction error {found.reconstruction:.6f} (mean square, scaled units)"
    )
    if found.spread is not None:
        rows.append(f"variance of samples from the prior {found.spread:.4f} of the data's")
    rows += [f"warning: {warning}" for warning in found.warnings]
    return "\n".join(rows)
