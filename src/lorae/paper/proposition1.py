"""Proposition 1: the exponent of the rank over the weight of the penalty.

    lorae reproduce proposition1 --scale cpu

Published: the rank is O(1/weight), an exponent of -1. No rank exceeds the latent dimension, so this
is no restriction for small weights if read as a bound; it is tested here as a power law. The
figures of the paper's own Table 7 have an exponent of -0.26.

The rank is the number of singular values of the covariance of the test codes above a share of the
largest. Ranks of 1 and of the full latent dimension are at their limits and are left out of a fit.
The ranks after several numbers of steps come from the evaluations of one training, whose learning
rate is constant. The weight of the data-space form is a share of the variance of the data.

Cost: the paper's form is trained for Table 7; the two others are trained once for each weight, with
one seed (three at the scale paper).
"""

from collections.abc import Mapping

from lorae.paper.common import MODELS, rank_of
from lorae.paper.measures import spectra
from lorae.paper.queue import Cell, Result
from lorae.paper.recipe import Entry, Key, Page, Plan, Recipe, Table
from lorae.paper.theory import fit_exponent

_DATA = "MNIST"
_FORMS = ("LoRAE", "LoRAE, proximal", "LoRAE, data space")
_THRESHOLDS = (1e-1, 1e-2, 1e-4)
_PUBLISHED = -1.0


class Proposition1(Recipe):
    """The rank as a power of the weight."""

    name = "proposition1"
    title = "Proposition 1. Rank of the codes as a power of the weight"
    claim = "The rank of the latent space is O(1/weight)."

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        return {
            (form, weight, seed): Cell(
                spectra, {}, plan.options(_DATA, MODELS[form], seed, weight=weight)
            )
            for form in _FORMS
            for seed in _seeds(plan, form)
            for weight in plan.scale.weights
        }

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        tables, words = [], []
        for form in _FORMS:
            rows: dict[str, dict[str, Entry]] = {}
            for length in plan.scale.lengths:
                row = rows[f"{length} steps"] = {}
                for t in _THRESHOLDS:
                    points = _points(plan, found, form, length, t)
                    slopes = [fit_exponent(list(p), list(p.values())) for p in points if len(p) > 1]
                    missing = "no slope" if points else "not run"
                    row[f"rank at {t:.0e}"] = Entry(tuple(slopes), _PUBLISHED, missing)
                    row[f"points at {t:.0e}"] = Entry(tuple(float(len(p)) for p in points))
            verdicts = {name: _verdict(entries) for name, entries in rows.items()}
            tables.append(Table(form, tuple(row), rows, verdicts, _caption(plan)))
            words.append(_words(plan, form, row))
        return Page(tables, words=words)


def _seeds(plan: Plan, form: str) -> tuple[int, ...]:
    seeds = plan.seeds_of(_DATA)
    return seeds if form == "LoRAE" or plan.scale.name == "paper" else seeds[:1]


def _points(
    plan: Plan, found: Mapping[Key, Result], form: str, length: int, threshold: float
) -> list[dict[float, int]]:
    """Return the ranks strictly between 1 and the latent dimension, by weight, for each seed.

    Seeds that lack a weight are left out.
    """
    points = []
    for seed in _seeds(plan, form):
        results = {w: found.get((form, w, seed), {}).get(str(length)) for w in plan.scale.weights}
        spectra = {w: one["covariance"] for w, one in results.items() if one is not None}
        if len(spectra) == len(plan.scale.weights):
            ranks = {w: (rank_of(s, threshold), len(s)) for w, s in spectra.items()}
            points.append({w: rank for w, (rank, latent) in ranks.items() if 1 < rank < latent})
    return points


def _verdict(entries: Mapping[str, Entry]) -> str:
    """Return "no" if no interval over seeds holds -1, otherwise how near the slopes are to it."""
    slopes = [entries[f"rank at {t:.0e}"].interval for t in _THRESHOLDS]
    found = [one for one in slopes if one is not None]
    if not found:
        measured = any(entry.missing != "not run" for entry in entries.values())
        return "too few ranks" if measured else "not run"
    if any(one.half_width is None for one in found):
        return "one seed"
    gaps = [(abs(one.mean - _PUBLISHED), one.half_width or 0) for one in found]
    if all(gap > half for gap, half in gaps):
        return "no: no interval holds -1"
    return f"within {max(gap + half for gap, half in gaps):.2g} of -1"


def _caption(plan: Plan) -> str:
    weights = ", ".join(f"{w:g}" for w in plan.scale.weights)
    return (
        "Rank: the slope of its logarithm over that of the weight, mean over the seeds and half "
        "the 95% interval, in brackets that of 1/weight. Points: how many of the weights "
        f"{weights} enter a fit; ranks of 1 and of the latent dimension are left out, and a seed "
        "with fewer than two points has no slope."
    )


def _words(plan: Plan, form: str, row: Mapping[str, Entry]) -> str:
    """Return the slopes after the longest training, seed by seed, with their points."""
    parts, known = [], False
    for t in _THRESHOLDS:
        slopes, counts = (row[f"{name} at {t:.0e}"].measured for name in ("rank", "points"))
        known = known or bool(slopes)
        listed = ", ".join(f"{slope:.2f}" for slope in slopes) or "none"
        parts.append(f"{listed} at {t:.0e} ({', '.join(f'{n:.0f}' for n in counts)} points)")
    if not known:
        return f"{form}: how the rank falls is not known: too few weights have a rank to fit."
    return (
        f"{form}, {plan.scale.lengths[-1]} steps, slopes by seed: {'; '.join(parts)}; of "
        f"{len(plan.scale.weights)} weights each."
    )
