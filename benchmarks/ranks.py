"""Does the rank that a form of LoRAE finds depend on the threshold, or on the length of training?

Digits (the "conv" network at a quarter of its width, 32 latent dimensions) after 2,000 to 16,000
steps, and MNIST (the paper's network at a quarter of its width, 128 latent dimensions) after 1,000
to 4,000 steps: ranks of M and of the covariance of the codes, and errors, on the test set. The
learning rate is 1e-3 and constant.

Every training is a run folder in `runs/bench-ranks` and is resumed where it was interrupted; its
figures so far are added to `benchmarks/ranks.json`, and `benchmarks/ranks.md` has them as tables.
Trainings whose last figures are in ranks.json are not repeated. Three rows are those of forms that
this package no longer has: `lorae-scale-free`, the nuclear norm of M / ||M||_F over encoder outputs
standardised by batch; `lorae-data-space-shrunk`, `lorae-data-space` with proximal steps of the
whole M at gamma = 2, whose removed directions did not return; and `lorae-data-space-unwhitened`,
which did not keep the encoder's outputs white.

With --cost it times steps of MNIST's network instead, by blocks of 64 in turns: of processor time,
the median, and the quartiles of the ratio to `lorae`, round by round.

    python3 dev.py bench ranks
    python3 dev.py bench ranks --only digits
    python3 dev.py bench ranks --cost
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _timing import in_turns, machine, milliseconds, ratio, seconds

import lorae
from lorae.data.datasets import load
from lorae.errors import Interrupted
from lorae.linalg import spectral
from lorae.objectives.registry import METHODS
from lorae.training.devices import single_process
from lorae.training.loop import Stepper, optimize
from lorae.training.sampler import Sampler
from lorae.training.train import build_objective

HERE = Path(__file__).parent
RUNS = Path("runs/bench-ranks")
THRESHOLDS = (1e-2, 1e-4, 1e-6)
SEEDS = 3


@dataclass(frozen=True)
class Training:
    """A training whose rank is followed."""

    data: str
    model: str
    weight: float
    gamma: float | None
    seed: int

    @property
    def name(self) -> str:
        """The name of its run folder, and its key in ranks.json."""
        gamma = "" if self.gamma is None else f"-{self.gamma:g}"
        return f"{self.data}-{self.model}-{self.weight:g}{gamma}-{self.seed}"

    def options(self) -> lorae.Options:
        """Return the options of the run."""
        steps = LENGTHS[self.data]
        return lorae.Options(
            data=self.data,
            model=self.model,
            weight=self.weight,
            settings={} if self.gamma is None else {"gamma": self.gamma},
            seed=self.seed,
            steps=steps[-1],
            width=0.25,
            latent=32 if self.data == "digits" else 128,
            learning_rate=1e-3,
            evaluate_every=steps[0],
            probe=10_000,
        )


LENGTHS = {"digits": (2000, 4000, 8000, 16000), "mnist": (1000, 2000, 4000)}
FORMS: dict[str, tuple[tuple[str, float, float | None], ...]] = {
    "digits": (
        ("lorae", 1e-3, None),
        ("lorae-scale-free", 1e-3, None),
        ("lorae-data-space-shrunk", 1e-2, None),
        ("lorae-data-space-unwhitened", 1e-2, None),
        ("lorae-data-space", 1e-2, None),
    ),
    "mnist": (
        ("lorae", 1e-3, None),
        ("lorae-data-space-shrunk", 1e-3, None),
        ("lorae-data-space-unwhitened", 1e-3, None),
        ("lorae-data-space", 1e-3, None),
    ),
}


def trainings(data: str) -> list[Training]:
    """Return the trainings on a data set."""
    return [Training(data, *form, seed) for form in FORMS[data] for seed in range(SEEDS)]


def measure(training: Training) -> lorae.Run:
    """Train, from the last checkpoint if there is one, until the end or an interrupt."""
    out = RUNS / training.name
    try:
        return lorae.train(training.options(), out, resume=out.exists(), show=False)
    except Interrupted:
        return lorae.Run(out)


def figures(run: lorae.Run) -> dict[str, Any]:
    """Return the errors and ranks of a run by step."""
    return {
        str(line["step"]): {
            "error": line["test"]["reconstruction"],
            "M": _ranks(line["test"]["matrix"]),
            "covariance": _ranks(line["test"]["covariance"]),
        }
        for line in run.metrics()
    }


def _ranks(sigma: list[float]) -> list[int]:
    return [int(spectral.rank(torch.tensor(sigma, dtype=torch.float64), t)) for t in THRESHOLDS]


def write_tables(found: dict[str, Any]) -> None:
    """Write ranks.md from all figures."""
    lines = [f"<!-- written by: python3 dev.py bench ranks; {machine()} -->", ""]
    for data, lengths in LENGTHS.items():
        rows = [row for t in trainings(data) if t.name in found for row in _rows(t, found[t.name])]
        header = ("model", "weight", "gamma", "seed", "figure", *(f"{n:,} steps" for n in lengths))
        lines += [f"## {data}", "", *_markdown(header, rows), ""]
    (HERE / "ranks.md").write_text("\n".join(lines))


def _rows(training: Training, by_step: dict[str, Any]) -> list[tuple[str, ...]]:
    default = {"shrunk": "2", "space": "1", "unwhitened": "1"}.get(
        training.model.split("-")[-1], "-"
    )
    gamma = default if training.gamma is None else f"{training.gamma:g}"
    start = (training.model, f"{training.weight:g}", gamma, str(training.seed))
    steps = [by_step.get(str(n)) for n in LENGTHS[training.data]]
    rows = []
    for kind in ("M", "covariance"):
        text = ["/".join(map(str, step[kind])) if step else "-" for step in steps]
        rows.append((*start, f"rank of {kind}", *text))
    errors = [f"{step['error']:.5f}" if step else "-" for step in steps]
    return [*rows, (*start, "test error", *errors)]


def _markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows)]


def print_costs(rounds: int) -> None:
    """Print the time of a step of each form on MNIST, side by side."""
    data, block = load("mnist"), 64
    work = {}
    for model in ("ae", "lorae", "lorae-data-space"):
        options = lorae.Options(data="mnist", model=model, width=0.25, latent=128, steps=9).resolve(
            data
        )
        fabric = single_process(options.device)
        stepper = Stepper(build_objective(options, data), options, fabric)
        sampler = Sampler(data.train, fabric, batch_size=options.batch_size)
        steps = optimize(stepper, sampler.batch, sys.maxsize)
        work[model] = lambda steps=steps: seconds(lambda: next(steps), block)
    times = in_turns(work, rounds)
    print(f"{machine()}; {rounds} rounds of {block} steps")
    for model, taken in times.items():
        low, middle, high = ratio(taken, times["lorae"])
        print(f"{model}: {milliseconds(taken):.1f} ms, {middle:.3f} ({low:.3f} to {high:.3f})")


def main() -> None:
    """Run what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a part of the names of the trainings to run")
    parser.add_argument("--cost", action="store_true", help="time steps instead")
    parser.add_argument("--rounds", type=int, default=9, help="of --cost")
    arguments = parser.parse_args()
    if arguments.cost:
        print_costs(arguments.rounds)
        return
    store = HERE / "ranks.json"
    for training in [*trainings("digits"), *trainings("mnist")]:
        found = json.loads(store.read_text()) if store.exists() else {}
        last, gone = str(LENGTHS[training.data][-1]), training.model not in METHODS
        if last in found.get(training.name, {}) or gone or arguments.only not in training.name:
            continue
        new = figures(measure(training))
        found = json.loads(store.read_text()) if store.exists() else {}
        store.write_text(json.dumps(found | {training.name: new}, indent=1) + "\n")
        print(training.name, flush=True)
        if last not in new:  # interrupted
            break
    write_tables(json.loads(store.read_text()))


if __name__ == "__main__":
    main()
