"""Shared by several recipes: models, scores of generated images, ranks and pictures."""

import base64
from collections.abc import Mapping, Sequence

import torch

from lorae.linalg import spectral
from lorae.paper import measures
from lorae.paper.queue import Cell, Result
from lorae.paper.recipe import Entry, Image, Key, Plan, verdict

MODELS = {
    "AE": "ae",
    "VAE": "vae-bernoulli",
    "IRMAE": "irmae",
    "LoRAE": "lorae",
    "WAE": "wae",
    "RAE": "rae-l2",
    "LoRAE, proximal": "lorae-proximal",
    "LoRAE, data space": "lorae-data-space",
}
"""Models of the package by their names in the paper; the last two are ours."""


def generation(
    plan: Plan,
    data: str,
    seed: int,
    model: str,
    *,
    densities: Sequence[str] | None = None,
    **changes: object,
) -> Cell:
    """Return the cell of the scores of the images that a model generates.

    Args:
        plan: scale and protocol.
        data: name of the data set.
        seed: seed of the training.
        model: name of the model in the package.
        densities: densities of the codes, both of the paper's by default.
        changes: options of the training that differ from those of the scale.
    """
    setting = plan.scale.sets[data]
    measure = measures.generation if plan.protocol == "lorae" else measures.authors_generation
    settings = {
        "densities": list(densities or setting.densities.values()),
        "samples": setting.samples,
        "extractor": setting.features,
    }
    return Cell(measure, settings, plan.options(data, model, seed, **changes))


def compare_rows(entries: Mapping[str, Mapping[str, Entry]], row: str) -> str:
    """Return, for each column, whether LoRAE's distance is below that of another row."""
    if row == "LoRAE":
        return ""
    ours = entries["LoRAE"]
    verdicts = {column: verdict(ours[column], entry) for column, entry in entries[row].items()}
    if len(set(verdicts.values())) == 1:
        return f"LoRAE lower: {next(iter(verdicts.values()))}"
    return "LoRAE lower: " + "; ".join(f"{column} {word}" for column, word in verdicts.items())


def caption(plan: Plan, sets: Sequence[str]) -> str:
    """Return the caption of a table of distances."""
    settings = {data: plan.scale.sets[data] for data in sets}
    scores = [f"{data}: {one.distance} over {one.samples} images" for data, one in settings.items()]
    count = max(len(plan.seeds_of(data)) for data in sets)
    seeds = f"{count} seed{'s' if count > 1 else ''}"
    other = any(one.distance != "FID" for one in settings.values())
    return (
        f"{'; '.join(scores)}. Lower is better. Mean over {seeds} and half the 95% interval (of "
        "one value there is none); in brackets the paper's FID"
        + (", which is on another scale than the classifier distance." if other else ".")
    )


def rank_of(sigma: Sequence[float], threshold: float) -> int:
    """Return how many singular values are above a threshold relative to the largest."""
    return int(spectral.rank(torch.tensor(sigma, dtype=torch.float64), threshold))


def rank_entries(
    found: Mapping[Key, Result], place: Key, seeds: Sequence[int], thresholds: Sequence[float]
) -> dict[str, Entry]:
    """Return the ranks of the covariance of the test codes, by column.

    Args:
        found: results of :func:`lorae.paper.measures.spectrum`.
        place: a cell's place without the seed, which comes last.
        seeds: in order.
        thresholds: relative to the largest singular value, one for each column.
    """
    spectra = [
        one["covariance"]
        for seed in seeds
        if "covariance" in (one := found.get((*place, seed), {}))
    ]
    return {
        f"rank at {t:.0e}": Entry(tuple(float(rank_of(sigma, t)) for sigma in spectra))
        for t in thresholds
    }


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
