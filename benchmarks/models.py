"""Error, rank and time per step of every model after a short training on MNIST.

Each model is trained with its own defaults, on the paper's networks at a quarter of their width,
with one seed. Then blocks of steps of all models alternate in one process, and the time of a step
is given as a multiple of the plain autoencoder's, round by round. This is an overview, not a
ranking: so short a training, at one learning rate for all, does none of them justice. Writes a
report of all runs.

    python3 dev.py bench models
    python3 dev.py bench models --steps 6000 --out runs/models
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import torch
from loop import ours

import lorae
from lorae.linalg import spectral
from lorae.objectives.registry import METHODS
from lorae.report.report import write_report


def options_for(model: str, steps: int) -> lorae.Options:
    """Return what is trained; the adaptive RRAE gets a patience that fits so few steps."""
    return lorae.Options(
        data="mnist",
        model=model,
        width=0.25,
        steps=steps,
        learning_rate=1e-3,
        settings={"patience": max(1, steps // 15)} if model == "rrae-adaptive" else {},
        evaluate_every=max(1, steps // 6),
        probe=1000,
    )


def relative_times(names: list[str], steps: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Return milliseconds of a step, and the median of its ratio to the first model's."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack():
        advance = {}
        for name in names:
            options = options_for(name, 10**6)
            resolved = options.resolve(options.load())
            advance[name] = ours(resolved, Path(folder, name))
            for _ in range(3):
                advance[name]()
        times: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(rounds):
            for name in names:
                start = time.perf_counter()
                for _ in range(steps):
                    advance[name]()
                times[name].append((time.perf_counter() - start) / steps)
    first = times[names[0]]
    return {
        name: (
            1e3 * statistics.median(found),
            statistics.median(a / b for a, b in zip(found, first, strict=True)),
        )
        for name, found in times.items()
    }


def main() -> None:
    """Train, time, print the table and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("runs/models"))
    parser.add_argument("--only", nargs="+", default=list(METHODS), choices=list(METHODS))
    arguments = parser.parse_args()
    runs = []
    for name in arguments.only:
        path = arguments.out / name
        again = lorae.Run(path).exists
        runs.append(lorae.train(options_for(name, arguments.steps), path, resume=again))
    times = relative_times(arguments.only, 5, arguments.rounds)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.steps} steps")
    print("| model | test error | rank 1e-2 | 1e-4 | effective rank | spread | ms/step | of ae's |")
    print("|---|---|---|---|---|---|---|---|")
    for run in runs:
        test, (milliseconds, ratio) = run.last["test"], times[run.options["model"]]
        sigma = torch.tensor(test["covariance"], dtype=torch.float64)
        error = "-" if test["reconstruction"] is None else f"{test['reconstruction']:.4f}"
        spread = f"{test['spread']:.2f}" if "spread" in test else "-"
        print(
            f"| {run.options['model']} | {error} | {int(spectral.rank(sigma, 1e-2))} | "
            f"{int(spectral.rank(sigma, 1e-4))} | {float(spectral.effective_rank(sigma)):.1f} | "
            f"{spread} | {milliseconds:.1f} | {ratio:.2f} |"
        )
    print(f"report: {write_report(runs, arguments.out / 'report.html')}")


if __name__ == "__main__":
    main()
