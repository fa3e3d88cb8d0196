"""The protocol of a recipe: the cells that it needs, and the page made of their results.

A recipe regenerates one table, figure or theorem of the paper. Its cells depend on a plan: the
scale, the seeds and the protocol of the evaluation. Its page holds tables with the published figure
beside the measured one; their last column states whether the claim held. A cell that was not
measured reads "not run"; nothing is ever filled in from the paper.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from lorae.paper.queue import Cell, Result
from lorae.training.options import Options
from lorae.utils.intervals import Interval

Key = tuple[str | float | int, ...]
"""A cell's place in its recipe, such as (row, data set, seed)."""


@dataclass(frozen=True)
class Features:
    """Features in which generated images are compared with test images, and how many of each.

    Args:
        extractor: "inception" or "classifier".
        samples: number of generated images, and of test images that they are compared with.
        resize: to Inception's size, "bicubic" or "bilinear"; see
            :class:`lorae.metrics.inception.Inception`.
        precision: of Inception, "float32" or "bfloat16".
    """

    extractor: str
    samples: int
    resize: str = "bicubic"
    precision: str = "float32"

    @property
    def name(self) -> str:
        """Its name in the place of a cell."""
        return self.extractor if self.extractor == "classifier" else f"inception {self.resize}"

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of a measure; those with their default are not part of a cell's key."""
        chosen = {"samples": self.samples, "extractor": self.extractor}
        chosen |= {} if self.resize == "bicubic" else {"resize": self.resize}
        return chosen | ({} if self.precision == "float32" else {"precision": self.precision})

    @property
    def distances(self) -> dict[str, str]:
        """The names of the distances in a measure's result, by the names that tables show."""
        if self.extractor == "classifier":
            return {"classifier distance": "classifier distance"}
        return {f"FID {self.resize}": "FID", f"KID {self.resize}": "KID"}

    def __str__(self) -> str:
        """Return how sets are compared, for captions."""
        if self.extractor == "classifier":
            return f"classifier distance over {self.samples:,} images"
        how = {"bicubic": "antialiased, as in clean-fid", "bilinear": "not antialiased, as in TTUR"}
        return (
            f"FID and KID over {self.samples:,} images, {self.resize} resize ({how[self.resize]}), "
            f"{self.precision}"
        )


@dataclass(frozen=True)
class Setting:
    """Options of training and measurement for one data set at one scale.

    Args:
        options: fields of :class:`lorae.Options`, the same for every model.
        changes: fields that differ for a model, by its name.
        features: in which sets of images are compared.
        mixture: components of the Gaussian mixture of codes.
        about: what is reduced, in a sentence or two.
        seeds: maximum number of seeds for this data set.
    """

    options: Mapping[str, Any]
    changes: Mapping[str, Mapping[str, Any]]
    features: Sequence[Features]
    mixture: int
    about: str = ""
    seeds: int | None = None

    @property
    def densities(self) -> dict[str, str]:
        """The two densities of the paper, by the paper's names."""
        return {"MVG": "gaussian", "GMM": f"mixture-{self.mixture}"}


@dataclass(frozen=True)
class Scale:
    """The size of a reproduction.

    Args:
        name: smoke, cpu or paper.
        about: what it is, in a sentence.
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

    def features_of(self, data: str) -> tuple[Features, ...]:
        """Return the features for a data set; the authors' protocol does not antialias."""
        features = self.scale.sets[data].features
        if self.protocol == "authors":
            features = [replace(one, resize="bilinear") for one in features]
        return tuple(dict.fromkeys(features))

    def options(self, data: str, model: str, seed: int, **changes: Any) -> Options:
        """Return the options of one training."""
        setting = self.scale.sets[data]
        fields = {**setting.options, **setting.changes.get(model, {}), **changes}
        return Options(model=model, seed=seed, **fields)


@dataclass(frozen=True)
class Entry:
    """An entry of a table.

    Attributes:
        values: the measured values, one for each seed; None for a seed that was not run.
        published: the published one.
        missing: what is shown if there are no values.
    """

    values: tuple[float | None, ...] = ()
    published: float | None = None
    missing: str = "not run"

    @property
    def measured(self) -> tuple[float, ...]:
        """The values of the seeds that were run."""
        return tuple(value for value in self.values if value is not None)

    @property
    def interval(self) -> Interval | None:
        """Mean and 95% interval, or None if nothing was measured."""
        return Interval(self.measured) if self.measured else None

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
) -> tuple[float | None, ...]:
    """Return the value at a path of the cells at a place, by seed; None for seeds without one.

    The seed comes last in the place of a cell.
    """
    collected = []
    for seed in seeds:
        value: Any = found.get((*place, seed), {})
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        collected.append(float(value) if isinstance(value, int | float) else None)
    return tuple(collected) if any(value is not None for value in collected) else ()


def difference(ours: Entry, other: Entry) -> Interval | None:
    """Return the differences of two entries seed by seed, or None if no seed has both.

    Both entries must list the same seeds in the same order.
    """
    pairs = zip(ours.values, other.values, strict=False)
    found = tuple(a - b for a, b in pairs if a is not None and b is not None)
    return Interval(found) if found else None


def verdict(ours: Entry, other: Entry, *, lower: bool = True) -> str:
    """Return whether one figure is better than another: yes, no, or how close they are.

    It is decided by the 95% interval of the paired differences over the seeds: yes or no with that
    interval if it does not hold 0, otherwise its end that is farther from 0.
    """
    gap = difference(ours, other)
    if gap is None:
        return "not run"
    word = "yes" if (gap.mean < 0) == lower and gap.mean else "no"
    if gap.half_width is None:
        return f"one seed: {word}, by {abs(gap.mean):.3g}"
    if abs(gap.mean) > gap.half_width:
        return f"{word}, by {abs(gap.mean):.3g} ± {gap.half_width:.2g}"
    return f"within {abs(gap.mean) + gap.half_width:.2g} of each other"


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
