"""Cost and error of the algorithms for the nuclear norm and its gradient.

For each latent dimension l: the milliseconds that an algorithm adds to a training step, relative to
a step of the paper's MNIST network (full width, batch 100, float32, channels last, fused Adam), and
two errors against float64: the relative error of the norm of a newly initialised M, and the error
(spectral norm) of the factor U V^T on the live directions of a trained M, which has l/8 singular
values from 1 to 0.1 and a tail at 1e-5.

"torch" is `torch.linalg.matrix_norm(M, "nuc")` with autograd, the reference of the ratios.
"factor/8" is the default polar factor of `lorae.linalg.polar` on this device, reused for 8 steps;
"proximal" is the proximal step and "proximal/8" one in 8 steps; "factored" is the additional cost
of two factors and their sums of squares; "few (32)" is a proximal step of a product of factors with
32 columns.

    python3 dev.py bench penalty
    python3 dev.py bench penalty --latent 128 --rounds 20
"""

import argparse
from collections.abc import Callable

import torch
from _timing import in_turns, machine, milliseconds, ratio, seconds
from torch import Tensor, nn
from torch.nn import functional

from lorae.linalg import polar, spectral
from lorae.nn.autoencoder import Architecture, build
from lorae.nn.bridges.low_rank import Factored, LowRank

BATCH = 100
EVERY = 8
LIVE = 32
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fresh(latent: int) -> Tensor:
    """Return M as training starts with it."""
    torch.manual_seed(0)
    return LowRank(latent).weight.detach().to(DEVICE)


def trained(latent: int) -> Tensor:
    """Return a matrix in float64 with the spectrum of a trained M."""
    torch.manual_seed(0)
    U, V = (torch.linalg.qr(torch.randn(latent, latent, dtype=torch.float64)).Q for _ in range(2))
    alive = latent // 8
    sigma = torch.cat([torch.logspace(0, -1, alive), torch.full((latent - alive,), 1e-5)])
    return (U * sigma.double() @ V.mT).to(DEVICE)


def step_of_network(latent: int) -> Callable[[], object]:
    """Return a function that makes one step of the paper's MNIST network without any penalty."""
    model = build(Architecture("mnist", (1, 32, 32), latent, "low-rank")).to(DEVICE)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
    x = torch.rand(BATCH, 1, 32, 32, device=DEVICE)

    def step() -> None:
        loss = functional.mse_loss(model(x), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def by_gradient(M: Tensor, norm: Callable[[Tensor], Tensor]) -> Callable[[], object]:
    """Return a function that takes the gradient of a norm."""
    parameter = nn.Parameter(M)
    return lambda: torch.autograd.grad(norm(parameter), parameter)


def every(M: Tensor, steps: int) -> Callable[[], object]:
    """Return a function that takes `steps` gradients with one polar factor."""

    def work() -> None:
        factor = polar.polar_factor(M)
        gradient = by_gradient(M, lambda A: (factor * A).sum())
        for _ in range(steps):
            gradient()

    return work


def factored(latent: int) -> Callable[[], object]:
    """Return a function that takes the gradient through z = A B^T e and its sum of squares."""
    bridge, e = Factored(latent).to(DEVICE), torch.randn(BATCH, latent, device=DEVICE)
    e.requires_grad_()

    def work() -> None:
        (bridge(e).sum() + bridge.penalty()).backward()

    return work


def unfactored(latent: int) -> Callable[[], object]:
    """Return a function that takes the gradient through z = M e, without any penalty."""
    bridge, e = LowRank(latent).to(DEVICE), torch.randn(BATCH, latent, device=DEVICE)
    e.requires_grad_()
    return lambda: bridge(e).sum().backward()


def few_directions(latent: int) -> Callable[[], object]:
    """Return a function that shrinks the product of two factors of few columns."""
    bridge = Factored(latent, min(LIVE, latent)).to(DEVICE)
    return lambda: bridge.shrink(1e-9)


def ways(latent: int, times: int) -> dict[str, Callable[[], float]]:
    """Return what is measured, each as a function that returns the seconds it adds to a step."""
    M = fresh(latent)
    both = factored(latent), unfactored(latent)
    work: dict[str, Callable[[], object]] = {
        "torch": by_gradient(M, lambda A: torch.linalg.matrix_norm(A, "nuc")),
        "svd": by_gradient(M, lambda A: polar.nuclear_norm(A, "svd")),
        "minimax": by_gradient(M, lambda A: polar.nuclear_norm(A, "minimax")),
        "proximal": lambda: spectral.soft_threshold(M, 1e-4),
        f"few ({LIVE})": few_directions(latent),
        "network": step_of_network(latent),
    }
    measured = {name: (lambda w=w: seconds(w, times)) for name, w in work.items()}
    lazy, shrink = every(M, EVERY), work["proximal"]
    return measured | {
        f"factor/{EVERY}": lambda: seconds(lazy) / EVERY,
        f"proximal/{EVERY}": lambda: seconds(shrink) / EVERY,
        "factored": lambda: max(0.0, seconds(both[0], times) - seconds(both[1], times)),
    }


def errors(latent: int) -> dict[str, tuple[float, float]]:
    """Return the error of the norm of a fresh matrix, and of a trained one's factor."""
    M, T = fresh(latent), trained(latent)
    norm = torch.linalg.svdvals(M.double()).sum()
    U, sigma, Vh = torch.linalg.svd(T)
    alive = sigma > 0.05
    found = {}
    for algorithm in polar.ALGORITHMS:
        error = polar.nuclear_norm(M, algorithm).double() / norm - 1
        P = polar.polar_factor(T.float(), algorithm).double()
        part = U[:, alive].mT @ P @ Vh[alive].mT - torch.eye(int(alive.sum()), device=DEVICE)
        found[algorithm] = (float(error.abs()), float(torch.linalg.matrix_norm(part, 2)))
    A = nn.Parameter(M)
    (Q,) = torch.autograd.grad(torch.linalg.matrix_norm(A, "nuc"), A)
    found["torch"] = (float(((Q * M).sum().double() / norm - 1).abs()), float("nan"))
    return found


def main() -> None:
    """Print a row for each latent dimension and algorithm."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latent", type=int, nargs="*", default=[64, 128, 256, 512, 1024])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{machine()}; medians of {arguments.rounds} rounds\n")
    print("| l | algorithm | ms a step | of torch's | of a step | error of norm | of factor |")
    print("|---|---|---|---|---|---|---|")
    for latent in arguments.latent:
        times = in_turns(ways(latent, max(1, 256 // latent)), arguments.rounds)
        wrong = errors(latent)
        for name, taken in times.items():
            share = ratio(taken, times["network"])[1]
            text = " | ".join(f"{x:.0e}" for x in wrong[name]) if name in wrong else "- | -"
            print(
                f"| {latent} | {name} | {milliseconds(taken):.2f} | "
                f"{ratio(taken, times['torch'])[1]:.3f} | {share:.1%} | {text} |"
            )


if __name__ == "__main__":
    main()
