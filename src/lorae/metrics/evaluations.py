"""What a run folder keeps of its evaluation: every score, and all it takes to compute it again.

`evaluation.json` holds, for each part of the evaluation, its protocol (data and model by checksum,
the extractor by name, checksum and resize, how many samples of what, the seeds, the versions) and
its scores (every value, their mean and half the width of its 95% interval). A part that is
evaluated again replaces its old self and leaves the others.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from lorae.data.downloads import sha256
from lorae.errors import InputError, unknown
from lorae.metrics.features import RESIZES
from lorae.metrics.scores import PARTS, Protocol, Score, Subject, extractor_for
from lorae.training.options import data_of
from lorae.training.run_folder import Run, environment
from lorae.utils.files import read_json, write_json
from lorae.utils.validation import check_choice

FILE = "evaluation.json"


def evaluate_run(
    run: Run,
    protocol: Protocol | None = None,
    parts: Sequence[str] = (),
    *,
    features: str = "auto",
    resize: str = "bicubic",
) -> dict[str, Any]:
    """Score a run, write its `evaluation.json`, and return what that then holds.

    Args:
        run: a finished run.
        protocol: how; by default 2,000 samples and 3 repeats.
        parts: names in `lorae.metrics.scores.PARTS`, all by default; what does not apply to the model or
            its data is left out.
        features: "inception", "classifier", a file of Inception weights, or "auto".
        resize: to Inception's size, "bicubic" or "bilinear".

    Raises:
        InputError: if the run has not ended, a name is unknown, none of the parts applies, or the
            features cannot be had.
    """
    protocol = Protocol() if protocol is None else protocol
    for part in parts:
        if part not in PARTS:
            raise unknown("part of an evaluation", part, PARTS)
    data = data_of(run)
    subject = Subject(run.model(), data, protocol)
    chosen = list(parts) or list(PARTS)
    check_choice("resize", resize, RESIZES)
    if len(data.shape) == 3 and {"reconstruction", "generation", "interpolation"} & set(chosen):
        subject.extractor = extractor_for(features, data, resize)
    stated = dataclasses.asdict(protocol) | {
        "data": data.checksum,
        "model": sha256(run.path / "model.safetensors"),
        "extractor": None if subject.extractor is None else subject.extractor.identity,
        "compared": len(subject.test),
        "seeds": list(protocol.seeds),
        "environment": environment(),
    }
    found = {
        part: {"protocol": stated, "scores": [score.to_dict() for score in PARTS[part](subject)]}
        for part in chosen
    }
    if not any(one["scores"] for one in found.values()):
        raise InputError(
            f"there is no {' and no '.join(chosen)} to be scored of {str(run.path)!r}: its model "
            "or its data do not have it"
        )
    kept = recorded(run) | {part: one for part, one in found.items() if one["scores"]}
    write_json(run.path / FILE, kept)
    return recorded(run)


def recorded(run: Run) -> dict[str, Any]:
    """Return what a run's `evaluation.json` holds, nothing where there is none."""
    path = run.path / FILE
    found: dict[str, Any] = read_json(path) if path.exists() else {}
    return found


def scores_of(run: Run) -> list[Score]:
    """Return the scores that a run's `evaluation.json` holds."""
    names = [field.name for field in dataclasses.fields(Score)]
    return [
        Score(**{name: score[name] for name in names} | {"values": tuple(score["values"])})
        for part in recorded(run).values()
        for score in part["scores"]
    ]


def told(stated: dict[str, Any]) -> str:
    """Return a protocol as a sentence."""
    seeds, extractor = stated["seeds"], stated["extractor"]
    network = "" if extractor is None else f" features: {extractor.split()[0]}"
    if extractor is not None and extractor.startswith("inception"):
        network += f", images resized {extractor.split()[-1]}"
    return (
        f"{stated['compared']:,} test samples; seeds {seeds[0]} to {seeds[-1]};{network}"
    ).rstrip(";")


def protocols(run: Run, parts: Sequence[str] = ()) -> list[str]:
    """Return a line for each protocol of a run's scores: of which parts, and all that it states."""
    by_line: dict[str, list[str]] = {}
    for part, found in recorded(run).items():
        if not parts or part in parts:
            by_line.setdefault(told(found["protocol"]), []).append(part)
    return [f"{', '.join(names)}: {line}" for line, names in by_line.items()]


def table(scores: Sequence[Score]) -> str:
    """Return scores as lines of text, a part after the other."""
    width = max((len(score.name) for score in scores), default=0)
    broad = max((len(score.of) for score in scores), default=0)
    rows: list[str] = []
    part = None
    for score in scores:
        if score.part != part:
            part = score.part
            rows.append(part)
        rows.append(f"  {score.name:{width}}  {score.of:{broad}}  {score.interval}")
    return "\n".join(rows)
