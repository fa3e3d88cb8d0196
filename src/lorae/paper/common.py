"""Shared by several recipes: cells of generated images, and tables of their distances."""

import base64
from collections.abc import Mapping, Sequence

from lorae.paper import measures
from lorae.paper.queue import Cell, Result
from lorae.paper.recipe import Entry, Image, Key, Plan, Table, values, verdict

MODELS = {
    "AE": "ae",
    "VAE": "vae-bernoulli",
    "IRMAE": "irmae",
    "LoRAE": "lorae",
    "WAE": "wae",
    "RAE": "rae-l2",
    "LoRAE, proximal": "lorae-proximal",
    "LoRAE, scale-free": "lorae-scale-free",
}
"""Models of the package by their names in the paper; the last two are ours."""

OURS = "LoRAE"


def generation(plan: Plan, data: str, seed: int, model: str, **changes: object) -> Cell:
    """Return the cell of the images that a model generates under both of the paper's densities."""
    setting = plan.scale.sets[data]
    measure = measures.generation if plan.protocol == "lorae" else measures.authors_generation
    asked = {
        "densities": list(setting.densities.values()),
        "samples": setting.samples,
        "extractor": setting.features,
    }
    return Cell(measure, asked, plan.options(data, model, seed, **changes))


def generations(plan: Plan, rows: Sequence[str], sets: Sequence[str]) -> dict[Key, Cell]:
    """Return the cells of models by data sets by seeds."""
    return {
        (row, data, seed): generation(plan, data, seed, MODELS[row])
        for data in sets
        for seed in plan.seeds_of(data)
        for row in rows
    }


def distances(
    plan: Plan,
    found: Mapping[Key, Result],
    rows: Sequence[str],
    sets: Sequence[str],
    published: Mapping[str, Sequence[float]],
    *,
    score: str | None = None,
) -> Table:
    """Return the table of distances under both densities, LoRAE's against every other row.

    Args:
        plan: scale and seeds.
        found: the results of :func:`generations`.
        rows: names in :data:`MODELS`.
        sets: names of data sets.
        published: by row, the paper's figures in the order of sets, then densities.
        score: the name of another score than the distance of each data set.
    """
    columns = {
        f"{data}, {density}": (data, name)
        for data in sets
        for density, name in plan.scale.sets[data].densities.items()
    }
    entries: dict[str, dict[str, Entry]] = {}
    for row in rows:
        told = published.get(row, (None,) * len(columns)) if score is None else ()
        padded = [*told, *(None,) * (len(columns) - len(told))]
        entries[row] = {
            column: Entry(
                values(
                    found,
                    (row, data),
                    plan.seeds_of(data),
                    name,
                    score or plan.scale.sets[data].distance,
                ),
                figure,
            )
            for (column, (data, name)), figure in zip(columns.items(), padded, strict=True)
        }
    return Table(
        "model",
        tuple(columns),
        entries,
        {row: compare_rows(entries, row) for row in rows} if OURS in rows else {},
        caption(plan, sets) if score is None else "",
    )


def compare_rows(entries: Mapping[str, Mapping[str, Entry]], row: str, ours: str = OURS) -> str:
    """Return, for each column, whether LoRAE's distance is below that of a row."""
    if row == ours:
        return ""
    said = {column: verdict(entries[ours][column], entry) for column, entry in entries[row].items()}
    if len(set(said.values())) == 1:
        return f"LoRAE lower: {next(iter(said.values()))}"
    return "LoRAE lower: " + "; ".join(f"{column} {word}" for column, word in said.items())


def caption(plan: Plan, sets: Sequence[str]) -> str:
    """Return the caption of a table of distances."""
    told = []
    for data in dict.fromkeys(sets):
        setting = plan.scale.sets[data]
        told.append(f"{data}: {setting.distance} over {setting.samples} images")
    count = max(len(plan.seeds_of(data)) for data in sets)
    seeds = f"{count} seed{'s' if count > 1 else ''}"
    other = any(plan.scale.sets[data].distance != "FID" for data in sets)
    return (
        f"{'; '.join(told)}. Lower is better. Mean over {seeds} and half the 95% interval (of one "
        "value there is none); in brackets the paper's FID"
        + (", which is on another scale than the classifier distance." if other else ".")
    )


def images(found: Mapping[Key, Result], places: Mapping[str, Key], stem: str) -> list[Image]:
    """Return the pictures at places, by their descriptions; missing ones are left out."""
    return [
        Image(
            f"{stem}-{alt.lower().replace(', ', '-').replace(' ', '-')}.png",
            base64.b64decode(str(found[place]["png"])),
            alt,
        )
        for alt, place in places.items()
        if place in found and "png" in found[place]
    ]
