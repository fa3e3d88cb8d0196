"""Tables 1 and 2: images sampled from a mixture (Table 1) and a normal density (Table 2) of codes.

    lorae reproduce table1 table2 --scale cpu

Published: pictures.

Cost: the trainings are those of Table 3; the pictures take seconds.
"""

from collections.abc import Mapping
from typing import ClassVar

from lorae.paper import measures
from lorae.paper.common import MODELS, images
from lorae.paper.queue import Cell, Result
from lorae.paper.recipe import Key, Page, Plan, Recipe

_ROWS = ("AE", "VAE", "IRMAE", "LoRAE")
_COUNT = 16


class Table1(Recipe):
    """Images from a Gaussian mixture of codes."""

    name = "table1"
    title = "Table 1. Images generated from a Gaussian mixture of codes"
    claim = "LoRAE's images are visibly better than AE's and IRMAE's, and on a par with VAE's."
    density: ClassVar[str] = "GMM"

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        return {
            (row, data, seed): Cell(
                measures.sample_images,
                {"density": setting.densities[self.density], "count": _COUNT},
                plan.options(data, MODELS[row], seed),
            )
            for data, setting in plan.scale.sets.items()
            for seed in plan.seeds[:1]
            for row in _ROWS
        }

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        shown = [
            images(
                found,
                {f"{data}, {row}": (row, data, plan.seeds[0]) for row in _ROWS},
                self.name,
            )
            for data in plan.scale.sets
        ]
        words = () if any(shown) else ("Not run.",)
        return Page(images=[row for row in shown if row], words=words)


class Table2(Table1):
    """Images from a multivariate normal density of codes."""

    name = "table2"
    title = "Table 2. Images generated from a multivariate Gaussian of codes"
    density = "MVG"
