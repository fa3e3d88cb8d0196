"""Proposition 1: the exponent of the rank over the weight of the penalty.

    lorae reproduce proposition1 --scale cpu

Published: the rank is O(1/weight), an exponent of -1. No rank exceeds the latent dimension, so this
is no restriction for small weights if read as a bound; it is tested here as a power law. The
figures of the paper's own Table 7 have an exponent of -0.26.

The rank is the number of singular values of the covariance of the test codes above a share of the
largest. Ranks of 1 and of the full latent dimension are at their limits and are left out of a fit.
The ranks after several numbers of steps come from the evaluations of one training, whose learning
rate is constant. The proximal form's weight is on another scale: 1,000 times that of the others.

Cost at the scale cpu: 20 process minutes on two cores. The paper's form is trained for Table 7; the
two others are trained once for each weight, with one seed (three at the scale paper).
"""

from collections.abc import Mapping, Sequence

from lorae.paper.common import MODELS, rank_of
from lorae.paper.measures import spectra
from lorae.paper.queue import Cell, Result
from lorae.paper.recipe import Entry, Key, Page, Plan, Recipe, Table
from lorae.paper.theory import Exponent, fit_exponent

_DATA = "MNIST"
_FORMS = {"LoRAE": 1.0, "LoRAE, proximal": 1e3, "LoRAE, scale-free": 1.0}
"""The forms by name, with the factor of their weights."""
_THRESHOLDS = (1e-1, 1e-2, 1e-4)
_PUBLISHED = -1.0


class Proposition1(Recipe):
    """The rank as a power of the weight."""

    name = "proposition1"
    title = "Proposition 1. Rank of the codes as a power of the weight"
    claim = "The rank of the latent space is O(1/weight)."

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        """Return the spectra along the training of each form, weight and seed."""
        return {
            (form, weight, seed): Cell(
                spectra, {}, plan.options(_DATA, MODELS[form], seed, weight=weight * factor)
            )
            for form, factor in _FORMS.items()
            for seed in _seeds(plan, form)
            for weight in plan.scale.weights
        }

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        """Show an exponent for each form, training length and threshold."""
        tables, words = [], []
        for form in _FORMS:
            rows: dict[str, dict[str, Entry]] = {}
            for length in plan.scale.lengths:
                fits = {t: _fits(plan, found, form, length, t) for t in _THRESHOLDS}
                rows[f"{length} steps"] = {
                    f"rank at {t:.0e}": Entry(
                        tuple(fit.value for fit in fits[t] if fit is not None), _PUBLISHED
                    )
                    for t in _THRESHOLDS
                }
            words.append(_words(form, plan.scale.lengths[-1], fits))
            columns = tuple(f"rank at {t:.0e}" for t in _THRESHOLDS)
            tables.append(Table(form, columns, rows, _verdicts(rows), _caption(plan, form)))
        return Page(tables, words=words)


def _seeds(plan: Plan, form: str) -> tuple[int, ...]:
    seeds = plan.seeds_of(_DATA)
    return seeds if form == "LoRAE" or plan.scale.name == "paper" else seeds[:1]


def _fits(
    plan: Plan, found: Mapping[Key, Result], form: str, length: int, threshold: float
) -> list[Exponent | None]:
    """Return the exponent of each seed that has all weights; None where fewer than two are left."""
    fits: list[Exponent | None] = []
    for seed in _seeds(plan, form):
        results = {w: found.get((form, w, seed), {}).get(str(length)) for w in plan.scale.weights}
        by_weight = {w: one["covariance"] for w, one in results.items() if one is not None}
        if len(by_weight) == len(plan.scale.weights):
            fits.append(_fit(by_weight, threshold))
    return fits


def _fit(by_weight: Mapping[float, Sequence[float]], threshold: float) -> Exponent | None:
    ranks = {weight: rank_of(sigma, threshold) for weight, sigma in by_weight.items()}
    free = {weight: rank for weight, rank in ranks.items() if 1 < rank < len(by_weight[weight])}
    return fit_exponent(list(free), list(free.values())) if len(free) > 1 else None


def _verdicts(rows: Mapping[str, Mapping[str, Entry]]) -> dict[str, str]:
    return {name: _verdict(list(entries.values())) for name, entries in rows.items()}


def _verdict(entries: Sequence[Entry]) -> str:
    means = [entry.interval.mean for entry in entries if entry.interval is not None]
    if not means:
        return "not measured"
    if all(abs(mean - _PUBLISHED) <= 0.25 for mean in means):
        return "yes: within 0.25 of -1"
    return f"no: {min(means):.2f} to {max(means):.2f}"


def _caption(plan: Plan, form: str) -> str:
    weights = ", ".join(f"{_FORMS[form] * w:g}" for w in plan.scale.weights)
    return (
        f"Slope of the logarithm of the rank over that of the weight, at weights {weights}. Mean "
        "over the seeds and half the 95% interval; in brackets that of 1/weight. Where fewer than "
        "two weights leave a rank between 1 and the latent dimension, there is no slope."
    )


def _words(form: str, length: int, fits: Mapping[float, Sequence[Exponent | None]]) -> str:
    """Return the fits of the first seed and the longest training in words."""
    exponents = [f"{fit[0]} at {t:.0e}" for t, fit in fits.items() if fit and fit[0] is not None]
    if not exponents:
        return f"{form}: how the rank falls is not known: too few weights have a rank to fit."
    return (
        f"{form}, one seed, {length} steps: {', '.join(exponents)}, with half the 95% interval of "
        "the fit, which is wide where the rank is no power of the weight."
    )
