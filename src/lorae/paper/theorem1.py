"""Theorem 1: how fast the gradient decreases under Algorithm 1 over the whole training set.

    lorae reproduce theorem1 --scale cpu

Published: the least norm of a gradient is O(T^(-1/4)) in the number T of steps, an exponent of
-0.25, at a learning rate that the theorem gives; no figures. :mod:`lorae.paper.theory` corrects its
statement. K and gamma are estimated from below (K by the power method at the start and at the end
of Adam's run, gamma by the largest gradient along it), so the resulting rate is an upper estimate;
L* is set to 0. Algorithm 1 is Adam without bias correction on full batches, which the training loop
does not offer; :func:`lorae.paper.theory.algorithm_1` implements it.

Cost at the scale cpu: 23 process minutes for a seed on two cores, for 1,180 steps of 200 images and
40 products of the Hessian with vectors in float64. It has not been run on a GPU.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from lorae.objectives.base import Objective
from lorae.paper import theory
from lorae.paper.queue import Cell, Result, load_data, measure
from lorae.paper.recipe import Entry, Image, Key, Page, Plan, Recipe, Table, values
from lorae.training.options import Options
from lorae.training.train import build_objective
from lorae.utils.plots import Curve, plot_curves
from lorae.utils.samples import as_float, subsample

_DATA = "MNIST"
_PUBLISHED = -0.25
_EPSILONS = (1e-8, 1.0)
_SIZES: dict[str, tuple[int, tuple[int, ...]]] = {
    "smoke": (40, (4, 8, 16)),
    "cpu": (200, (10, 30, 100, 300)),
    "paper": (10_000, (100, 300, 1000, 3000)),
}
"""By scale: how many training samples there are, and the numbers T of steps."""
_WAYS = {"adam": "Adam's rate, ε = 1e-08"} | {
    f"{epsilon:.0e}": f"the theorem's rate, ε = {epsilon:.0e}" for epsilon in _EPSILONS
}


@measure("descent")
def descent(
    *, options: dict[str, Any], samples: int, steps: Sequence[int], epsilons: Sequence[float]
) -> Result:
    """Return gradients along runs of Algorithm 1, and the constants of Theorem 1.

    Args:
        options: of a training of LoRAE; data, model, weight, learning rate and seed are used.
        samples: number of training samples, which form the batch of every step.
        steps: the numbers T; the theorem's rate depends on T, so each T has its own run.
        epsilons: epsilon of the runs at the theorem's rate; at Adam's rate it is 1e-8.

    Returns:
        The constants, and for each learning rate the least norm of a gradient within T steps, by T.
    """
    given = Options.from_dict(options)
    data = load_data(given)
    given = given.resolve(data)
    given = dataclasses.replace(given, settings=given.settings | {"every": 1})
    assert given.learning_rate is not None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = as_float(subsample(data.train, samples)).to(device)

    def build() -> Objective:
        return build_objective(given, data).to(device)

    objective = build()
    starts = _curvature(objective, x)
    adam = _minimize(objective, x, max(steps), given.learning_rate)
    constants = {
        "gap": float(adam.losses[0]),
        "lipschitz": max(starts, _curvature(objective, x)),
        "gradient": float(adam.gradients.max()),
    }
    found: Result = constants | {"adam": {str(T): adam.least(T) for T in steps}}
    for epsilon in epsilons:
        least, rates, bounds = {}, {}, {}
        for T in steps:
            rates[str(T)] = theory.learning_rate(**constants, steps=T, epsilon=epsilon)
            bounds[str(T)] = theory.bound(**constants, steps=T, epsilon=epsilon)
            least[str(T)] = _minimize(build(), x, T, rates[str(T)], epsilon).least(T)
        found[f"{epsilon:.0e}"] = least
        found[f"rates {epsilon:.0e}"], found[f"bounds {epsilon:.0e}"] = rates, bounds
    return found | {"start": float(adam.gradients[0]), "rate": given.learning_rate}


def _loss(objective: Objective, x: torch.Tensor) -> torch.Tensor:
    return torch.stack(list(objective(x).values())).sum()


def _minimize(
    objective: Objective, x: torch.Tensor, steps: int, rate: float, epsilon: float = 1e-8
) -> theory.Descent:
    parameters = list(objective.parameters())
    return theory.algorithm_1(
        partial(_loss, objective, x), parameters, steps, rate, epsilon=epsilon
    )


def _curvature(objective: Objective, x: torch.Tensor) -> float:
    """Return a lower bound of K, in float64, where the nuclear norm has a second derivative."""
    objective.double()
    generator = torch.Generator().manual_seed(0)
    parameters = list(objective.parameters())
    found = theory.curvature(partial(_loss, objective, x.double()), parameters, generator=generator)
    objective.float()
    return found


class Theorem1(Recipe):
    """The gradient along Algorithm 1."""

    name = "theorem1"
    title = "Theorem 1. The gradient along Algorithm 1, full batch"
    claim = "At the theorem's learning rate the gradient's norm is O(T^(-1/4)) in the steps T."

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        samples, steps = _SIZES[plan.scale.name]
        return {
            ("LoRAE", seed): Cell(
                descent,
                {
                    "options": dataclasses.asdict(plan.options(_DATA, "lorae", seed)),
                    "samples": samples,
                    "steps": list(steps),
                    "epsilons": list(_EPSILONS),
                },
            )
            for seed in plan.seeds_of(_DATA)
        }

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        samples, steps = _SIZES[plan.scale.name]
        seeds, place = plan.seeds_of(_DATA), ("LoRAE",)
        rows: dict[str, dict[str, Entry]] = {}
        for way, name in _WAYS.items():
            least = {f"T = {T}": Entry(values(found, place, seeds, way, str(T))) for T in steps}
            rows[name] = least | {
                "exponent": Entry(_exponents(found, seeds, way, steps), _PUBLISHED)
            }
        columns = tuple(next(iter(rows.values())))
        caption = (
            f"Least norm of the gradient within T steps over all {samples} training samples, and "
            "the slope of its logarithm over that of T; in brackets the bound's. Mean over the "
            "seeds and half the 95% interval."
        )
        verdicts = {name: _verdict(entries["exponent"]) for name, entries in rows.items()}
        table = Table("learning rate", columns, rows, verdicts, caption)
        picture = _picture(rows, steps)
        words = _words(found, seeds, steps)
        return Page([table, _constants(found, seeds, steps)], [[picture]] if picture else [], words)


def _exponents(
    found: Mapping[Key, Result], seeds: Sequence[int], way: str, steps: Sequence[int]
) -> tuple[float, ...]:
    least = [found.get(("LoRAE", seed), {}).get(way) for seed in seeds]
    return tuple(
        theory.fit_exponent(steps, [norms[str(T)] for T in steps])
        for norms in least
        if norms is not None
    )


def _verdict(exponent: Entry) -> str:
    if exponent.interval is None:
        return "not run"
    mean, half = exponent.interval.mean, exponent.interval.half_width
    word = "yes" if mean < _PUBLISHED else "no"
    if half is None:
        return f"one seed: {word}"
    gap = abs(mean - _PUBLISHED)
    return word if gap > half else f"within {gap + half:.2g} of -0.25"


def _constants(found: Mapping[Key, Result], seeds: Sequence[int], steps: Sequence[int]) -> Table:
    last = str(max(steps))
    paths: dict[str, tuple[str, ...]] = {
        "loss at the start": ("gap",),
        "K, at least": ("lipschitz",),
        "gradient γ, at least": ("gradient",),
    }
    for epsilon in _EPSILONS:
        key = f"{epsilon:.0e}"
        paths[f"rate at T = {last}, ε = {key}"] = (f"rates {key}", last)
        paths[f"bound at T = {last}, ε = {key}"] = (f"bounds {key}", last)
    entries = {
        name: {"value": Entry(values(found, ("LoRAE",), seeds, *path))}
        for name, path in paths.items()
    }
    caption = (
        "The constants of the theorem as estimated along Adam's run, and what follows from them: "
        "the learning rate, and what the least gradient is then at most (without momentum)."
    )
    return Table("constant", ("value",), entries, {}, caption)


def _picture(rows: Mapping[str, Mapping[str, Entry]], steps: Sequence[int]) -> Image | None:
    curves = [
        Curve(name, steps, [i.mean for i in intervals if i is not None], style)
        for style, (name, entries) in enumerate(rows.items())
        if all(intervals := [entries[f"T = {T}"].interval for T in steps])
    ]
    if not curves:
        return None
    start = max(curve.y[0] for curve in curves)
    slope = [start * (T / steps[0]) ** _PUBLISHED for T in steps]
    curves.append(Curve("slope -1/4", steps, slope, len(rows)))
    labels = ("steps T", "least norm of the gradient")
    content = plot_curves(curves, labels, title="Algorithm 1, full batch", log="xy", markers=True)
    return Image("theorem1.svg", content, "Least gradient over the number of steps")


def _words(found: Mapping[Key, Result], seeds: Sequence[int], steps: Sequence[int]) -> list[str]:
    """Return a sentence on each epsilon: the theorem's rate, and what is left of the gradient."""
    last = str(max(steps))
    runs = [one for seed in seeds if "start" in (one := found.get(("LoRAE", seed), {}))]
    if not runs:
        return ["How fast the gradient falls is not known: no run was made."]
    words = []
    for key in (f"{epsilon:.0e}" for epsilon in _EPSILONS):
        rates = ", ".join(f"{one[f'rates {key}'][last]:.1g}" for one in runs)
        kept = ", ".join(f"{100 * one[key][last] / one['start']:.3g}" for one in runs)
        bounds = ", ".join(f"{one[f'bounds {key}'][last]:.2g}" for one in runs)
        words.append(
            f"ε = {key}, T = {last}, by seed: the theorem's rate is {rates} (Adam's here: "
            f"{runs[0]['rate']:g}), the least gradient {kept}% of the first, the bound {bounds}."
        )
    return words
