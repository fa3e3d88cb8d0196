"""Results of a reproduction: a JSON file and pictures for each recipe, and one page.

The page is made only from the JSON files, of every scale and protocol in the folder, so results
of one machine stay when another adds its own. "notes" in a file say what its figures rest on where
the recipe has changed since.
"""

import os
import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lorae.paper.queue import Cell, Queue
from lorae.paper.recipe import Entry, Key, Plan, Recipe, Table
from lorae.paper.recipes import RECIPES
from lorae.paper.scales import SCALES
from lorae.utils.files import read_json, write_atomic, write_json

PAGE = "RESULTS.md"
_LAST = "smoke"  # last, because its figures mean nothing


def folder_name(scale: str, protocol: str) -> str:
    """Return the name of the folder of the results at a scale by a protocol."""
    return scale + ("" if protocol == "lorae" else f"-{protocol}")


def write(out: Path, recipe: Recipe, plan: Plan, queue: Queue) -> Path:
    """Write the JSON and the pictures of a recipe, and return the path of the JSON.

    A stored table stays if it has more figures than the new one of the same name, and so do stored
    pictures that were not made anew: results of one data set survive those of another.
    """
    cells = recipe.cells(plan)
    records = {key: record for key, cell in cells.items() if (record := queue.record(cell))}
    target = out / folder_name(plan.scale.name, plan.protocol) / f"{recipe.name}.json"
    page = recipe.page(plan, {key: record["result"] for key, record in records.items()})
    content = _about(recipe, plan, cells, records) | {
        "tables": [table.to_dict() for table in page.tables],
        "images": [[{"name": i.name, "alt": i.alt} for i in row] for row in page.images],
        "words": list(page.words),
    }
    if target.is_file():
        content = _merge(content, read_json(target))
    for row in page.images:
        for image in row:
            if any(image.name == one["name"] for names in content["images"] for one in names):
                write_atomic(target.with_name(image.name), image.content)
    write_json(target, content)
    return target


def _merge(new: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """Return new results with the stored tables and pictures that say more than they do."""
    if not new["seconds"] and stored["seconds"]:
        return stored
    tables = {one["corner"]: one for one in stored["tables"]}
    kept = [one for one in new["tables"] if _figures(tables.get(one["corner"])) > _figures(one)]
    named = {image["name"] for row in new["images"] for image in row}
    images = [row for row in stored["images"] if not named & {image["name"] for image in row}]
    if not kept and not images:
        return new
    names = {one["corner"] for one in kept}
    return new | {
        "tables": [
            tables[one["corner"]] if one["corner"] in names else one for one in new["tables"]
        ],
        "images": [*new["images"], *images],
        "seconds": stored["seconds"] | new["seconds"],
        "words": list(dict.fromkeys([*new["words"], *stored["words"]])),
        "commits": sorted({*stored["commits"], *new["commits"]}),
        "data": sorted({*stored["data"], *new["data"]}),
    }


def _figures(table: Mapping[str, Any] | None) -> int:
    """Return how many values a table has."""
    rows = {} if table is None else table["rows"]
    entries = (entry for row in rows.values() for entry in row.values())
    return sum(value is not None for entry in entries for value in entry["values"])


def _about(
    recipe: Recipe, plan: Plan, cells: Mapping[Key, Cell], records: Mapping[Key, dict[str, Any]]
) -> dict[str, Any]:
    """Return the origin of a recipe's results: plan, cost, commits, data and machine."""
    named = {"/".join(map(str, key)): record for key, record in records.items()}
    failed = {
        name: record["result"]["failed"]
        for name, record in named.items()
        if "failed" in record["result"]
    }
    return {
        "recipe": recipe.name,
        "title": recipe.title,
        "claim": recipe.claim,
        "scale": plan.scale.name,
        "about": plan.scale.about,
        "protocol": plan.protocol,
        "seeds": list(plan.seeds),
        "cells": len(cells),
        "seconds": {name: record["seconds"] for name, record in named.items()},
        "failed": failed,
        "commits": sorted({str(record["commit"]) for record in records.values()}),
        "data": sorted({str(r["data"]) for r in records.values() if r["data"] is not None}),
        "machine": machine() if records else None,
        "environment": next((r["environment"] for r in records.values()), None),
    }


def machine() -> dict[str, Any]:
    """Return the processor, the number of cores and the names of the GPUs."""
    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return {"processor": platform.machine(), "cores": os.cpu_count(), "gpus": gpus}


def write_page(out: Path) -> Path:
    """Write the page of all results in a folder, and return it."""
    stored = {
        name: [read_json(path) for path in sorted(out.glob(f"*/{name}.json"))] for name in RECIPES
    }
    parts = [_HEAD]
    for scale in SCALES.values():
        counts = count_verdicts(
            table["verdicts"]
            for name, found in stored.items()
            for one in found
            for table in one["tables"]
            if one["scale"] == scale.name and not name.startswith("rival")
        )
        parts.append(
            f"`{scale.name}`: {scale.about}." + (f" Verdicts: {counts}." if counts else "")
        )
    for found in stored.values():
        found.sort(key=lambda one: (one["scale"] == _LAST, one["scale"] != "paper"))
        if found:
            title, claim = found[0]["title"], found[0]["claim"]
            parts.append(f"## {title}\n\nClaim: {claim}")
            parts += [_section(one) for one in found]
    write_atomic(out / PAGE, ("\n\n".join(parts) + "\n").encode())
    return out / PAGE


_WORDS = ("yes", "no", "within", "one seed", "not run")


def count_verdicts(tables: Iterable[Mapping[str, str]]) -> str:
    """Return how often each verdict was reached; a text may hold several, separated by semicolons.

    Example:
        >>> count_verdicts([{"AE": "LoRAE lower: MVG yes, by 3 ± 1; GMM within 2 of each other"}])
        '1 yes, 1 within'
    """
    pattern = re.compile(r"\b(" + "|".join(_WORDS) + r")\b")
    parts = (part for verdicts in tables for text in verdicts.values() for part in text.split(";"))
    counts = Counter(match[0] for part in parts if (match := pattern.search(part)))
    return ", ".join(f"{counts[word]} {word}" for word in _WORDS if counts[word])


_HEAD = """# Results

Written by `lorae reproduce`, never by hand: every figure here was measured by the command above
it, and the JSON file beside this page holds its values for each seed. A figure in brackets is the
paper's, for comparison; a cell that was not run says so."""


def _section(one: Mapping[str, Any]) -> str:
    """Return the section of one scale of a recipe, folded if nothing was run."""
    folder = folder_name(one["scale"], one["protocol"])
    body = [_provenance(one), *one.get("notes", ())]
    body += [_table(table).markdown() for table in one["tables"]]
    body += [_pictures(row, folder) for row in one["images"]]
    body += list(one["words"])
    body += [f"Failed: {place}: {why}." for place, why in one["failed"].items()]
    heading = f"### At the scale `{one['scale']}`" + (
        "" if one["protocol"] == "lorae" else ", by the authors' protocol"
    )
    if one["seconds"]:
        return "\n\n".join([heading, *body])
    count = f"{one['cells']} cells wait for a larger machine"
    inside = "\n\n".join(body)
    return f"{heading}\n\n<details><summary>Not run: {count}</summary>\n\n{inside}\n\n</details>"


def _provenance(one: Mapping[str, Any]) -> str:
    protocol = "" if one["protocol"] == "lorae" else f" --protocol {one['protocol']}"
    command = f"lorae reproduce {one['recipe']} --scale {one['scale']}{protocol}"
    seeds = ", ".join(map(str, one["seeds"]))
    if not one["seconds"]:
        return f"`{command}` (seeds {seeds})"
    minutes = sum(one["seconds"].values()) / 60
    gpus = ", ".join(one["machine"]["gpus"]) or "no GPU"
    return (
        f"`{command}` (seeds {seeds}; {len(one['seconds'])} of {one['cells']} cells; "
        f"{minutes:.0f} process minutes on {one['machine']['cores']} cores, {gpus}; torch "
        f"{one['environment']['torch']}; commit {', '.join(one['commits'])})"
    )


def _table(fields: Mapping[str, Any]) -> Table:
    rows = {
        name: {
            column: Entry(tuple(one["values"]), one["published"], one.get("missing", "not run"))
            for column, one in entries.items()
        }
        for name, entries in fields["rows"].items()
    }
    return Table(
        fields["corner"], tuple(fields["columns"]), rows, fields["verdicts"], fields["caption"]
    )


def _pictures(row: Sequence[Mapping[str, str]], folder: str) -> str:
    head = "| " + " | ".join(one["alt"] for one in row) + " |"
    line = "|" + " --- |" * len(row)
    shown = "| " + " | ".join(f"![{one['alt']}]({folder}/{one['name']})" for one in row) + " |"
    return f"{head}\n{line}\n{shown}"
