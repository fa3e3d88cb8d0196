"""Figure 3: straight paths between the codes of two test images, decoded.

    lorae reproduce figure3 --scale cpu

Published: pictures of AE, VAE, IRMAE and LoRAE on MNIST.

Cost: the trainings are those of Table 3.
"""

from collections.abc import Mapping

from lorae.paper import measures
from lorae.paper.common import MODELS, images
from lorae.paper.queue import Cell, Result
from lorae.paper.recipe import Key, Page, Plan, Recipe

_ROWS = ("AE", "VAE", "IRMAE", "LoRAE")
_DATA = "MNIST"


class Figure3(Recipe):
    """Interpolations between test images."""

    name = "figure3"
    title = "Figure 3. Interpolation between test images"
    claim = "LoRAE's paths are smoother than AE's, and as good as VAE's."

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        return {
            (row, seed): Cell(
                measures.interpolation,
                {"rows": 6, "steps": 10},
                plan.options(_DATA, MODELS[row], seed),
            )
            for seed in plan.seeds[:1]
            for row in _ROWS
        }

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        shown = images(found, {row: (row, plan.seeds[0]) for row in _ROWS}, self.name)
        return Page(images=[shown] if shown else [], words=() if shown else ("Not run.",))
