"""Table 6: accuracy of a head trained on frozen codes with few labels.

    lorae reproduce table6 --scale cpu

The head is trained on M E(x), as the paper says, on all labels of a balanced random choice, for a
fixed number of epochs. With `--protocol authors` it is trained as in the authors' code: on E(x) of
the first images of the training set, with the best test accuracy over training as the result.
`python3 dev.py bench protocol` measures what each of these differences is worth.

Published (10, 100, 1,000, 10,000 and 60,000 labels, %):
    AE 41.0, 68.16, 89.8, 96.5, 98.1; VAE 41.5, 77.47, 94.0, 98.5, 98.9;
    LoRAE 46.6, 89.02, 95.4, 97.9, 98.6; supervised 37.8, 73.59, 94.2, 98.3, 99.2.

Cost at the scale cpu: 16 process minutes on two cores, besides trainings of Table 3.
"""

from collections.abc import Mapping

from lorae.paper import measures
from lorae.paper.common import MODELS
from lorae.paper.queue import Cell, Result, portable_options
from lorae.paper.recipe import Entry, Key, Page, Plan, Recipe, Table, values, verdict

_DATA = "MNIST"
_LABELS = (10, 100, 1000, 10_000, 60_000)
_SUPERVISED = "supervised"
_ROWS = ("AE", "VAE", "LoRAE", "LoRAE, proximal", "LoRAE, data space", _SUPERVISED)
_PUBLISHED = {
    "AE": (41.0, 68.16, 89.8, 96.5, 98.1),
    "VAE": (41.5, 77.47, 94.0, 98.5, 98.9),
    "LoRAE": (46.6, 89.02, 95.4, 97.9, 98.6),
    _SUPERVISED: (37.8, 73.59, 94.2, 98.3, 99.2),
}


class Table6(Recipe):
    """Classification from few labels."""

    name = "table6"
    title = "Table 6. Test accuracy of a classifier on frozen codes, %"
    claim = (
        "With 10, 100 and 1,000 labels LoRAE's codes classify better than AE's, VAE's and a "
        "supervised network; with more it is about as good."
    )
    protocols = ("lorae", "authors")

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        return {
            (row, seed): self._supervised(plan, seed)
            if row == _SUPERVISED
            else self._head(plan, row, seed)
            for seed in plan.seeds
            for row in _ROWS
        }

    def _head(self, plan: Plan, row: str, seed: int) -> Cell:
        measure = (
            measures.classification if plan.protocol == "lorae" else measures.authors_classification
        )
        return Cell(measure, _settings(plan), plan.options(_DATA, MODELS[row], seed))

    def _supervised(self, plan: Plan, seed: int) -> Cell:
        options = portable_options(plan.options(_DATA, "ae", seed))
        settings = {"options": options} | _settings(plan)
        if plan.protocol == "authors":
            return Cell(measures.authors_supervised_classification, settings)
        settings["epochs"] = min(plan.scale.head_epochs, 20)
        return Cell(measures.supervised_classification, settings)

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        labels = [n for n in _LABELS if n in plan.scale.labels]
        rows = {
            row: {
                f"{n:,} labels": Entry(
                    values(found, (row,), plan.seeds, str(n)),
                    dict(zip(_LABELS, _PUBLISHED[row], strict=True))[n]
                    if row in _PUBLISHED
                    else None,
                )
                for n in labels
            }
            for row in _ROWS
        }
        verdicts = {row: _compare(rows, row) for row in rows}
        columns = tuple(f"{n:,} labels" for n in labels)
        return Page([Table("codes of", columns, rows, verdicts, self._caption(plan))])

    def _caption(self, plan: Plan) -> str:
        seeds = f"{len(plan.seeds)} seeds; in brackets the paper's"
        if plan.protocol == "authors":
            return (
                "The head reads E(x), of the VAE the mean, without standardization, and is trained "
                "on the first images of the training set; the accuracy is the best on the test set "
                f"over {plan.scale.authors_epochs} epochs. Mean and 95% interval over {seeds}."
            )
        return (
            "The head reads M E(x), standardized, and is trained on all labels for "
            f"{plan.scale.head_epochs} epochs, at least ten steps each; of the supervised network "
            f"{min(plan.scale.head_epochs, 20)}. Each value is the mean of {plan.scale.draws} "
            f"draws of labels; then mean and 95% interval over {seeds}."
        )


def _settings(plan: Plan) -> dict[str, object]:
    scale = plan.scale
    if plan.protocol == "authors":
        return {"labels": list(scale.labels), "epochs": scale.authors_epochs}
    return {"labels": list(scale.labels), "draws": scale.draws, "epochs": scale.head_epochs}


def _compare(rows: Mapping[str, Mapping[str, Entry]], row: str) -> str:
    if row == "LoRAE":
        return ""
    ours = rows["LoRAE"]
    verdicts = {c: verdict(ours[c], entry, lower=False) for c, entry in rows[row].items()}
    return "LoRAE higher: " + "; ".join(f"{c} {word}" for c, word in verdicts.items())
