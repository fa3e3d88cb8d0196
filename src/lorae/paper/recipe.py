"""The protocol of a recipe: the cells that it needs, and the page made of their results.

A recipe regenerates one table, figure or theorem of the paper. Its cells depend on a plan: the
scale, the seeds and the protocol of the evaluation. Its page holds tables with the published figure
beside the measured one; their last column states whether the claim held. A cell that was not
measured reads "not run"; nothing is ever filled in from the paper.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lorae.paper.queue import Cell, Result
from lorae.training.options import Options
from lorae.utils.intervals import Interval

Key = tuple[str | float | int, ...]
"""A cell's place in its recipe, such as (row, data set, seed)."""


@dataclass(frozen=True)
class Setting:
    """Options of training and measurement for one data set at one scale.

    Args:
        options: fields of :class:`lorae.Options`, the same for every model.
        changes: fields that differ for a model, by its name.
        samples: number of generated images, and of test images that they are compared with.
        features: "inception" or "classifier", the features that sets of images are compared by.
        mixture: components of the Gaussian mixture of codes.
        seeds: maximum number of seeds for this data set.
    """

    options: Mapping[str, Any]
    changes: Mapping[str, Mapping[str, Any]]
    samples: int
    features: str
    mixture: int
    seeds: int | None = None

    @property
    def densities(self) -> dict[str, str]:
        """The two densities of the paper, by the paper's names."""
        return {"MVG": "gaussian", "GMM": f"mixture-{self.mixture}"}

    @property
    def distance(self) -> str:
        """The name of the distance between sets of images that these features give."""
        return "FID" if self.features == "inception" else "classifier distance"


@dataclass(frozen=True)
class Scale:
    """The size of a reproduction.

    Args:
        name: smoke, cpu or paper.
        about: what is reduced, in a sentence or two.
        sets: the settings by data set, "MNIST" and "CelebA".
        weights: weights of the penalty, for Table 7, Theorem 2 and Proposition 1.
        lengths: training lengths, in steps, at which the rank is measured.
        latents: latent dimensions, for Table 8.
        labels: numbers of labels, for Table 6.
        head_epochs: epochs of the classification head.
        authors_epochs: the same by the authors' protocol.
        draws: number of random choices of the labels for each seed.
    """

    name: str
    about: str
    sets: Mapping[str, Setting]
    weights: Sequence[float]
    lengths: Sequence[int]
    latents: Sequence[int]
    labels: Sequence[int]
    head_epochs: int
    authors_epochs: int
    draws: int


@dataclass(frozen=True)
class Plan:
    """A scale, seeds and a protocol.

    Args:
        scale: the size of the reproduction.
        seeds: of weights, batches and random choices.
        protocol: "lorae", or "authors" for the evaluation of the authors' code.
    """

    scale: Scale
    seeds: tuple[int, ...] = (0, 1, 2)
    protocol: str = "lorae"

    def seeds_of(self, data: str) -> tuple[int, ...]:
        """Return the seeds that a data set is run with at this scale."""
        return self.seeds[: self.scale.sets[data].seeds]

    def options(self, data: str, model: str, seed: int, **changes: Any) -> Options:
        """Return the options of one training."""
        setting = self.scale.sets[data]
        fields = {**setting.options, **setting.changes.get(model, {}), **changes}
        return Options(model=model, seed=seed, **fields)


@dataclass(frozen=True)
class Entry:
    """An entry of a table.

    Attributes:
        values: the measured values, one for each seed.
        published: the published one.
        missing: what is shown if there are no values.
    """

    values: tuple[float, ...] = ()
    published: float | None = None
    missing: str = "not run"

    @property
    def interval(self) -> Interval | None:
        """Mean and 95% interval, or None if nothing was measured."""
        return Interval(self.values) if self.values else None

    def __str__(self) -> str:
        """Return the measured figure, and the published one in brackets."""
        text = self.missing if self.interval is None else str(self.interval)
        return text if self.published is None else f"{text} ({self.published:g})"


@dataclass(frozen=True)
class Table:
    """Rows of entries, each with a verdict in words.

    Args:
        corner: heading of the column of row names.
        columns: names of the columns, in order.
        rows: entries by column, by the name of the row; missing entries stay blank.
        verdicts: whether the claim held, by the name of a row; may be empty.
        caption: description of the figures.
    """

    corner: str
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Entry]]
    verdicts: Mapping[str, str] = field(default_factory=dict)
    caption: str = ""

    def markdown(self) -> str:
        """Return the table as Markdown."""
        head = [self.corner, *self.columns, *(["does the claim hold?"] if self.verdicts else [])]
        lines = [head, ["---"] * len(head)]
        for name, entries in self.rows.items():
            cells = [str(entries[c]) if c in entries else "" for c in self.columns]
            lines.append([name, *cells, *([self.verdicts.get(name, "")] if self.verdicts else [])])
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{text}\n\n{self.caption}" if self.caption else text

    def to_dict(self) -> dict[str, Any]:
        """Return the table as values that JSON can hold."""
        rows = {
            name: {
                column: {
                    "values": list(entry.values),
                    "mean": entry.interval and entry.interval.mean,
                    "half_width": entry.interval and entry.interval.half_width,
                    "published": entry.published,
                    **({} if entry.missing == "not run" else {"missing": entry.missing}),
                }
                for column, entry in entries.items()
            }
            for name, entries in self.rows.items()
        }
        return vars(self) | {"columns": list(self.columns), "rows": rows}


@dataclass(frozen=True)
class Image:
    """A picture of a page: the name and the content of its file, and a description."""

    name: str
    content: bytes
    alt: str


@dataclass(frozen=True)
class Page:
    """The results of a recipe for readers: tables, rows of pictures, and paragraphs."""

    tables: Sequence[Table] = ()
    images: Sequence[Sequence[Image]] = ()
    words: Sequence[str] = ()


class Recipe(ABC):
    """One table, figure or theorem of the paper.

    Attributes:
        name: its name on the command line.
        title: of its section in the results.
        claim: the paper's claim.
        protocols: the evaluations that it supports.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    claim: ClassVar[str]
    protocols: ClassVar[tuple[str, ...]] = ("lorae",)

    @abstractmethod
    def cells(self, plan: Plan) -> dict[Key, Cell]:
        """Return the cells that the recipe needs, by their place."""

    @abstractmethod
    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        """Return the page of the results, any of which may be missing."""


def values(
    found: Mapping[Key, Result], place: Key, seeds: Sequence[int], *path: str
) -> tuple[float, ...]:
    """Return the value at a path of the cells at a place, one for each seed that has it.

    The seed comes last in the place of a cell.
    """
    collected = []
    for seed in seeds:
        value: Any = found.get((*place, seed), {})
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, int | float):
            collected.append(float(value))
    return tuple(collected)


def verdict(ours: Entry, other: Entry, *, lower: bool = True) -> str:
    """Return whether one figure is better than another, decided if their intervals are apart."""
    a, b = ours.interval, other.interval
    if a is None or b is None:
        return "not measured"
    better = "yes" if (a.mean < b.mean if lower else a.mean > b.mean) else "no"
    if a.half_width is None or b.half_width is None:
        return f"not decided (one seed: {better})"
    if abs(a.mean - b.mean) > a.half_width + b.half_width:
        return better
    return f"not decided (means: {better}, intervals overlap)"


def compare_rows(rows: Mapping[str, Mapping[str, Entry]], *, lower: bool = True) -> dict[str, str]:
    """Return for each row, and for each of its columns, whether LoRAE's entry is better."""
    ours, texts = rows["LoRAE"], {}
    for row, entries in rows.items():
        verdicts = {name: verdict(ours[name], one, lower=lower) for name, one in entries.items()}
        same = len(set(verdicts.values())) == 1
        words = [f"{name} {word}" for name, word in verdicts.items()]
        text = next(iter(verdicts.values())) if same else "; ".join(words)
        texts[row] = "" if row == "LoRAE" else f"LoRAE {'lower' if lower else 'higher'}: {text}"
    return texts
