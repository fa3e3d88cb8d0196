"""Time of a step of LoRAE's training on the paper's MNIST network, in our loop and in others.

The same modules, images, batch size and optimizer (Adam at 1e-4) are used by

- "bare, ours": a handwritten loop over our objective, with channels-last weights and fused Adam;
- "lorae, equal": our loop at the same settings, so that only the loop differs;
- "lorae": our loop at its defaults, and "lorae, bf16" at `--precision bf16-mixed`;
- "bare": a handwritten loop in float32 without this package, with
  `torch.linalg.matrix_norm(M, "nuc")`, default Adam, and the images in memory;
- "pythae": the trainer of pythae 0.1.2 over a model with that loss;
- "script": a loop like the paper authors', which is the bare one over a DataLoader that does not
  shuffle;
- "compiled", with --compiled: "bare, ours" with the objective compiled by `torch.compile`.

The last column is the rate of a step's operations, as PyTorch counts them without the penalty's
decompositions, relative to the rate of a float32 matrix product (2 n^3 operations for n = 2048).

Each loop has a process of its own. They alternate by blocks of steps, in an order that rotates, and
ratios are medians over rounds. pythae has an environment of its own, created when it is first
needed, which shares this one's PyTorch.

    python3 dev.py bench training
    python3 dev.py bench training --latent 1024 --rounds 10 --compiled
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import count
from pathlib import Path

import torch
from _cells import PYTHAE
from _environment import environment
from _timing import Elsewhere, in_turns, machine, milliseconds, ratio, seconds, serve
from _training import Task, norm_of
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from lorae.cli.malloc import keep_freed_memory
from lorae.training.loop import Stepper, optimize
from lorae.training.sampler import Sampler

SIDE = 2048  # of the matrices whose product tells the device's rate
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Step = Callable[[], object]


def ours(task: Task, precision: str | None = None) -> Step:
    """Return a step of our loop."""
    options = task.options(precision)
    fabric = Fabric(accelerator="auto", devices=1, precision=options.precision)  # type: ignore[arg-type]
    stepper = Stepper(task.objective(), options, fabric)
    sampler = Sampler(options.load().train, fabric, batch_size=options.batch_size)
    return partial(next, optimize(stepper, sampler.batch, sys.maxsize))


def shuffled(samples: Tensor, size: int) -> Iterator[Tensor]:
    """Yield batches of samples that lie in memory, in a new order each epoch."""
    for _ in count():
        order = torch.randperm(len(samples), device=samples.device)
        for start in range(0, len(samples) - size + 1, size):
            yield samples[order[start : start + size]]


def loaded(samples: Tensor, size: int) -> Iterator[Tensor]:
    """Yield batches from a DataLoader, in one order."""
    loader = DataLoader(TensorDataset(samples), batch_size=size)
    for _ in count():
        for (x,) in loader:
            yield x.to(DEVICE)


def bare_over_ours(task: Task, *, compiled: bool = False) -> Step:
    """Return a step of a bare loop over our objective, at the settings of ours."""
    objective = task.objective().to(DEVICE)
    objective.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(objective.parameters(), task.learning_rate, fused=True)
    batches = shuffled(task.samples().to(DEVICE), task.batch)
    terms = torch.compile(objective) if compiled else objective

    def step() -> None:
        loss = torch.stack(list(terms(next(batches)).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step(task.learning_rate)

    return step


def bare(task: Task, batches: Callable[[Tensor, int], Iterator[Tensor]]) -> Step:
    """Return a step of a loop as one writes it without this package."""
    model = task.model().to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), task.learning_rate)
    samples = task.samples()
    source = batches(samples.to(DEVICE) if batches is shuffled else samples, task.batch)

    def step() -> None:
        x = next(source)
        loss = functional.mse_loss(model(x), x) + task.weight * norm_of(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def operations(task: Task) -> int:
    """Return the floating-point operations in a step's products and convolutions."""
    step = bare_over_ours(task)
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


LOOPS: dict[str, Callable[[Task], Step]] = {
    "bare, ours": bare_over_ours,
    "lorae, equal": partial(ours, precision="32-true"),
    "lorae": ours,
    "lorae, bf16": partial(ours, precision="bf16-mixed"),
    "bare": partial(bare, batches=shuffled),
    "script": partial(bare, batches=loaded),
    "compiled": partial(bare_over_ours, compiled=True),
}
"""Builders of a step of each loop."""


def compare(task: Task, rounds: int, block: int, names: list[str]) -> dict[str, list[float]]:
    """Return the seconds of a step of every loop, and of two products, in every round."""
    text = json.dumps(asdict(task))
    serve_ours = [sys.executable, __file__, "--serve"]
    loops = {n: Elsewhere([*serve_ours, n, text]) for n in names if n in LOOPS}
    if "pythae" in names:
        python = environment("pythae-0.1.2", PYTHAE)
        loops["pythae"] = Elsewhere([python, Path(__file__).with_name("_pythae.py"), text])
    try:
        work = {n: (lambda loop=loop: loop.seconds(block)) for n, loop in loops.items()}
        square = torch.randn(SIDE, SIDE, device=DEVICE)
        work["products"] = partial(seconds, lambda: square @ square, 2)
        return in_turns(work, rounds)
    finally:
        for loop in loops.values():
            loop.end()


def main() -> None:
    """Print a row for each latent dimension and loop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latent", type=int, nargs="*", default=[128, 1024])
    parser.add_argument("--width", type=float, default=1.0, help="1 is the paper's")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--block", type=int, default=3, help="steps of a loop in each round")
    parser.add_argument("--no-pythae", action="store_true", help="skip pythae")
    parser.add_argument("--compiled", action="store_true", help="needs a C++ compiler")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        name, text = arguments.serve
        if name in ("lorae", "lorae, bf16"):  # as `lorae train` does
            keep_freed_memory()
        serve(LOOPS[name](Task(**json.loads(text))))
        return
    print(
        f"{machine()}; width {arguments.width:g}, batch 100, {arguments.rounds} rounds of "
        f"{arguments.block} steps\n"
    )
    print("| l | loop | ms a step | of lorae's (quartiles) | of the bare one's | of the rate |")
    print("|---|---|---|---|---|---|")
    out = [] if arguments.compiled else ["compiled"]
    out += ["pythae"] if arguments.no_pythae else []
    names = [name for name in (*LOOPS, "pythae") if name not in out]
    for latent in arguments.latent:
        task = Task(latent, arguments.width)
        times = compare(task, arguments.rounds, arguments.block, names)
        products, work = times.pop("products"), operations(task)
        for name, taken in times.items():
            low, middle, high = ratio(taken, times["lorae"])
            base = times["bare, ours" if name == "lorae, equal" else "bare"]
            share = ratio([work / t for t in taken], [2 * SIDE**3 / t for t in products])[1]
            print(
                f"| {latent} | {name} | {milliseconds(taken):.1f} | {middle:.2f} ({low:.2f} to "
                f"{high:.2f}) | {ratio(taken, base)[1]:.3f} | {share:.2f} |"
            )


if __name__ == "__main__":
    main()
