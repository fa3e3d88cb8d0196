"""Tables 1 and 2 and Figure 3: images sampled from densities of codes, and paths between codes.

    lorae reproduce table1 table2 figure3 --scale cpu

Published: pictures.

Cost: the trainings are those of Table 3; the pictures take seconds.
"""

import base64
from collections.abc import Mapping
from typing import ClassVar

from lorae.paper import measures
from lorae.paper.common import MODELS
from lorae.paper.queue import Cell, Result
from lorae.paper.recipe import Image, Key, Page, Plan, Recipe

_ROWS = ("AE", "VAE", "IRMAE", "LoRAE")


class Table1(Recipe):
    """Images from a Gaussian mixture of codes."""

    name = "table1"
    title = "Table 1. Images generated from a Gaussian mixture of codes"
    claim = "LoRAE's images are visibly better than AE's and IRMAE's, and on a par with VAE's."
    density: ClassVar[str] = "GMM"

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        seed = plan.seeds[0]
        return {
            (row, data, seed): Cell(
                measures.sample_images,
                {"density": setting.densities[self.density], "count": 16},
                plan.options(data, MODELS[row], seed),
            )
            for data, setting in plan.scale.sets.items()
            for row in _ROWS
        }

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        rows: dict[Key, list[Image]] = {}
        for place in self.cells(plan):
            if png := found.get(place, {}).get("png"):
                model, *data = map(str, place[:-1])
                alt = ", ".join([*data, model])
                name = f"{self.name}-{alt.lower().replace(', ', '-')}.png"
                image = Image(name, base64.b64decode(png), alt)
                rows.setdefault(place[1:-1], []).append(image)
        return Page(images=list(rows.values()), words=() if rows else ("Not run.",))


class Table2(Table1):
    """Images from a multivariate normal density of codes."""

    name = "table2"
    title = "Table 2. Images generated from a multivariate Gaussian of codes"
    density = "MVG"


class Figure3(Table1):
    """Decoded straight paths between test images, of the same pairs for all models."""

    name = "figure3"
    title = "Figure 3. Interpolation between test images"
    claim = "LoRAE's paths are smoother than AE's, and as good as VAE's."

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        seed, settings = plan.seeds[0], {"rows": 6, "steps": 10}
        return {
            (row, seed): Cell(
                measures.interpolation, settings, plan.options("MNIST", MODELS[row], seed)
            )
            for row in _ROWS
        }
