"""Table 6: accuracy of a head trained on frozen codes with few labels.

    lorae reproduce table6 --scale cpu

The head is trained on M E(x), as the paper says, on all labels of a balanced random choice, for a
fixed number of epochs. With `--protocol authors` it is trained as in the authors' code: on E(x) of
the first images of the training set, with the best test accuracy over training as the result.
`python3 dev.py bench protocol` measures what each of these differences is worth.

Cost at the scale cpu: about 16 process minutes on two cores, besides trainings of Table 3.
"""

from collections.abc import Mapping
from typing import Any

from lorae.paper import measures
from lorae.paper.common import MODELS
from lorae.paper.queue import Cell, Measure, Result, portable_options
from lorae.paper.recipe import Entry, Key, Page, Plan, Recipe, Table, compare_rows, values

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


_MEASURES: dict[str, tuple[Measure, Measure]] = {
    "lorae": (measures.classification, measures.supervised_classification),
    "authors": (measures.authors_classification, measures.authors_supervised_classification),
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
        scale, (head, supervised) = plan.scale, _MEASURES[plan.protocol]
        settings: dict[str, Any] = {"labels": list(scale.labels), "epochs": scale.authors_epochs}
        if plan.protocol == "lorae":
            settings |= {"draws": scale.draws, "epochs": scale.head_epochs}
        epochs = settings["epochs"] if plan.protocol == "authors" else _epochs(plan)
        cells: dict[Key, Cell] = {}
        for seed in plan.seeds:
            for row in _ROWS:
                if row == _SUPERVISED:
                    options = portable_options(plan.options(_DATA, "ae", seed))
                    cell = Cell(supervised, settings | {"options": options, "epochs": epochs})
                else:
                    cell = Cell(head, settings, plan.options(_DATA, MODELS[row], seed))
                cells[row, seed] = cell
        return cells

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        labels = [n for n in _LABELS if n in plan.scale.labels]
        rows = {
            row: {
                f"{n:,} labels": Entry(
                    values(found, (row,), plan.seeds, str(n)),
                    dict(zip(_LABELS, _PUBLISHED.get(row, ()), strict=False)).get(n),
                )
                for n in labels
            }
            for row in _ROWS
        }
        verdicts = compare_rows(rows, lower=False)
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
            f"{_epochs(plan)}. Each value is the mean of {plan.scale.draws} "
            f"draws of labels; then mean and 95% interval over {seeds}."
        )


def _epochs(plan: Plan) -> int:
    """Return the epochs of the supervised network."""
    return min(plan.scale.head_epochs, 20)
