"""The commands that list what there is: models, data."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from lorae.cli.output import Json, print_answer
from lorae.utils.text import format_table


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
    """Print the answer as JSON."""

    def __call__(self) -> None:
        """Print one line per data set."""
        from lorae.data.registry import DATASETS, cached

        rows = [
            {
                "name": name,
                "about": row.description,
                "source": row.source,
                "download_bytes": row.download,
                "ready": cached(name),
            }
            for name, row in DATASETS.items()
        ]
        if self.as_json:
            print_answer(rows)
            return
        for row in rows:
            size = row["download_bytes"]
            state = "ready" if row["ready"] else f"{size} bytes to download" if size else "missing"
            print_answer(f"{row['name']:8} {row['about']} ({row['source']}; {state})")


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
