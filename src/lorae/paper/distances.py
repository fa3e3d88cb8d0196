"""Tables 3, 4, 5 and 8: FID of generated images.

    lorae reproduce table3 table4 table5 table8 --scale cpu

Codes are sampled from a normal density (N) and a Gaussian mixture (GMM) that are fitted to codes of
training images. WAE and RAE have the latent dimensions of their own papers (8 and 16 on MNIST, 64
on CelebA), on the networks of this one. The paper quotes the GANs' figures from Lucic et al.
(NeurIPS 2018), who searched for the best hyper-parameters of each. Here all have the paper's
networks and one setting.

Cost at the scale cpu, in process minutes on two cores: 41 for Table 3 and 38 for Table 4, LoRAE
counted in both; 75 for Table 5; 43 for Table 8, trainings of Table 3 included.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lorae.paper import measures
from lorae.paper.common import MODELS
from lorae.paper.queue import Cell, Result
from lorae.paper.recipe import (
    Entry,
    Key,
    Page,
    Plan,
    Recipe,
    Table,
    compare_rows,
    values,
    verdict,
)

_DATA = "CelebA"  # of Tables 5 and 8


def generation(
    plan: Plan,
    data: str,
    seed: int,
    model: str,
    *,
    densities: Sequence[str] | None = None,
    **changes: object,
) -> Cell:
    """Return the cell of the scores of the images that a model generates.

    The densities of the codes are both of the paper's by default; `changes` are options of the
    training that differ from those of the scale.
    """
    setting = plan.scale.sets[data]
    measure = measures.generation if plan.protocol == "lorae" else measures.authors_generation
    settings = {
        "densities": list(densities or setting.densities.values()),
        "samples": setting.samples,
        "extractor": setting.features,
    }
    return Cell(measure, settings, plan.options(data, model, seed, **changes))


def distances(
    plan: Plan, found: Mapping[Key, Result], place: Key, data: str, density: str
) -> tuple[float, ...]:
    """Return a distance measured by :func:`generation`, for each seed that has it.

    The density is "MVG" or "GMM", or another of the cell.
    """
    setting = plan.scale.sets[data]
    path = setting.densities.get(density, density), setting.distance
    return values(found, place, plan.seeds_of(data), *path)


def caption(plan: Plan, sets: Sequence[str]) -> str:
    """Return the caption of a table of distances."""
    settings = {data: plan.scale.sets[data] for data in sets}
    scores = [f"{data}: {one.distance} over {one.samples} images" for data, one in settings.items()]
    count = max(len(plan.seeds_of(data)) for data in sets)
    seeds = f"{count} seed{'s' if count > 1 else ''}"
    other = any(one.distance != "FID" for one in settings.values())
    return (
        f"{'; '.join(scores)}. Lower is better. Mean over {seeds} and half the 95% interval (of "
        "one value there is none); in brackets the paper's FID"
        + (", which is on another scale than the classifier distance." if other else ".")
    )


_AUTOENCODERS = {  # MNIST under N and GMM, CelebA under N and GMM
    "AE": (103.08, 68.97, 68.13, 59.43),
    "VAE": (21.01, 18.86, 61.87, 53.63),
    "IRMAE": (26.58, 22.31, 58.98, 48.56),
    "WAE": (21.04, 11.32, 57.6, 45.91),
    "RAE": (22.12, 11.54, 50.31, 46.05),
    "LoRAE": (19.50, 11.09, 56.29, 45.43),
}


class Table3(Recipe):
    """The paper's four models, and the proximal and the data-space form of LoRAE."""

    name = "table3"
    title = "Table 3. Distance of generated from real images"
    claim = "LoRAE has the lowest FID of the four on both sets under both densities."
    protocols = ("lorae", "authors")
    models: ClassVar[tuple[str, ...]] = (
        *("AE", "VAE", "IRMAE", "LoRAE"),
        *("LoRAE, proximal", "LoRAE, data space"),
    )

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        return {
            (row, data, seed): generation(plan, data, seed, MODELS[row])
            for data in plan.scale.sets
            for seed in plan.seeds_of(data)
            for row in self.models
        }

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        columns = {
            f"{data}, {density}": (data, density)
            for data, setting in plan.scale.sets.items()
            for density in setting.densities
        }
        rows = {}
        for row in self.models:
            published = _AUTOENCODERS.get(row, (None,) * len(columns))
            rows[row] = {
                column: Entry(distances(plan, found, (row, data), data, density), figure)
                for (column, (data, density)), figure in zip(
                    columns.items(), published, strict=True
                )
            }
        text = caption(plan, list(plan.scale.sets))
        return Page([Table("model", tuple(columns), rows, compare_rows(rows), text)])


class Table4(Table3):
    """WAE, RAE and LoRAE."""

    name = "table4"
    title = "Table 4. LoRAE against WAE and RAE"
    claim = "LoRAE has the lowest FID, except on CelebA under N, where RAE's is lower."
    models = ("WAE", "RAE", "LoRAE")


_PRIORS = {"GAN": "gan", "LS-GAN": "ls-gan", "NS-GAN": "ns-gan", "VAE + Flow": "vae-flow"}
_GENERATIVE = {"GAN": 65.2, "LS-GAN": 54.1, "NS-GAN": 57.3, "VAE + Flow": 65.7, "LoRAE": 56.3}


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
        rows = {}
        for row, figure in _GENERATIVE.items():
            density = "prior" if row in _PRIORS else "MVG"
            rows[row] = {_DATA: Entry(distances(plan, found, (row,), _DATA, density), figure)}
        text = caption(plan, [_DATA])
        return Page([Table("model", (_DATA,), rows, compare_rows(rows), text)])


_LATENTS = (64, 128, 256, 512, 1024)
_USUAL = 128  # of the paper's networks
_BY_LATENT = {
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
            for row in _BY_LATENT
        }

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        rows: dict[str, dict[str, Entry]] = {}
        for latent in plan.scale.latents:
            rows[str(latent)] = {
                row: Entry(
                    distances(plan, found, (row, latent), _DATA, "MVG"),
                    dict(zip(_LATENTS, figures, strict=True)).get(latent),
                )
                for row, figures in _BY_LATENT.items()
            }
        verdicts = {
            latent: f"LoRAE lower: {verdict(row['LoRAE'], row['AE'])}"
            for latent, row in rows.items()
        }
        text = caption(plan, [_DATA])
        return Page([Table("latent dimension", tuple(_BY_LATENT), rows, verdicts, text)])


def _options(plan: Plan, latent: int) -> dict[str, Any]:
    """Return the option for a latent dimension, none for the default, which Table 3 trains too."""
    usual = plan.scale.sets[_DATA].options.get("latent", _USUAL)
    return {} if latent == usual else {"latent": latent}
