"""Proposition 1: the exponent of the rank over the weight of the penalty.

    lorae reproduce proposition1 --scale cpu

Published: the rank is O(1/weight), an exponent of -1. No rank exceeds the latent dimension, so this
is no restriction for small weights if read as a bound; it is tested here as a power law. The
figures of the paper's own Table 7 have an exponent of -0.26.

The rank is the number of singular values of the covariance of the test codes above a share of the
largest. Ranks of 1 and of the full latent dimension are at their limits and are left out of a fit.
The ranks after several numbers of steps come from the evaluations of one training, whose learning
rate is constant. The weight of the data-space form is a share of the variance of the data.

Cost at the scale cpu: 20 process minutes on two cores. The paper's form is trained for Table 7; the
two others are trained once for each weight, with one seed (three at the scale paper).
"""

from collections.abc import Mapping, Sequence

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
                    slopes = [
                        fit_exponent(list(one), list(one.values())).value
                        for one in points
                        if len(one) > 1
                    ]
                    row[_slope(t)] = Entry(
                        tuple(slopes), _PUBLISHED, "no slope" if points else "not run"
                    )
                    row[_count(t)] = Entry(tuple(float(len(one)) for one in points))
            words.append(_words(plan, form, row))
            tables.append(Table(form, tuple(row), rows, _verdicts(rows), _caption(plan)))
        return Page(tables, words=words)


def _slope(threshold: float) -> str:
    return f"rank at {threshold:.0e}"


def _count(threshold: float) -> str:
    return f"points at {threshold:.0e}"


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


def _verdicts(rows: Mapping[str, Mapping[str, Entry]]) -> dict[str, str]:
    return {
        name: _verdict([entries[_slope(t)] for t in _THRESHOLDS]) for name, entries in rows.items()
    }


def _verdict(entries: Sequence[Entry]) -> str:
    """Return whether every interval over seeds holds -1, or none does."""
    found = [entry.interval for entry in entries if entry.interval is not None]
    if not found:
        return "not measured"
    if any(one.half_width is None for one in found):
        return "not decided (one seed)"
    holds = {abs(one.mean - _PUBLISHED) <= (one.half_width or 0) for one in found}
    if len(holds) == 2:
        return "not decided: some intervals hold -1"
    return "yes: the intervals hold -1" if holds == {True} else "no: no interval holds -1"


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
    slopes = {t: row[_slope(t)].values for t in _THRESHOLDS}
    if not any(slopes.values()):
        return f"{form}: how the rank falls is not known: too few weights have a rank to fit."
    parts = []
    for t in _THRESHOLDS:
        counts = [int(count) for count in row[_count(t)].values]
        listed = ", ".join(f"{slope:.2f}" for slope in slopes[t]) or "none"
        parts.append(f"{listed} at {t:.0e} ({', '.join(map(str, counts))} points)")
    return (
        f"{form}, {plan.scale.lengths[-1]} steps, slopes by seed: {'; '.join(parts)}; of "
        f"{len(plan.scale.weights)} weights each."
    )
