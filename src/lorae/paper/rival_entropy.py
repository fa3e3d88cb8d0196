r"""Entropy of a classifier on interpolated images, the RRAE paper's measure on MNIST.

    lorae reproduce rival-entropy --scale cpu

Mounayer et al., Rank Reduction Autoencoders (arXiv 2405.13980): between the codes of two test
images, five codes at equal steps are decoded, for 2,000 pairs, and a classifier is asked for their
class. The figure is the mean entropy :math:`-\sum_c p_c \log p_c` of its answers, in nats: a
decoded image that looks like a digit has a low one. The classifier is the one that this package
takes features from (:mod:`lorae.metrics.classifier`), so figures are comparable with each other
more than with the published ones; the test images themselves are the floor. A model that maps all
images to one digit has a low entropy, too: the test error stands beside it.

Cost at the scale cpu: the trainings are those of Table 3, and 2 minutes for each RRAE.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lorae.metrics.classifier import fit_or_load_classifier
from lorae.metrics.features import as_bytes
from lorae.nn.inference import decode_all, encode_all
from lorae.paper.common import MODELS
from lorae.paper.queue import Cell, Result, load_data, measure
from lorae.paper.recipe import Entry, Key, Page, Plan, Recipe, Table, values
from lorae.sampling.interpolation import interpolate
from lorae.training.options import Options
from lorae.training.run_folder import Run

_DATA, _PAIRS, _BETWEEN = "MNIST", 2000, 5


class Row(NamedTuple):
    """A model of the table, its settings and its published entropy."""

    model: str
    settings: Mapping[str, int] | None = None
    published: float | None = None


ROWS = {
    "AE": Row("ae"),
    "IRMAE": Row("irmae", published=0.53),
    "LoRAE": Row("lorae", published=0.51),
    "LoRAE, proximal": Row(MODELS["LoRAE, proximal"]),
    "LoRAE, data space": Row(MODELS["LoRAE, data space"]),
    "RRAE, rank 3": Row("rrae", {"rank": 3}, 0.59),
    "RRAE, rank 5": Row("rrae", {"rank": 5}, 0.50),
    "RRAE, rank 8": Row("rrae", {"rank": 8}, 0.50),
}


class RivalEntropy(Recipe):
    """How much interpolated images look like digits."""

    name = "rival-entropy"
    title = "Rivals. Entropy of a classifier on interpolated digits (Mounayer et al., RRAE)"
    claim = "The rivals': RRAEs of rank 5 and 8 have the lowest entropy, 0.50 (LoRAE 0.51)."

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        settings = {"pairs": _PAIRS, "between": _BETWEEN}
        return {
            (name, seed): Cell(interpolation_entropy, settings, _options(plan, row, seed))
            for seed in plan.seeds_of(_DATA)
            for name, row in ROWS.items()
        }

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        seeds, rows = plan.seeds_of(_DATA), {}
        for name, row in ROWS.items():
            rows[name] = {
                "entropy": Entry(values(found, (name,), seeds, "entropy"), row.published),
                "of test images": Entry(values(found, (name,), seeds, "floor")),
                "test error": Entry(values(found, (name,), seeds, "error")),
            }
        caption = (
            "Entropy in nats over five images between each of up to 2,000 pairs of test images, "
            "means over the seeds and half the 95% interval; in brackets the published figure, of "
            "another classifier."
        )
        return Page([Table("model", tuple(rows["AE"]), rows, {}, caption)])


def _options(plan: Plan, row: Row, seed: int) -> Options:
    changes: dict[str, Any] = {} if row.settings is None else {"settings": dict(row.settings)}
    return plan.options(_DATA, row.model, seed, **changes)


@measure("interpolation-entropy")
def interpolation_entropy(run: Run, *, pairs: int, between: int) -> Result:
    """Return the mean entropy of a classifier's answers on images between test images."""
    data, model = load_data(Options.from_dict(run.options)), run.model()
    assert data.train_labels is not None
    classifier = fit_or_load_classifier(as_bytes(data.unit(data.train)), data.train_labels)
    generator = torch.Generator().manual_seed(run.options["seed"])
    order = torch.randperm(len(data.test), generator=generator)[: 2 * pairs]
    images = data.test[order[: len(order) // 2 * 2]]
    starts, ends = encode_all(model, images).chunk(2)
    inner = interpolate(starts, ends, between + 2)[:, 1:-1].flatten(0, 1)
    return {
        "entropy": entropy(classifier.network, as_bytes(data.unit(decode_all(model, inner)))),
        "floor": entropy(classifier.network, as_bytes(data.unit(images))),
        "error": run.last["test"]["reconstruction"],
        "images": len(inner),
    }


@torch.no_grad()
def entropy(network: torch.nn.Module, images: Tensor) -> float:
    """Return the mean entropy of the classes that a network of logits gives to bytes, in nats."""
    parts = torch.split(images, 500)
    logits = torch.cat([network(part.float() / 255) for part in parts])
    logs = logits.double().log_softmax(1)
    return float(-(logs.exp() * logs).sum(1).mean())
