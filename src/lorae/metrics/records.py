"""The evaluation of a run and its record in the run folder.

`evaluation.json` holds for each part of the evaluation the protocol (checksums of data and model,
the extractor with checksum and resize, numbers of samples, seeds, versions) and the scores (all
values, their mean and half the width of its 95% confidence interval). Evaluating a part again
replaces its record and keeps those of the other parts.
"""

import dataclasses
from collections.abc import Sequence
from itertools import groupby
from typing import Any, TypedDict

from lorae.errors import InputError
from lorae.metrics.inception import RESIZES
from lorae.metrics.protocol import Protocol, check_parts
from lorae.metrics.scores import PARTS, Score
from lorae.metrics.subject import Subject, build_extractor
from lorae.training.options import data_of
from lorae.training.run_folder import Run, environment
from lorae.utils.records import read_record, write_record
from lorae.utils.text import format_table
from lorae.utils.validation import check_choice

FILE = "evaluation.json"


class ScoreRecord(TypedDict):
    """A score in `evaluation.json`."""

    part: str
    name: str
    of: str
    values: list[float]


class ProtocolRecord(TypedDict):
    """The protocol of a part in `evaluation.json`."""

    data: str
    model: str
    extractor: str | None
    samples: int
    compared: int
    limits: list[str]
    seeds: list[int]


class PartRecord(TypedDict):
    """A part in `evaluation.json`."""

    protocol: ProtocolRecord
    scores: list[ScoreRecord]


def evaluate_run(
    run: Run,
    protocol: Protocol | None = None,
    parts: Sequence[str] = (),
    *,
    features: str = "auto",
    resize: str = "bicubic",
    trust: bool = False,
) -> dict[str, Any]:
    """Evaluate a run, update its `evaluation.json`, and return the content of that file.

    Args:
        run: a finished run.
        protocol: by default 2,000 samples and 3 repeats.
        parts: names in `lorae.metrics.scores.PARTS`, all by default; parts that do not apply to the
            model or its data are left out.
        features: as of :func:`lorae.metrics.subject.build_extractor`.
        resize: to Inception's size, "bicubic" or "bilinear".
        trust: load a file of weights that is not the original, which is a program.

    Raises:
        InputError: if the run has not ended, a name is unknown, no part applies, or the features
            are not available.
    """
    protocol = Protocol() if protocol is None else protocol
    check_parts(tuple(parts))
    check_choice("resize", resize, RESIZES)
    parts = list(parts) or list(PARTS)
    data = data_of(run)
    subject = Subject(run.model(), data, protocol)
    if data.is_image and {"reconstruction", "generation", "interpolation"} & set(parts):
        subject.extractor = build_extractor(features, data, resize, trust=trust)
    stated = dataclasses.asdict(protocol) | {
        "data": data.checksum,
        "model": run.last["model"],
        "extractor": None if subject.extractor is None else subject.extractor.identity,
        "compared": len(subject.test),
        "limits": subject.limits(),
        "seeds": list(protocol.seeds),
        "environment": environment(),
    }
    scores = {part: [score.to_dict() for score in PARTS[part](subject)] for part in parts}
    new = {part: {"protocol": stated, "scores": found} for part, found in scores.items() if found}
    if not new:
        raise InputError(
            f"parts must include one that applies to the model and data of {str(run.path)!r}, got "
            f"{', '.join(parts)}"
        )
    write_record(run.path / FILE, read_evaluation(run) | new)
    return read_evaluation(run)


def read_evaluation(run: Run) -> dict[str, Any]:
    """Return the content of a run's `evaluation.json`, empty if there is none."""
    path = run.path / FILE
    record: dict[str, Any] = read_record(path, dict[str, PartRecord]) if path.exists() else {}
    for name, part in record.items():
        if part["protocol"]["model"] != run.last["model"]:
            raise InputError(
                f"{str(path)!r} has scores of another model (part {name!r}): delete it, and "
                "evaluate the run again"
            )
    return record


def read_scores(run: Run) -> list[Score]:
    """Return the scores in a run's `evaluation.json`."""
    return [
        Score(score["part"], score["name"], score["of"], tuple(score["values"]))
        for part in read_evaluation(run).values()
        for score in part["scores"]
    ]


def format_protocol(stated: dict[str, Any]) -> str:
    """Return a recorded protocol as one line."""
    seeds, extractor = stated["seeds"], stated["extractor"]
    parts = [f"{stated['compared']:,} test samples", f"seeds {seeds[0]} to {seeds[-1]}"]
    if extractor is not None:
        words = extractor.split()
        resized = f", images resized {words[-1]}" if words[0] == "inception" else ""
        parts.append(f"features: {words[0]}{resized}")
    return "; ".join(parts + stated["limits"])


def format_protocols(run: Run, parts: Sequence[str] = ()) -> str:
    """Return a line for each protocol in a run's record, with the parts that it holds for."""
    by_line: dict[str, list[str]] = {}
    for part, record in read_evaluation(run).items():
        if not parts or part in parts:
            by_line.setdefault(format_protocol(record["protocol"]), []).append(part)
    return "\n".join(f"{', '.join(names)}: {line}" for line, names in by_line.items())


def format_scores(scores: Sequence[Score]) -> str:
    """Return scores as aligned lines, under the name of their part."""
    rows = [(f"  {score.name}", score.of, score.interval) for score in scores]
    lines = format_table(rows, align="l").splitlines()
    blocks = groupby(zip(scores, lines, strict=True), key=lambda pair: pair[0].part)
    return "\n".join(line for part, block in blocks for line in (part, *(row for _, row in block)))
