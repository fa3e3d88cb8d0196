"""Table 3: FID of images drawn from a normal density and a mixture of codes.

    lorae reproduce table3 --scale cpu

Published (MNIST under N and GMM, CelebA under N and GMM):
    AE 103.08, 68.97, 68.13, 59.43; VAE 21.01, 18.86, 61.87, 53.63;
    IRMAE 26.58, 22.31, 58.98, 48.56; LoRAE 19.50, 11.09, 56.29, 45.43.
"""

from collections.abc import Mapping
from typing import ClassVar

from lorae.paper.common import distances, generations
from lorae.paper.queue import Cell, Result
from lorae.paper.recipe import Key, Page, Plan, Recipe

_PUBLISHED = {
    "AE": (103.08, 68.97, 68.13, 59.43),
    "VAE": (21.01, 18.86, 61.87, 53.63),
    "IRMAE": (26.58, 22.31, 58.98, 48.56),
    "LoRAE": (19.50, 11.09, 56.29, 45.43),
}


class Table3(Recipe):
    """Generation by the paper's four models, and by the two forms of LoRAE that are ours."""

    name = "table3"
    title = "Table 3. Distance of generated from real images"
    claim = "LoRAE has the lowest FID of the four on both sets under both densities."
    protocols = ("lorae", "authors")
    rows: ClassVar[tuple[str, ...]] = (*_PUBLISHED, "LoRAE, proximal", "LoRAE, scale-free")
    published: ClassVar[Mapping[str, tuple[float, ...]]] = _PUBLISHED

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        """Return a training for each model, data set and seed."""
        return generations(plan, self.rows, tuple(plan.scale.sets))

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        """Compare LoRAE with each of the others."""
        return Page([distances(plan, found, self.rows, tuple(plan.scale.sets), self.published)])
