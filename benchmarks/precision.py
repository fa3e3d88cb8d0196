"""Does training in bfloat16 change the rank that a method finds, or its error?

Digits (the "conv" network at a quarter of its width, 32 latent dimensions) are trained with
`--precision 32-true` and `bf16-mixed` from the same seeds. For both, the means over the seeds of
the rank of the covariance of the codes at 1e-2 and of the test error; then the mean of the paired
differences beside the standard deviation over the seeds. Trainings are run folders in
`runs/bench-precision`, and are resumed where they were interrupted.

    python3 dev.py bench precision
    python3 dev.py bench precision --models lorae --steps 8000 --seeds 5
"""

import argparse
import statistics
from pathlib import Path

from _timing import machine

import lorae

RUNS = Path("runs/bench-precision")
PRECISIONS = ("32-true", "bf16-mixed")
MODELS = ("ae", "irmae", "lorae", "lorae-proximal", "vae", "vae-bernoulli", "wae", "rae-l2")


def figures(model: str, precision: str, seed: int, steps: int) -> tuple[float, float]:
    """Return rank and error of a training, which is resumed if it was begun."""
    options = lorae.Options(
        data="digits",
        model=model,
        precision=precision,
        seed=seed,
        steps=steps,
        width=0.25,
        latent=32,
        evaluate_every=1000,
    )
    out = RUNS / f"{model}-{precision}-{seed}-{steps}"
    run = lorae.train(options, out, resume=out.exists(), show=False)
    return run.last["test"]["rank"], run.last["test"]["reconstruction"]


def main() -> None:
    """Print a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000)
    arguments = parser.parse_args()
    print(f"{machine()}; {arguments.steps:,} steps, {arguments.seeds} seeds\n")
    names = [f"{figure} {what}" for figure in ("rank", "error") for what in ("", "bf16", "±", "sd")]
    print(f"| model | {' | '.join(names)} |".replace("±", "difference"))
    print("|---" * 9 + "|")
    for model in arguments.models:
        wide, half = (
            [figures(model, p, seed, arguments.steps) for seed in range(arguments.seeds)]
            for p in PRECISIONS
        )
        cells = []
        for k, form in enumerate(("{:.1f}", "{:.5f}")):
            a, b = [run[k] for run in wide], [run[k] for run in half]
            difference = statistics.mean(b) - statistics.mean(a)
            values = statistics.mean(a), statistics.mean(b), difference, statistics.stdev(a)
            cells += [form.format(value) for value in values]
        print(f"| {model} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
