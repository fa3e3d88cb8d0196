"""Ranks in tables: of the covariance of test codes, at a stated threshold."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch

from lorae.linalg import spectral
from lorae.paper.queue import Result
from lorae.paper.recipe import Entry, Key


def ranks(
    found: Mapping[Key, Result],
    place: Key,
    seeds: Sequence[int],
    threshold: float,
    of: str = "covariance",
) -> tuple[float, ...]:
    """Return the rank at a place, one for each seed.

    Args:
        found: results of :func:`lorae.paper.measures.spectrum`.
        place: all of a cell's place but the seed.
        seeds: in order.
        threshold: relative to the largest singular value.
        of: "covariance" (of the test codes) or "matrix" (M).
    """
    told = [found.get((*place, seed), {}) for seed in seeds]
    return tuple(
        float(spectral.rank(torch.tensor(one[of], dtype=torch.float64), threshold))
        for one in told
        if of in one
    )


def entry_of_rank(
    found: Mapping[Key, Result],
    place: Key,
    seeds: Sequence[int],
    threshold: float,
    published: float | None = None,
) -> Entry:
    """Return the rank of the covariance of the test codes as an entry."""
    return Entry(ranks(found, place, seeds, threshold), published)


def falls(rows: Mapping[str, Mapping[str, Entry]], column: str, what: str) -> str:
    """Say whether a column falls from the last row, of the smallest weight, to the first."""
    told = [entries[column].interval for entries in rows.values()]
    means = [one.mean for one in told if one is not None]
    if len(means) < len(told):
        return f"Whether the {column} falls as the {what} rises is not known: some were not run."
    steady = all(a <= b for a, b in pairwise(means))
    words = "as claimed" if steady and means[0] < means[-1] else "but not steadily: see the table"
    return f"The {column} falls as the {what} rises, {words}."
