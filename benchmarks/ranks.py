"""Error and rank after trainings that differ only in the algorithm for the penalty or in precision.

MNIST at a quarter of the paper's width, 128 latent dimensions, learning rate 1e-3, batch 100. The
first row of each model is the slow algorithm; the errors of the others are divided by its error on
the same seed, and the geometric mean over seeds is printed with its 95% interval. Compare every
difference with that between seeds.

    python3 dev.py bench ranks
    python3 dev.py bench ranks --steps 3000 --seeds 5
"""

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _timing import machine

import lorae
from lorae.linalg import polar, spectral
from lorae.utils.intervals import Interval

SLOW: dict[str, Any] = {"algorithm": "svd", "every": 1, "precision": "32-true"}
ROWS: dict[str, dict[str, dict[str, Any]]] = {
    "lorae-scale-free": {
        "svd": {},
        "minimax": {"algorithm": "minimax"},
        "svd/8": {"every": 8},
        "svd, bf16": {"precision": "bf16-mixed"},
    },
    "lorae-proximal": {
        "every step": {},
        "every 8 steps": {"every": 8},
        "every step, bf16": {"precision": "bf16-mixed"},
    },
}
WEIGHTS = {"lorae-scale-free": 1e-3, "lorae-proximal": 0.3}


def result(model: str, seed: int, steps: int, **row: Any) -> tuple[float, list[int]]:
    """Return test error, rank of the codes' covariance at 1e-2 and 1e-4, rank of M at 1e-2."""
    algorithm = (SLOW | row)["algorithm"]
    polar.default_algorithm = lambda _: algorithm  # a benchmark of what is otherwise no option
    options = lorae.Options(
        data="mnist",
        model=model,
        weight=WEIGHTS[model],
        width=0.25,
        latent=128,
        learning_rate=1e-3,
        steps=steps,
        evaluate_every=steps,
        seed=seed,
        precision=(SLOW | row)["precision"],
        settings={"every": (SLOW | row)["every"]},
    )
    with tempfile.TemporaryDirectory() as folder:
        found = lorae.train(options, Path(folder, "run"), show=False).metrics()[-1]["test"]
    covariance, matrix = (torch.tensor(found[name]) for name in ("covariance", "matrix"))
    ranks = [(covariance, 1e-2), (covariance, 1e-4), (matrix, 1e-2)]
    return found["reconstruction"], [int(spectral.rank(s, t)) for s, t in ranks]


def ratio(errors: Sequence[float], others: Sequence[float]) -> str:
    """Return the geometric mean of the ratios, seed by seed, and its 95% interval."""
    found = Interval(tuple(math.log(a / b) for a, b in zip(errors, others, strict=True)))
    if not found.half_width:
        return f"{math.exp(found.mean):.3f}"
    low, high = (math.exp(found.mean + sign * found.half_width) for sign in (-1, 1))
    return f"{math.exp(found.mean):.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Print a row for each model and algorithm, with a figure for each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{machine()}; {arguments.steps} steps, {arguments.seeds} seeds\n")
    print("| model | algorithm | test error | ratio to the first | rank 1e-2 | 1e-4 | of M, 1e-2 |")
    print("|---|---|---|---|---|---|---|")
    for model, rows in ROWS.items():
        first: list[float] = []
        for name, row in rows.items():
            found = [result(model, s, arguments.steps, **row) for s in range(arguments.seeds)]
            first = first or [error for error, _ in found]
            share = ratio([error for error, _ in found], first)
            errors = ", ".join(f"{error:.4f}" for error, _ in found)
            ranks = [
                ", ".join(map(str, column)) for column in zip(*(r for _, r in found), strict=True)
            ]
            print(f"| {model} | {name} | {errors} | {share} | {' | '.join(ranks)} |", flush=True)


if __name__ == "__main__":
    main()
