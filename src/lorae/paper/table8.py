"""Table 8: FID of a plain autoencoder and of LoRAE for several latent dimensions.

    lorae reproduce table8 --scale cpu

Published (64, 128, 256, 512, 1024, under N): AE 69.08, 68.13, 66.94, 91.42, 107.98;
    LoRAE 71.58, 56.29, 62.42, 62.93, 63.89.

Cost at the scale cpu: 43 process minutes on two cores, trainings of Table 3 included.
"""

from collections.abc import Mapping
from typing import Any

from lorae.paper.common import MODELS, caption, generation
from lorae.paper.queue import Cell, Result
from lorae.paper.recipe import Entry, Key, Page, Plan, Recipe, Table, values, verdict

_DATA = "CelebA"
_LATENTS = (64, 128, 256, 512, 1024)
_USUAL = 128  # of the paper's networks
_PUBLISHED = {
    "AE": (69.08, 68.13, 66.94, 91.42, 107.98),
    "LoRAE": (71.58, 56.29, 62.42, 62.93, 63.89),
}


class Table8(Recipe):
    """Distance over latent dimensions."""

    name = "table8"
    title = "Table 8. Latent dimension and distance of generated images"
    claim = (
        "From 128 dimensions on LoRAE's FID is below AE's, and it hardly changes where AE's grows."
    )
    protocols = ("lorae", "authors")

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        return {
            (row, latent, seed): generation(
                plan, _DATA, seed, MODELS[row], **_options(plan, latent)
            )
            for seed in plan.seeds_of(_DATA)
            for latent in plan.scale.latents
            for row in _PUBLISHED
        }

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        setting = plan.scale.sets[_DATA]
        latents = plan.scale.latents
        density = setting.densities["MVG"]
        rows: dict[str, dict[str, Entry]] = {}
        for latent in latents:
            rows[str(latent)] = {
                row: Entry(
                    values(found, (row, latent), plan.seeds_of(_DATA), density, setting.distance),
                    dict(zip(_LATENTS, figures, strict=True)).get(latent),
                )
                for row, figures in _PUBLISHED.items()
            }
        verdicts = {
            latent: f"LoRAE lower: {verdict(row['LoRAE'], row['AE'])}"
            for latent, row in rows.items()
        }
        return Page(
            [Table("latent dimension", tuple(_PUBLISHED), rows, verdicts, caption(plan, [_DATA]))]
        )


def _options(plan: Plan, latent: int) -> dict[str, Any]:
    """Return the option for a latent dimension, none for the default, which Table 3 trains too."""
    usual = plan.scale.sets[_DATA].options.get("latent", _USUAL)
    return {} if latent == usual else {"latent": latent}
