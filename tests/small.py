"""Small trainings, and what one must end with."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from lorae.methods import METHODS
from lorae.options import Options
from lorae.runs import Run

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
    "vae-mixed": replace(SMALL, model="vae", precision="bf16-mixed"),
} | {name: replace(SMALL, model=name) for name in METHODS}


def outcome(run: Run) -> tuple[bytes, list[dict]]:
    """Return what a run must end with: the model's bytes and the metrics without the clock."""
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics()]
    return (run.path / "model.safetensors").read_bytes(), lines


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


load = cache(Options.load)
"""Options.load that reads the same data only once."""
