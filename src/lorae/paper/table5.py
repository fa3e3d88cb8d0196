"""Table 5: FID on CelebA of LoRAE and of generative models.

    lorae reproduce table5 --scale cpu

The paper quotes the GANs' figures from Lucic et al. (NeurIPS 2018), who searched for the best
hyper-parameters of each. Here all have the paper's networks and one setting.

Published: GAN 65.2, LS-GAN 54.1, NS-GAN 57.3, VAE+Flow 65.7, LoRAE 56.3.

Cost at the scale cpu: 75 process minutes on two cores.
"""

from collections.abc import Mapping

from lorae.paper.common import MODELS, caption, compare_rows, generation
from lorae.paper.queue import Cell, Result
from lorae.paper.recipe import Entry, Key, Page, Plan, Recipe, Table, values

_PRIORS = {"GAN": "gan", "LS-GAN": "ls-gan", "NS-GAN": "ns-gan", "VAE + Flow": "vae-flow"}
_PUBLISHED = {"GAN": 65.2, "LS-GAN": 54.1, "NS-GAN": 57.3, "VAE + Flow": 65.7, "LoRAE": 56.3}
_DATA = "CelebA"


class Table5(Recipe):
    """Generation from a prior by GANs and a VAE with a flow, from a normal density by LoRAE."""

    name = "table5"
    title = "Table 5. LoRAE against generative models"
    claim = "LoRAE's FID (under N) is between that of LS-GAN, which is lower, and the others'."

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        cells: dict[Key, Cell] = {}
        for seed in plan.seeds_of(_DATA):
            for row, model in _PRIORS.items():
                cells[row, seed] = generation(plan, _DATA, seed, model, densities=["prior"])
            cells["LoRAE", seed] = generation(plan, _DATA, seed, MODELS["LoRAE"])
        return cells

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        setting = plan.scale.sets[_DATA]
        rows = {}
        for row, figure in _PUBLISHED.items():
            density = "prior" if row in _PRIORS else setting.densities["MVG"]
            path = density, setting.distance
            distances = values(found, (row,), plan.seeds_of(_DATA), *path)
            rows[row] = {_DATA: Entry(distances, figure)}
        verdicts = {row: compare_rows(rows, row) for row in rows}
        return Page([Table("model", (_DATA,), rows, verdicts, caption(plan, [_DATA]))])
