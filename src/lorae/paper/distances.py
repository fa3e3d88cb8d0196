"""Tables 3, 4, 5 and 8: FID of generated images, and what lowers that of LoRAE.

    lorae reproduce table3 table4 table5 table8 improvements --scale cpu

Codes are sampled from a normal density (N) and a Gaussian mixture (GMM) that are fitted to codes of
training images. WAE and RAE have the latent dimensions of their own papers (8 and 16 on MNIST, 64
on CelebA), on the networks of this one. The paper quotes the GANs' figures from Lucic et al.
(NeurIPS 2018), who searched for the best hyper-parameters of each. Here all have the paper's
networks and one setting.

The paper's code saves the images, and the paper cites two tools: TTUR's, whose resize does not
antialias, and clean-fid, whose does. Which of them made its figures is not known, so every FID
column has them in brackets.

Cost at the scale cpu: on MNIST 2 minutes for a training and 3 for its images on a free core; on
CelebA, in process minutes on two cores, 29 for Table 3, 75 for Table 5, and 43 for Table 8,
trainings of Table 3 included.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from lorae.paper import measures
from lorae.paper.common import CHANGES, MODELS
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
from lorae.training.options import PAPER

_DATA = "CelebA"  # of Tables 5 and 8
_FLOOR = "real"


def generation(
    plan: Plan,
    data: str,
    seed: int,
    model: str,
    *,
    densities: Sequence[str] | None = None,
    **changes: object,
) -> dict[str, Cell]:
    """Return the cells of the scores of the images that a model generates, by their features.

    The densities of the codes are both of the paper's by default; `changes` are options of the
    training that differ from those of the scale.
    """
    measure = measures.generation if plan.protocol == "lorae" else measures.authors_generation
    settings = {"densities": list(densities or plan.scale.sets[data].densities.values())}
    options = plan.options(data, model, seed, **changes)
    return {
        features.name: Cell(measure, settings | features.settings, options)
        for features in plan.features_of(data)
    }


def floors(plan: Plan, sets: Iterable[str]) -> dict[Key, Cell]:
    """Return the cells of the distances of real images from real images, by place."""
    return {
        (_FLOOR, data, features.name): Cell(
            measures.real_distances,
            {"data": plan.scale.sets[data].options["data"], **features.settings},
        )
        for data in sets
        for features in plan.features_of(data)
    }


def distances(
    plan: Plan,
    found: Mapping[Key, Result],
    place: Key,
    data: str,
    densities: Mapping[str, str],
    *,
    published: Mapping[str, float] | None = None,
) -> dict[str, Entry]:
    """Return the distances measured by :func:`generation` at a place, by column.

    Densities are names in the result of a cell, by their names in the table; so are the published
    FIDs.
    """
    return {
        f"{shown}, {density}": Entry(
            values(found, (*place, features.name), plan.seeds_of(data), fitted, name),
            (published or {}).get(density) if name == "FID" else None,
        )
        for features in plan.features_of(data)
        for shown, name in features.distances.items()
        for density, fitted in densities.items()
    }


def without_kid(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return the entries that verdicts are about: FID and the classifier distance."""
    return {column: entry for column, entry in entries.items() if "KID" not in column}


def caption(plan: Plan, found: Mapping[Key, Result], data: str) -> str:
    """Return the caption of a table of distances, with those of real images from real images."""
    setting, count = plan.scale.sets[data], len(plan.seeds_of(data))
    how = "; ".join(map(str, plan.features_of(data)))
    floor = [
        f"{shown} {score[name]:.3g}"
        for features in plan.features_of(data)
        if (score := found.get((_FLOOR, data, features.name)))
        for shown, name in features.distances.items()
    ]
    real = f" Real test images against as many others: {', '.join(floor)}." if floor else ""
    return (
        f"{data}: {setting.about or plan.scale.about}. {how}. Lower is better.{real} Mean over "
        f"{count} seed{'s' if count > 1 else ''} and half the 95% interval (of one value there is "
        "none); in brackets the paper's FID. Verdicts: the 95% interval of the paired difference."
    )


_AUTOENCODERS: dict[str, dict[str, tuple[float, float]]] = {  # under N and GMM
    "AE": {"MNIST": (103.08, 68.97), "CelebA": (68.13, 59.43)},
    "VAE": {"MNIST": (21.01, 18.86), "CelebA": (61.87, 53.63)},
    "IRMAE": {"MNIST": (26.58, 22.31), "CelebA": (58.98, 48.56)},
    "WAE": {"MNIST": (21.04, 11.32), "CelebA": (57.6, 45.91)},
    "RAE": {"MNIST": (22.12, 11.54), "CelebA": (50.31, 46.05)},
    "LoRAE": {"MNIST": (19.50, 11.09), "CelebA": (56.29, 45.43)},
}


class Table3(Recipe):
    """The paper's four models, a shallower IRMAE, and two other forms of LoRAE."""

    name = "table3"
    title = "Table 3. Distance of generated from real images"
    claim = "LoRAE has the lowest FID of the four on both sets under both densities."
    protocols = ("lorae", "authors")
    models: ClassVar[tuple[str, ...]] = (
        *("AE", "VAE", "IRMAE", "IRMAE, 4 layers", "LoRAE"),
        *("LoRAE, proximal", "LoRAE, data space"),
    )

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        cells: dict[Key, Cell] = {
            (row, data, features, seed): cell
            for data in plan.scale.sets
            for seed in plan.seeds_of(data)
            for row in self.models
            for features, cell in generation(
                plan, data, seed, MODELS[row], **CHANGES.get(row, {})
            ).items()
        }
        return cells | floors(plan, plan.scale.sets)

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        return Page([self._table(plan, found, data) for data in plan.scale.sets])

    def _table(self, plan: Plan, found: Mapping[Key, Result], data: str) -> Table:
        densities, rows = plan.scale.sets[data].densities, {}
        for row in self.models:
            figures = _AUTOENCODERS.get(row, {}).get(data, ())
            published = dict(zip(densities, figures, strict=False))
            rows[row] = distances(plan, found, (row, data), data, densities, published=published)
        verdicts = compare_rows({row: without_kid(entries) for row, entries in rows.items()})
        return Table(data, tuple(rows["LoRAE"]), rows, verdicts, caption(plan, found, data))


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
            made = {
                row: generation(plan, _DATA, seed, model, densities=["prior"])
                for row, model in _PRIORS.items()
            }
            made["LoRAE"] = generation(plan, _DATA, seed, MODELS["LoRAE"])
            cells |= {(row, name, seed): c for row, by in made.items() for name, c in by.items()}
        return cells | floors(plan, [_DATA])

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        rows = {}
        for row, figure in _GENERATIVE.items():
            fitted = {"MVG": "prior" if row in _PRIORS else "gaussian"}
            rows[row] = distances(plan, found, (row,), _DATA, fitted, published={"MVG": figure})
        verdicts = compare_rows({row: without_kid(entries) for row, entries in rows.items()})
        columns = tuple(rows["LoRAE"])
        return Page([Table(_DATA, columns, rows, verdicts, caption(plan, found, _DATA))])


_USUAL = 128  # latent dimensions of the paper's networks
_FIGURES = {
    "AE": {64: 69.08, 128: 68.13, 256: 66.94, 512: 91.42, 1024: 107.98},
    "LoRAE": {64: 71.58, 128: 56.29, 256: 62.42, 512: 62.93, 1024: 63.89},
}
_BY_LATENT = {
    row: {latent: {"MVG": figure} for latent, figure in figures.items()}
    for row, figures in _FIGURES.items()
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
        cells: dict[Key, Cell] = {
            (row, latent, features, seed): cell
            for seed in plan.seeds_of(_DATA)
            for latent in plan.scale.latents
            for row in _BY_LATENT
            for features, cell in generation(
                plan, _DATA, seed, MODELS[row], **_options(plan, latent)
            ).items()
        }
        return cells | floors(plan, [_DATA])

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        rows: dict[str, dict[str, Entry]] = {}
        verdicts: dict[str, str] = {}
        for latent in plan.scale.latents:
            models = {
                row: distances(
                    plan,
                    found,
                    (row, latent),
                    _DATA,
                    {"MVG": "gaussian"},
                    published=figures.get(latent),
                )
                for row, figures in _BY_LATENT.items()
            }
            compared = {row: without_kid(entries) for row, entries in models.items()}
            verdicts[str(latent)] = compare_rows(compared)["AE"]
            rows[str(latent)] = {
                f"{row}, {column}": entry
                for row, entries in models.items()
                for column, entry in entries.items()
            }
        columns = tuple(next(iter(rows.values())))
        text = caption(plan, found, _DATA)
        return Page([Table("latent dimension", columns, rows, verdicts, text)])


def _options(plan: Plan, latent: int) -> dict[str, Any]:
    """Return the option for a latent dimension, none for the default, which Table 3 trains too."""
    usual = plan.scale.sets[_DATA].options.get("latent", _USUAL)
    return {} if latent == usual else {"latent": latent}


class Improvements(Recipe):
    """What lowers the distance of LoRAE's samples: one change at a time, and densities."""

    name = "improvements"
    title = "What lowers the distance of LoRAE's images"
    claim = (
        "None of the paper's, whose LoRAE has an FID of 11.09 on MNIST under GMM. RAE's authors "
        "publish 8.69 for RAE-L2."
    )
    densities: ClassVar[tuple[str, ...]] = ("mixture-auto", "flow")

    def rows(self, plan: Plan, data: str) -> dict[str, tuple[str, dict[str, Any]]]:
        """Return model and changed options by the name of a row."""
        epochs, steps = (plan.scale.sets[data].options.get(name) for name in ("epochs", "steps"))
        longer = (
            {"steps": 2 * steps}
            if steps
            else {"epochs": 2 * (epochs or PAPER[data.lower()]["epochs"])}
        )
        return {
            "LoRAE": ("lorae", {}),
            "sigmoid for tanh": ("lorae", {"sigmoid": True}),
            "moving average of 0.999": ("lorae", {"ema": 0.999}),
            "twice the steps": ("lorae", longer),
            "data space": ("lorae-data-space", {}),
            "sigmoid, moving average": ("lorae", {"sigmoid": True, "ema": 0.999}),
            "AE": ("ae", {}),
            "AE, sigmoid for tanh": ("ae", {"sigmoid": True}),
        }

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        cells: dict[Key, Cell] = {}
        for data, setting in plan.scale.sets.items():
            for seed in plan.seeds_of(data):
                for row, (model, changes) in self.rows(plan, data).items():
                    # those of Table 3 are shared with it
                    densities = None if row in MODELS else [setting.densities["GMM"]]
                    made = generation(plan, data, seed, model, densities=densities, **changes)
                    more = generation(plan, data, seed, model, densities=self.densities, **changes)
                    cells |= {(row, data, name, seed): cell for name, cell in made.items()}
                    # other densities are compared in the first features
                    name, cell = next(iter(more.items()))
                    cells[row, data, "densities", name, seed] = cell
        return cells | floors(plan, plan.scale.sets)

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        return Page([self._table(plan, found, data) for data in plan.scale.sets])

    def _table(self, plan: Plan, found: Mapping[Key, Result], data: str) -> Table:
        rows = {}
        mixture = {"GMM": plan.scale.sets[data].densities["GMM"]}
        for row in self.rows(plan, data):
            published = {"GMM": _AUTOENCODERS[row][data][1]} if row in _AUTOENCODERS else {}
            rows[row] = distances(plan, found, (row, data), data, mixture, published=published)
            first = plan.features_of(data)[0]
            for shown, name in first.distances.items():
                for density in self.densities:
                    place = row, data, "densities", first.name
                    score = values(found, place, plan.seeds_of(data), density, name)
                    rows[row][f"{shown}, {density}"] = Entry(score)
        verdicts = {row: self._verdict(row, rows) for row in rows}
        return Table(data, tuple(rows["LoRAE"]), rows, verdicts, caption(plan, found, data))

    def _verdict(self, row: str, rows: Mapping[str, Mapping[str, Entry]]) -> str:
        """Return whether the row is lower than the one that it changes."""
        base = "AE" if row.startswith("AE,") else "LoRAE"
        if row == base:
            return ""
        entries = without_kid({column: e for column, e in rows[row].items() if "GMM" in column})
        words = [f"{name} {verdict(one, rows[base][name])}" for name, one in entries.items()]
        return f"lower than {base}: " + "; ".join(words)
