"""Time of a step of LoRAE's training on the paper's networks, in our loop and in others.

The same modules, samples (noise of the shape of MNIST or CelebA), batch size and optimizer (Adam at
1e-4) are used by

- "bare": a handwritten loop in float32 without this package, with
  `torch.linalg.matrix_norm(M, "nuc")`, default Adam, and the samples in memory;
- "script": a loop like the paper authors', which is the bare one over a DataLoader that does not
  shuffle;
- "pythae": the trainer of pythae 0.1.2 over a model with that loss;
- "bare, ours": a handwritten loop over our objective, with channels-last weights and fused Adam;
- "lorae, eager": our loop at the same settings, so that only the loop differs;
- "lorae": our loop at its defaults, with a CUDA graph on a GPU, and "lorae, bf16" at
  `--precision bf16-mixed`;
- "compiled", with --compiled: "bare, ours" with the objective compiled by `torch.compile`.

The last column is the rate of a step's operations, as PyTorch counts them without the penalty's
decompositions, relative to the rate of a product of two square matrices (2 n^3 operations) in the
arithmetic of the loop: bfloat16 for "bf16", on a GPU TensorFloat-32 for the others, as in PyTorch's
convolutions, and float32 on a CPU.

Each loop has a process of its own. They alternate by blocks of steps, in an order that rotates, and
ratios are medians over rounds. pythae has an environment of its own, created when it is first
needed, which shares this one's PyTorch; it is left out if it cannot be installed. No data are
needed.

    python3 dev.py bench training
    python3 dev.py bench training --networks mnist --latent 1024 --rounds 10 --compiled
"""

import argparse
import json
import os
import subprocess
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
from _training import SHAPES, Task, norm_of
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from lorae.cli.malloc import keep_freed_memory
from lorae.training.loop import optimize

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIDE = 8192 if DEVICE.type == "cuda" else 2048  # of the matrices whose product tells the rate
BLOCK = 50 if DEVICE.type == "cuda" else 3
NETWORKS = list(SHAPES) if DEVICE.type == "cuda" else ["mnist"]  # 16 s a step of the other
Step = Callable[[], object]


def ours(task: Task, precision: str = "32-true", *, capture: bool = True) -> Step:
    """Return a step of our loop."""
    stepper, sampler = task.stepper(task.options(precision, capture=capture))
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
    "bare": partial(bare, batches=shuffled),
    "script": partial(bare, batches=loaded),
    "bare, ours": bare_over_ours,
    "lorae, eager": partial(ours, capture=False),
    "lorae": ours,
    "lorae, bf16": partial(ours, precision="bf16-mixed"),
    "compiled": partial(bare_over_ours, compiled=True),
}
"""Builders of a step of each loop."""


def pythae() -> Path | str:
    """Return a Python that has pythae, or an empty text if it cannot be installed."""
    try:
        return environment("pythae-0.1.2", PYTHAE)
    except (OSError, subprocess.CalledProcessError):
        print("pythae cannot be installed here\n")
        return ""


def compare(
    task: Task, rounds: int, block: int, names: list[str], python: Path | str
) -> dict[str, list[float]]:
    """Return the seconds of a step of every loop, and of products, in every round."""
    text = json.dumps(asdict(task))
    serve_ours = [sys.executable, __file__, "--serve"]
    loops = {n: Elsewhere([*serve_ours, n, text]) for n in names if n in LOOPS}
    if python:
        loops["pythae"] = Elsewhere([python, Path(__file__).with_name("_pythae.py"), text])
    try:
        work = {n: (lambda loop=loop: loop.seconds(block)) for n, loop in loops.items()}
        for name, dtype in (("product", torch.float32), ("product, bf16", torch.bfloat16)):
            square = torch.randn(SIDE, SIDE, device=DEVICE, dtype=dtype)
            work[name] = partial(seconds, partial(torch.matmul, square, square), 2)
        return in_turns(work, rounds)
    finally:
        for loop in loops.values():
            loop.end()


def print_rows(task: Task, times: dict[str, list[float]]) -> None:
    """Print a row for each loop."""
    work = operations(task)
    for name, taken in times.items():
        if name.startswith("product"):
            continue
        low, middle, high = ratio(taken, times["lorae"])
        products = times["product, bf16" if "bf16" in name else "product"]
        share = ratio([work / t for t in taken], [2 * SIDE**3 / t for t in products])[1]
        print(
            f"| {task.network} | {task.latent} | {name} | {milliseconds(taken):.2f} | "
            f"{1e3 * task.batch / milliseconds(taken):,.0f} | {middle:.2f} ({low:.2f} to "
            f"{high:.2f}) | {ratio(times['bare'], taken)[1]:.2f} | {share:.2f} |",
            flush=True,
        )


def main() -> None:
    """Print a row for each network, latent dimension and loop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="*", default=NETWORKS, choices=SHAPES)
    parser.add_argument("--latent", type=int, nargs="*", default=[128, 1024])
    parser.add_argument("--width", type=float, default=1.0, help="1 is the paper's")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--block", type=int, default=BLOCK, help="steps of a loop in each round")
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
    rounds, block = arguments.rounds, arguments.block
    python = "" if arguments.no_pythae else pythae()
    print(
        f"{machine()}; width {arguments.width:g}, batch 100, {rounds} rounds of {block} steps, "
        f"load {os.getloadavg()[0]:.1f}\n"
    )
    heads = ("network", "l", "loop", "ms a step", "images a second", "of lorae's (quartiles)")
    print(f"| {' | '.join((*heads, 'speedup over bare', 'of the rate'))} |\n|{'---|' * 8}")
    torch.backends.cuda.matmul.allow_tf32 = True
    names = [name for name in LOOPS if name != "compiled" or arguments.compiled]
    for network in arguments.networks:
        for latent in arguments.latent:
            task = Task(latent, network, arguments.width)
            print_rows(task, compare(task, rounds, block, names, python))


if __name__ == "__main__":
    main()
