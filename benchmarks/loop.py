"""Time of a step of lorae's training loop against a bare PyTorch loop.

Both loops train the same objective (the paper's LoRAE on MNIST, same modules, same batches, same
fused Adam, same memory format); ours adds Fabric, the sums of the terms and the check for
non-finite losses. Blocks of steps alternate between the two in one process, which
changes places every round, and the ratio is taken block by block, so that a machine whose speed
drifts does not favour either.

    python3 dev.py bench loop
    python3 dev.py bench loop --width 1 --rounds 20
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch

import lorae
from lorae.nn.autoencoder import build
from lorae.objectives.registry import method
from lorae.training.devices import single_process
from lorae.training.loop import Stepper, optimize
from lorae.training.sampler import Sampler
from lorae.training.train import build_objective
from lorae.utils.samples import as_float


def ours(options: lorae.Options) -> Callable[[], object]:
    """Return a function that makes one step of the product's loop."""
    data = options.load()
    fabric = single_process(options.device)
    stepper = Stepper(build_objective(options, data), options, fabric)
    sampler = Sampler(data.train, fabric, batch_size=options.batch_size)
    return partial(next, optimize(stepper, sampler.batch, sys.maxsize))


def bare(options: lorae.Options) -> Callable[[], object]:
    """Return a function that makes one step as a user would write it by hand."""
    data = options.load()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build(options.architecture(data), data.shift, data.scale).to(device)
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    objective = method(options.model).build_objective(model, options.weight, **options.settings)
    optimizer = torch.optim.Adam(model.parameters(), options.learning_rate, fused=True)
    samples, size = data.train.to(device), options.batch_size
    position, order = 0, torch.randperm(len(samples), device=device)

    def step() -> None:
        nonlocal position, order
        if position + size > len(samples):
            position, order = 0, torch.randperm(len(samples), device=device)
        x = as_float(samples[order[position : position + size]])
        position += size
        loss = torch.stack(list(objective(x).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def timed(step: Callable[[], object], steps: int) -> float:
    """Return the seconds that `steps` steps took, the accelerator's work included."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Print one line per network: medians in milliseconds, and the ratio with its quartiles."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", default=["mnist", "shapes"])
    parser.add_argument("--model", default="lorae")
    parser.add_argument("--width", type=float, default=0.25, help="1 is the paper's")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--block", type=int, default=10, help="steps of a loop in each round")
    arguments = parser.parse_args()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch 100, "
        f"{arguments.rounds} rounds of {arguments.block} steps"
    )
    print("data     width   bare ms/step   ours ms/step   ours/bare (quartiles)")
    for name in arguments.data:
        given = lorae.Options(data=name, model=arguments.model, width=arguments.width)
        options = given.resolve(given.load())
        loops = {"bare": bare(options), "ours": ours(options)}
        for step in loops.values():
            timed(step, arguments.block)
        times: dict[str, list[float]] = {"bare": [], "ours": []}
        for round_ in range(arguments.rounds):
            order = ["bare", "ours"] if round_ % 2 else ["ours", "bare"]
            for which in order:
                times[which].append(timed(loops[which], arguments.block))
        ratios = [o / b for o, b in zip(times["ours"], times["bare"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        b, o = (1e3 * statistics.median(times[k]) / arguments.block for k in ("bare", "ours"))
        print(
            f"{name:8} {arguments.width:5g} {b:14.2f} {o:14.2f}   "
            f"{middle:.3f} ({low:.3f} to {high:.3f})"
        )


if __name__ == "__main__":
    main()
