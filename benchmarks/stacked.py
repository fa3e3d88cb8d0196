"""What a step of several stacked members costs, in steps of a single one.

A single model is trained beside stacks of several, at once (`torch.func.vmap`) and in turn: the
same modules, batches of 100, fused Adam, channels last. Blocks of steps alternate between the
three in one process, which change places every round, and the ratio to the single one is taken
round by round. A stack pays where its figure is below the number of its members, which is what as
many trainings one after the other cost. `chosen` is what `lorae sweep` does on this device.

    python3 dev.py bench stacked
    python3 dev.py bench stacked --data mnist --width 1 --members 2 4
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from lorae.autoencoder import Architecture, build
from lorae.methods import METHODS
from lorae.objectives import Objective
from lorae.stacking import Stack, pays

KINDS = {
    "table": Architecture("mlp", (16,), 8, value_range=None),
    "digits": Architecture("conv", (1, 8, 8), 64),
    "mnist": Architecture("mnist", (1, 32, 32), 128),
    "celeba": Architecture("celeba", (3, 64, 64), 128),
}
BATCH = 100
Step = Callable[[], object]


def objective(kind: str, model: str, width: float, device: str) -> Objective:
    """Return a fresh objective, laid out as the training loop does."""
    row = METHODS[model]
    fields = vars(KINDS[kind]) | {"bridge": row.bridge, "width": width}
    made = row.objective_for(build(Architecture(**fields))).to(device)
    for parameter in made.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    return made


def single(one: Objective, x: torch.Tensor) -> Step:
    """Return a step of one model."""
    optimizer = torch.optim.Adam(one.groups(1e-4), fused=True)

    def step() -> None:
        loss = torch.stack(list(one(x).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        one.after_step(1e-4)

    return step


def stacked(stack: Stack, x: torch.Tensor) -> Step:
    """Return a step of several."""
    optimizer = torch.optim.Adam(stack.together.groups(1e-4), fused=True)

    def step() -> None:
        stack.backward(x)
        stack.contain()
        optimizer.step()
        stack.together.after_step(1e-4)

    return step


def timed(step: Step, seconds: float) -> float:
    """Return the seconds of a step, the mean over as many as fit into the time given."""
    start, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - start < seconds:
        step()
        count += 1
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / count


def compare(
    kind: str, members: int, arguments: argparse.Namespace, device: str
) -> tuple[float, dict[str, float], str]:
    """Return a single step in milliseconds, those of the stacks in single ones, and our choice."""

    def several() -> list[Objective]:
        made = (arguments.model, arguments.width, device)
        return [objective(kind, *made) for _ in range(members)]

    x = torch.rand(members, BATCH, *KINDS[kind].shape, device=device)
    generators = [torch.Generator(device).manual_seed(k) for k in range(members)]
    steps = {"single": single(several()[0], x[0])} | {
        name: stacked(Stack(several(), generators, at_once=at_once), x)
        for name, at_once in (("at once", True), ("in turn", False))
    }
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(arguments.rounds):
        names = list(steps)[:: 1 if round_ % 2 else -1]
        for name in names:
            times[name].append(timed(steps[name], arguments.seconds))
    ratios = {
        name: statistics.median(a / b for a, b in zip(times[name], times["single"], strict=True))
        for name in ("at once", "in turn")
    }
    chosen = "at once" if pays(several()[0].model, members) else "in turn"
    return 1e3 * statistics.median(times["single"]), ratios, chosen


def main() -> None:
    """Print a row for each network and number of members."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", choices=KINDS, default=["table", "digits", "mnist"])
    parser.add_argument("--members", nargs="*", type=int, default=[2, 4, 8, 16])
    parser.add_argument("--model", default="lorae")
    parser.add_argument("--width", type=float, default=0.25, help="1 is the paper's")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each block of steps")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(
        f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, "
        f"{arguments.model}, width {arguments.width:g}, batch {BATCH}, {arguments.rounds} rounds; "
        "steps of a single member that a step of all costs"
    )
    print("| network | single, ms | members | at once | in turn | chosen | each, of a single |")
    print("|---|---|---|---|---|---|---|")
    for kind in arguments.data:
        for members in arguments.members:
            one, ratios, chosen = compare(kind, members, arguments, device)
            print(
                f"| {kind} | {one:.2f} | {members} | {ratios['at once']:.2f} | "
                f"{ratios['in turn']:.2f} | {chosen} | {ratios[chosen] / members:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
