"""Figure 2: singular values of the covariance of the test codes.

    lorae reproduce figure2 --scale cpu

Published: curves of AE, IRMAE and LoRAE on MNIST and CelebA, without numbers.

Cost: the trainings are those of Table 3.
"""

from collections.abc import Mapping

from lorae.paper.common import MODELS, rank_entries
from lorae.paper.measures import spectrum
from lorae.paper.queue import Cell, Result
from lorae.paper.recipe import Image, Key, Page, Plan, Recipe, Table
from lorae.utils.plots import Curve, plot_curves

_ROWS = ("AE", "IRMAE", "LoRAE", "LoRAE, proximal", "LoRAE, data space")
_THRESHOLDS = (1e-1, 1e-2, 1e-4, 1e-6)


class Figure2(Recipe):
    """Spectra of the codes."""

    name = "figure2"
    title = "Figure 2. Singular values of the covariance of the test codes"
    claim = (
        "LoRAE's latent space is far smaller than AE's, its singular values decay smoothly; "
        "IRMAE's fall sharply, to a still smaller space."
    )

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        return {
            (row, data, seed): Cell(spectrum, {}, plan.options(data, MODELS[row], seed))
            for data in plan.scale.sets
            for seed in plan.seeds_of(data)
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
        return Page(tables, [shown] if shown else [])


def _picture(data: str, curves: list[Curve]) -> Image:
    labels = ("singular value", "share of the largest")
    content = plot_curves(curves, labels, title=data, log="y", integer="x", limits=(1e-10, 2))
    return Image(f"figure2-{data.lower()}.svg", content, f"Spectra of codes, {data}")


def _ranks(plan: Plan, found: Mapping[Key, Result], data: str) -> Table:
    seeds = plan.seeds_of(data)
    rows = {row: rank_entries(found, (row, data), seeds, _THRESHOLDS) for row in _ROWS}
    columns = tuple(rows["AE"])
    return Table(data, columns, rows, {}, "Mean and 95% interval over the seeds.")
