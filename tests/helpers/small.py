"""Small trainings, and comparisons of their results."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from lorae.objectives.registry import METHODS
from lorae.training.options import Options
from lorae.training.run_folder import Run

SMALL = Options(data="digits", steps=12, evaluate_every=5, batch_size=64, width=0.1, latent=6)

VARIANTS = {
    "plain": SMALL,
    "ema": replace(SMALL, ema=0.8),
    "decay": replace(SMALL, model="irmae", weight_decay=1e-3),
    "patience": replace(
        SMALL, validation=0.2, patience=1, evaluate_every=3, learning_rate=0.2, steps=60
    ),
    "warmup": replace(SMALL, warmup=10, weight=0.1, ema=0.5),
    "clip": replace(SMALL, clip_norm=1e-2, learning_rate=1e-2),
    "mixed": replace(SMALL, precision="bf16-mixed"),
    "double": replace(SMALL, precision="64-true"),
    "gan-ema": replace(SMALL, model="gan", ema=0.8),
    "rrae-adaptive-soon": replace(
        SMALL,
        model="rrae-adaptive",
        settings={"patience": 3, "tolerance": 0.9, "rank": 5},
        steps=60,
    ),
    "lorae-seldom": replace(SMALL, settings={"every": 4}),
    "lorae-proximal-seldom": replace(SMALL, model="lorae-proximal", settings={"every": 4}),
    "lorae-data-space-often": replace(
        SMALL, model="lorae-data-space", weight=1e-2, settings={"every": 3, "ramp": 6}
    ),
    "vae-mixed": replace(SMALL, model="vae", precision="bf16-mixed"),
} | {name: replace(SMALL, model=name) for name in METHODS}


def outcome(run: Run) -> tuple[bytes, list[dict]]:
    """Return the results of a run: the bytes of its model, and its metrics without times."""
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics()]
    return (run.path / "model.safetensors").read_bytes(), lines


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


load = cache(Options.load)
"""Options.load that loads the same data only once."""


def assert_same(several: Run, one: Run) -> None:
    """Check that losses, spectra and weights of two runs agree.

    Summing over the batch in another order changes each gradient by about 1e-7, and Adam's first
    steps are learning_rate (1e-3) times a gradient divided by its own size; the weights agree to a
    small part of that.
    """
    several_lines, lines = several.metrics(), one.metrics()
    assert [line["step"] for line in several_lines] == [line["step"] for line in lines]
    for found, line in zip(several_lines, lines, strict=True):
        assert found.get("train", {}) == pytest.approx(line.get("train", {}), rel=1e-5)
        for name in ("reconstruction", "covariance", "matrix"):
            expected = line["test"][name]
            if expected is not None:
                expected = pytest.approx(expected, rel=1e-3, abs=1e-6)
            assert found["test"][name] == expected
    expected, found = one.model().state_dict(), several.model().state_dict()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-4, rtol=0)
