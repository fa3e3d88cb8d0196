"""The commands that list models, data sets and runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from lorae.cli.output import print_answer
from lorae.cli.parsing import Json
from lorae.errors import InputError
from lorae.utils.text import format_table

if TYPE_CHECKING:
    from lorae.training.run_folder import Run


@dataclass(frozen=True)
class Models:
    """List the models with their settings and defaults."""

    as_json: Json = False
    """Print the answer as JSON, with the purpose and reference of each model."""

    def __call__(self) -> None:
        """Print one line per model."""
        from lorae.objectives.registry import METHODS

        if self.as_json:
            print_answer([{"name": name} | row.about() for name, row in METHODS.items()])
            return
        rows = []
        for name, method in METHODS.items():
            settings = method.format_settings()
            rows.append((name, f"{method.summary} ({settings})" if settings else method.summary))
        print_answer(format_table(rows, align="l"))


@dataclass(frozen=True)
class List:
    """List the named data sets."""

    as_json: Json = False

    def __call__(self) -> None:
        """Print one line per data set."""
        from lorae.data.registry import DATASETS, cached

        if self.as_json:
            rows = [
                {"name": name, "about": row.description, "source": row.source}
                | {"download_bytes": row.download, "ready": cached(name)}
                for name, row in DATASETS.items()
            ]
            print_answer(rows)
            return
        lines = []
        for name, row in DATASETS.items():
            missing = f"{row.download / 1e6:.0f} MB to download" if row.download else "missing"
            state = "ready" if cached(name) else missing
            lines.append((name, f"{row.description} ({row.source}; {state})"))
        print_answer(format_table(lines, align="l"))


@dataclass(frozen=True)
class Fetch:
    """Download a named data set into the cache (LORAE_DATA, or the platform's cache folder)."""

    name: tyro.conf.Positional[str]
    """Name of the data set, as in `lorae data list`."""

    def __call__(self) -> None:
        """Download the data set and print the path of its files."""
        from lorae.data.registry import fetch

        print_answer(str(fetch(self.name)))


@dataclass(frozen=True)
class DataCommand:
    """List or download the named data sets."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[List, tyro.conf.subcommand("list")]
        | Annotated[Fetch, tyro.conf.subcommand("fetch")]
    ]

    def __call__(self) -> None:
        """Run the command."""
        self.command()


@dataclass(frozen=True)
class Runs:
    """List the run folders below a folder, with their errors and ranks."""

    folder: tyro.conf.Positional[Path] = Path("runs")
    """Folder to search, at any depth."""
    as_json: Json = False

    def __call__(self) -> None:
        """Print one line per run, in the order of their paths."""
        from lorae.training.run_folder import Run

        if not self.folder.is_dir():
            raise InputError(f"folder must exist, got {str(self.folder)!r}")
        paths = sorted(path.parent for path in self.folder.rglob("config.json"))
        rows = [_describe_run(Run(path)) for path in paths]
        if self.as_json:
            print_answer(rows)
        elif not rows:
            print_answer(f"there are no runs in {self.folder}")
        else:
            header = ("run", "data", "model", "steps", "test error", "rank at 1e-2", "")
            print_answer(format_table([_format_run(row) for row in rows], header, align="lllrrrl"))


def _describe_run(run: "Run") -> dict[str, Any]:
    """Return what a run folder says about its run, as values that JSON can hold."""
    about: dict[str, Any] = {"run": str(run.path), "state": "damaged"}
    try:
        options, lines = run.options, run.metrics()
    except InputError as error:
        return about | {"problem": str(error)}
    test = lines[-1].get("test", {}) if lines else {}
    return about | {
        "state": "finished" if run.finished else "stopped",
        "data": options["data"],
        "model": options["model"],
        "step": lines[-1]["step"] if lines else 0,
        "steps": options["steps"],
        "error": test.get("reconstruction"),
        "rank": test.get("rank"),
    }


def _format_run(row: dict[str, Any]) -> tuple[str, ...]:
    if row["state"] == "damaged":
        return (row["run"], "", "", "", "", "", f"damaged: {row['problem']}")
    error = "" if row["error"] is None else f"{row['error']:.6f}"
    rank = "" if row["rank"] is None else str(row["rank"])
    whole = row["state"] == "finished"
    steps = str(row["step"]) if whole else f"{row['step']} of {row['steps']}"
    name = Path(str(row["data"])).name
    return (row["run"], name, row["model"], steps, error, rank, "" if whole else "stopped")
