"""What a sweep of trainings and a path over seeds gain from stacks, from nothing to the last file.

The same trainings are made one after the other and as one stack, in turns that change places every
round, each time in a new folder: with initial weights, evaluations and checkpoints, as
`lorae reproduce` makes them. The ratio of the two times is taken round by round.

    python3 dev.py bench together
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from lorae.frontier import lorae_path
from lorae.options import Options
from lorae.seeded import lorae_paths
from lorae.sweep import Cell, Sweep, loaded

GIVEN = Options(width=0.25, latent=16, steps=400, evaluate_every=100)


def step_of(run: object) -> dict[str, object]:
    """Return what a cell measures here: next to nothing."""
    return {"run": str(run)}


def swept(options: Options, members: int, together: int) -> float:
    """Return the seconds of a sweep over seeds."""
    cells = [Cell(step_of, {}, replace(options, seed=seed)) for seed in range(members)]
    for cell in cells:
        loaded(cell.options or options)  # once for both
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        Sweep(Path(folder), together).work(cells)
        return time.perf_counter() - start


def walked(samples: np.ndarray, members: int, *, together: bool) -> float:
    """Return the seconds of the paths of several seeds."""
    how = {"ranks": [8, 4, 2, 1], "latent": 16, "width": 0.25, "steps": 300}
    start = time.perf_counter()
    if together:
        lorae_paths(samples, seeds=range(members), **how)
    else:
        for seed in range(members):
            lorae_path(samples, random_state=seed, **how)
    return time.perf_counter() - start


def compare(one: Callable[[], float], all_: Callable[[], float], rounds: int) -> str:
    """Return the columns of a row: seconds one after the other, and the ratio with its range."""
    times: list[tuple[float, float]] = []
    for round_ in range(rounds):
        if round_ % 2:
            together, apart = all_(), one()
        else:
            apart, together = one(), all_()
        times.append((apart, together))
    ratios = sorted(b / a for a, b in times)
    apart = statistics.median(a for a, _ in times)
    ratio = statistics.median(ratios)
    return f"{apart:.1f} | {ratio:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def main() -> None:
    """Print a row for each set of samples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", nargs="*", type=int, default=[4, 8])
    parser.add_argument("--what", nargs="*", choices=("sweep", "path"), default=["sweep", "path"])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.rounds} rounds; "
        "width 0.25, sweeps of 400 steps, paths of 300 and 4 stages of 25; medians, and the range "
        "of the ratio"
    )
    print("| what | members | one after the other, s | as a stack / one after the other |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.npy"
        generator = np.random.default_rng(0)
        np.save(table, (generator.normal(size=(2000, 3)) @ generator.normal(size=(3, 16))))
        for name in ("digits", str(table)):
            options = replace(GIVEN, data=name, latent=8 if name != "digits" else 16)
            samples = loaded(options).train.numpy()
            kinds = {
                "sweep": (
                    lambda n, o=options: swept(o, n, 1),
                    lambda n, o=options: swept(o, n, n),
                ),
                "path": (
                    lambda n, x=samples: walked(x, n, together=False),
                    lambda n, x=samples: walked(x, n, together=True),
                ),
            }
            for what in arguments.what:
                for n in arguments.members:
                    columns = compare(*(partial(way, n) for way in kinds[what]), arguments.rounds)
                    print(f"| {what} of {Path(name).stem} | {n} | {columns} |", flush=True)


if __name__ == "__main__":
    main()
