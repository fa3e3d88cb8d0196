"""The cost of CelebA at full size, from a fitted model of the time of a step.

A step of batch B of the paper's network for CelebA at width w takes F(w) floating-point operations
per sample, forward and backward, as PyTorch's counter counts them (convolutions and matrix
products; a multiplication and an addition are two). Steps are timed at several widths and batches,
and

    seconds = a + B F(w) / r

is fitted by least squares of the relative errors: a is the time that does not grow with the batch,
r the rate. The fit is then compared with a step of the paper's width that it has not seen. The
paper's recipe is 100 epochs of 162,770 images in batches of 100. Decoding the images, which is done
once, and evaluations, about a third of a step per batch, are not included. With OMP_NUM_THREADS=1
times are processor time, which other work on the machine does not lengthen.

    python3 dev.py bench cost
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
from _training import Task
from torch.utils.flop_counter import FlopCounterMode

from lorae.training.loop import optimize

IMAGES, EPOCHS, BATCH = 162_770, 100, 100


def loop(width: float, batch: int, latent: int) -> Iterator[int]:
    """Return a training as an iterator over its steps."""
    task = Task(latent, "celeba", width, batch, count=2 * batch)
    stepper, sampler = task.stepper(task.options())
    return optimize(stepper, sampler.batch, sys.maxsize)


def operations(width: float, latent: int) -> float:
    """Return the floating-point operations of a sample, forward and backward."""
    task = Task(latent, "celeba", width, batch=2, count=4)
    model, samples = task.model(), task.samples()
    with FlopCounterMode(display=False) as counter:
        model(samples).square().mean().backward()
    return counter.get_total_flops() / len(samples)


def timed(width: float, batch: int, latent: int, steps: int) -> float:
    """Return the median seconds of a step: of the processor on one thread, else of the clock."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    clock = time.process_time if alone else time.perf_counter
    times, made = [], loop(width, batch, latent)
    for _ in range(steps + 1):
        start = clock()
        next(made)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(clock() - start)
    return statistics.median(times[1:])  # the first step plans its convolutions


def main() -> None:
    """Print the measured steps, the fit, the step that was held back, and the cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=float, nargs="*", default=[0.125, 0.25, 0.5])
    parser.add_argument("--batches", type=int, nargs="*", default=[10, 30, 100])
    parser.add_argument("--latent", type=int, default=128)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--held-back", type=int, default=10, help="batch of the step at width 1")
    arguments = parser.parse_args()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads")
    print("width  batch   GFLOP/sample   s/step   fitted")
    latent, rows = arguments.latent, []
    for width in arguments.widths:
        each = operations(width, latent)
        for batch in arguments.batches:
            took = timed(width, batch, latent, arguments.steps)
            rows += [(width, batch, each, took)]
    work = np.array([batch * each for _, batch, each, _ in rows])
    seconds = np.array([row[3] for row in rows])
    design = np.stack([1 / seconds, work / seconds], 1)
    a, inverse = np.linalg.lstsq(design, np.ones(len(rows)))[0]
    for width, batch, each, took in rows:
        print(
            f"{width:5g} {batch:6} {each / 1e9:14.3f} {took:8.3f} {a + inverse * batch * each:8.3f}"
        )
    whole = operations(1.0, arguments.latent)
    took = timed(1.0, arguments.held_back, arguments.latent, max(2, arguments.steps // 2))
    fitted = a + inverse * arguments.held_back * whole
    print(f"fit: a = {1e3 * a:.1f} ms, r = {1e-9 / inverse:.1f} GFLOP/s")
    print(
        f"held back: width 1, batch {arguments.held_back}: {took:.3f} s measured, "
        f"{fitted:.3f} s fitted ({100 * (fitted / took - 1):+.0f}%)"
    )
    steps = EPOCHS * (IMAGES // BATCH)
    days = steps * (a + inverse * BATCH * whole) / 86400
    total = steps * BATCH * whole
    print(
        f"the paper's recipe: {steps:,} steps, {whole / 1e9:.2f} GFLOP a sample, {total:.3g} FLOP "
        f"in all, {days:.1f} days here"
    )


if __name__ == "__main__":
    main()
