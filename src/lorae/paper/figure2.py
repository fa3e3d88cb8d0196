"""Figure 2: singular values of the covariance of the test codes.

    lorae reproduce figure2 --scale cpu

Published: curves of AE, IRMAE and LoRAE on MNIST and CelebA, without numbers.

The last two tables follow rank and error along the trainings on MNIST, which shows whether they
have settled. The learning rate is constant.

Cost: the trainings are those of Table 3.
"""

from collections.abc import Mapping

from lorae.paper.common import CHANGES, MODELS, rank_entries
from lorae.paper.measures import spectra, spectrum
from lorae.paper.queue import Cell, Result
from lorae.paper.recipe import Entry, Image, Key, Page, Plan, Recipe, Table, values, verdict
from lorae.training.options import Options
from lorae.utils.plots import Curve, plot_curves

_ROWS = ("AE", "IRMAE", "IRMAE, 4 layers", "LoRAE", "LoRAE, proximal", "LoRAE, data space")
_THRESHOLDS = (1e-1, 1e-2, 1e-4, 1e-6)
_RANK = "rank at 1e-02"
_DATA = "MNIST"  # of the tables along the training


class Figure2(Recipe):
    """Spectra of the codes."""

    name = "figure2"
    title = "Figure 2. Singular values of the covariance of the test codes"
    claim = (
        "LoRAE's latent space is far smaller than AE's, its singular values decay smoothly; "
        "IRMAE's fall sharply, to a still smaller space."
    )

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        cells: dict[Key, Cell] = {
            (row, data, seed): Cell(spectrum, {}, _options(plan, data, row, seed))
            for data in plan.scale.sets
            for seed in plan.seeds_of(data)
            for row in _ROWS
        }
        return cells | {
            ("along", row, seed): Cell(spectra, {}, _options(plan, _DATA, row, seed))
            for seed in plan.seeds_of(_DATA)
            for row in _ROWS
        }

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        shown, tables = [], []
        for data in plan.scale.sets:
            curves = [
                Curve(row, range(1, len(sigma) + 1), [s / sigma[0] for s in sigma], k)
                for k, row in enumerate(_ROWS)
                if (sigma := found.get((row, data, plan.seeds[0]), {}).get("covariance"))
            ]
            if curves:
                shown.append(_picture(data, curves))
            tables.append(_ranks(plan, found, data))
        return Page([*tables, *_along(plan, found)], [shown] if shown else [])


def _options(plan: Plan, data: str, row: str, seed: int) -> Options:
    return plan.options(data, MODELS[row], seed, **CHANGES.get(row, {}))


def _picture(data: str, curves: list[Curve]) -> Image:
    labels = ("singular value", "share of the largest")
    content = plot_curves(curves, labels, title=data, log="y", integer="x", limits=(1e-10, 2))
    return Image(f"figure2-{data.lower()}.svg", content, f"Spectra of codes, {data}")


def _ranks(plan: Plan, found: Mapping[Key, Result], data: str) -> Table:
    seeds = plan.seeds_of(data)
    rows = {row: rank_entries(found, (row, data), seeds, _THRESHOLDS) for row in _ROWS}
    verdicts = {
        row: f"{_RANK} below AE's: {verdict(entries[_RANK], rows['AE'][_RANK])}"
        for row, entries in rows.items()
        if row != "AE"
    }
    about = plan.scale.sets[data].about or plan.scale.about
    text = f"{data}: {about}. Mean and 95% interval over the seeds."
    return Table(data, tuple(rows["AE"]), rows, verdicts, text)


def _along(plan: Plan, found: Mapping[Key, Result]) -> list[Table]:
    """Return the ranks and the test errors after several numbers of steps."""
    seeds = plan.seeds_of(_DATA)
    ranks: dict[str, dict[str, Entry]] = {row: {} for row in _ROWS}
    errors: dict[str, dict[str, Entry]] = {row: {} for row in _ROWS}
    for length in plan.scale.lengths:
        step, column = str(length), f"{length:,} steps"
        then: dict[Key, Result] = {
            place[1:]: one[step]
            for place, one in found.items()
            if place[0] == "along" and step in one
        }
        for row in _ROWS:
            ranks[row][column] = rank_entries(then, (row,), seeds, [1e-2])[_RANK]
            errors[row][column] = Entry(values(then, (row,), seeds, "reconstruction"))
    caption = "2,000 test images at most. Mean and 95% interval over the seeds."
    columns = tuple(ranks["AE"])
    return [
        Table(f"{_DATA}, {_RANK}", columns, ranks, {}, caption),
        Table(f"{_DATA}, test error", columns, errors, {}, caption),
    ]
