"""The few things that several processes must agree on.

Sample number i of a global batch of W n samples is number i // W of process i % W. What is drawn
at random for a sample is drawn for the whole global batch by every process alike, which then takes
its share, so that several processes do what one would have done.
"""

from collections.abc import Callable

import torch
import torch.distributed
from torch import Tensor


def processes() -> int:
    """Return the number of processes that train together, 1 if there is no process group."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if ready else 1


def rank() -> int:
    """Return the number of this process among them, from 0."""
    return 0 if processes() == 1 else torch.distributed.get_rank()


def is_main() -> bool:
    """Return whether this process is the one that prints and writes."""
    return rank() == 0


def average(x: Tensor) -> Tensor:
    """Return the mean of `x` over all processes, differentiable on each of them.

    With one process this is `x` itself.
    """
    return x if processes() == 1 else _total(x) / processes()


def gathered(x: Tensor) -> Tensor:
    """Return the samples of all processes in their global order, differentiable on each of them.

    With one process this is `x` itself. A loss of what is returned, which all processes then
    compute alike, has the gradient of one process with the global batch once the processes'
    gradients are averaged.
    """
    if processes() == 1:
        return x
    spread = x.new_zeros(len(x) * processes(), *x.shape[1:])
    spread[rank() :: processes()] = x
    return _total(spread)


def stacked(x: Tensor) -> Tensor:
    """Return the tensors of all processes, which have one shape, as rows in their order."""
    if processes() == 1:
        return x[None]
    parts = [torch.empty_like(x) for _ in range(processes())]
    torch.distributed.all_gather(parts, x.contiguous())
    return torch.stack(parts)


def share(x: Tensor) -> Tensor:
    """Return this process's samples of a global batch; with one process, all of them."""
    return x[rank() :: processes()]


def normal(like: Tensor) -> Tensor:
    """Return standard normal numbers for samples of the shape of `like`, float32 or wider."""
    return _drawn(torch.randn, like)


def uniform(like: Tensor) -> Tensor:
    """Return uniform numbers in [0, 1) for samples of the shape of `like`, float32 or wider."""
    return _drawn(torch.rand, like)


def _drawn(draw: Callable[..., Tensor], like: Tensor) -> Tensor:
    return share(draw(_global_shape(like), device=like.device, dtype=_dtype(like)))


def _global_shape(like: Tensor) -> tuple[int, ...]:
    return (len(like) * processes(), *like.shape[1:])


def _dtype(like: Tensor) -> torch.dtype:
    return torch.float64 if like.dtype == torch.float64 else torch.float32


def _total(x: Tensor) -> Tensor:
    from torch.distributed.nn.functional import all_reduce

    total: Tensor = all_reduce(x)  # type: ignore[no-untyped-call]
    return total
