"""The few things that several processes must agree on."""

import torch.distributed
from torch import Tensor


def processes() -> int:
    """Return the number of processes that train together, 1 if there is no process group."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if ready else 1


def average(x: Tensor) -> Tensor:
    """Return the mean of `x` over all processes, differentiable on each of them.

    With one process this is `x` itself.
    """
    if processes() == 1:
        return x
    from torch.distributed.nn.functional import all_reduce

    total: Tensor = all_reduce(x)  # type: ignore[no-untyped-call]
    return total / processes()


def is_main() -> bool:
    """Return whether this process is the one that prints and writes."""
    return processes() == 1 or torch.distributed.get_rank() == 0
