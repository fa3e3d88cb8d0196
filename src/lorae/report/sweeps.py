"""Runs that differ in seed and weight alone: figures over seeds, and against the weight."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from lorae.data.options import READ_OPTIONS
from lorae.report.figures import Figure
from lorae.report.runs import RunSummary
from lorae.training.evaluation import RANK_THRESHOLD
from lorae.utils.intervals import Interval
from lorae.utils.plots import Curve, plot_curves

_DECIDED = {"seed", "weight"}


@dataclass(frozen=True)
class Setting:
    """The runs of one setting, which differ in their seeds."""

    name: str  # the model, and a number where models have several settings besides the weight
    weight: float | None  # lambda; None for a model without one
    runs: list[RunSummary]

    @property
    def error(self) -> Interval:
        """Test error, with Student's 95% interval over the seeds."""
        return Interval(tuple(run.error for run in self.runs))

    @property
    def rank(self) -> Interval:
        """Rank at `RANK_THRESHOLD`, with its interval."""
        return Interval(tuple(float(run.rank) for run in self.runs))


@dataclass(frozen=True)
class Sweep:
    """Runs by their settings."""

    settings: list[Setting]  # by name and weight; none unless one has several seeds or weights

    @classmethod
    def of(cls, runs: Sequence[RunSummary]) -> Self:
        """Return the settings of runs that reconstruct: the same options apart from the seed."""
        groups: dict[tuple[str, float | None], list[RunSummary]] = {}
        for run in runs:
            groups.setdefault((_kind(run), run.options["weight"]), []).append(run)
        kinds = list(dict.fromkeys(kind for kind, _ in groups))
        models = {kind: some[0].options["model"] for (kind, _), some in groups.items()}
        many = len(set(models.values())) < len(kinds)
        found = [
            Setting(models[kind] + (f" {kinds.index(kind) + 1}" if many else ""), weight, some)
            for (kind, weight), some in groups.items()
        ]
        is_sweep = any(len(one.runs) > 1 for one in found) or len(found) > len(kinds)
        return cls(sorted(found, key=lambda one: (one.name, one.weight or 0)) if is_sweep else [])

    @property
    def figures(self) -> list[Figure]:
        """Plots of error and rank against the weight, if there are several weights."""
        by_name: dict[str, list[Setting]] = {}
        for one in self.settings:
            if one.weight is not None:
                by_name.setdefault(one.name, []).append(one)
        lines = {name: some for name, some in by_name.items() if len(some) > 1}
        log = "x" if all(one.weight for some in lines.values() for one in some) else ""
        labels = {"error": "test error", "rank": f"rank at {RANK_THRESHOLD:g}"} if lines else {}
        return [_against_weight(lines, name, label, log) for name, label in labels.items()]


def _against_weight(lines: dict[str, list[Setting]], name: str, label: str, log: str) -> Figure:
    curves, texts = [], []
    for style, (model, some) in enumerate(lines.items()):
        values = [getattr(one, name) for one in some]
        weights = [float(one.weight or 0) for one in some]
        margin = [value.half_width or 0.0 for value in values]
        curves.append(Curve(model, weights, [v.mean for v in values], style, margin=margin))
        texts += [f"{model} at {w:g}: {label} {v}" for w, v in zip(weights, values, strict=True)]
    plot = plot_curves(
        curves,
        ("weight λ", label),
        log=log,
        title=f"{name.capitalize()} against λ",
        markers=True,
    )
    return Figure(plot, "; ".join(texts))


def group_by_data(runs: Sequence[RunSummary]) -> list[list[RunSummary]]:
    """Return runs in groups of one data set, however the seed of a run has split it."""
    sources: dict[str, list[RunSummary]] = {}
    for run in runs:
        names = ("data", "test_fraction", *READ_OPTIONS)
        source = str([run.options.get(name) for name in names])
        sources.setdefault(source, []).append(run)
    groups = []
    for some in sources.values():
        splits: dict[str, list[RunSummary]] = {}
        for run in some:
            splits.setdefault(run.checksum, []).append(run)
        seeds = {(run.options["seed"], run.checksum) for run in some}
        whole = len({seed for seed, _ in seeds}) == len(seeds)  # else the file has changed
        groups += [some] if whole else list(splits.values())
    return groups


def _kind(run: RunSummary) -> str:
    """Return all options but seed and weight as text."""
    return str(sorted((k, v) for k, v in run.options.items() if k not in _DECIDED))
