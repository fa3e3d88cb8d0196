"""Collective operations over the processes of a training, and random numbers they share.

Sample i of a global batch of W n samples is sample i // W of process i % W. Random numbers for
samples are drawn for the whole global batch by every process, each of which then keeps its own
samples; so several processes compute what one would have computed. With one process every
operation is the identity.
"""

from collections.abc import Callable

import torch
import torch.distributed
from torch import Tensor


def world_size() -> int:
    """Return the number of processes, 1 if there is no process group."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if ready else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return 0 if world_size() == 1 else torch.distributed.get_rank()


def is_main() -> bool:
    """Return whether this process is the one that prints and writes."""
    return rank() == 0


def average(x: Tensor) -> Tensor:
    """Return the mean of `x` over all processes, differentiable on each of them."""
    return x if world_size() == 1 else _all_reduce(x) / world_size()


def gather(x: Tensor) -> Tensor:
    """Return the samples of all processes in their global order, differentiable on each of them.

    If every process computes the same loss of the result, the average of their gradients is the
    gradient of one process with the global batch.
    """
    if world_size() == 1:
        return x
    interleaved = x.new_zeros(len(x) * world_size(), *x.shape[1:])
    interleaved[rank() :: world_size()] = x
    return _all_reduce(interleaved)


def shard(x: Tensor) -> Tensor:
    """Return this process's samples of a global batch, the inverse of :func:`gather`."""
    return x[rank() :: world_size()]


def stack(x: Tensor) -> Tensor:
    """Return the tensors of all processes, which have the same shape, along a new first axis."""
    if world_size() == 1:
        return x[None]
    parts = [torch.empty_like(x) for _ in range(world_size())]
    torch.distributed.all_gather(parts, x.contiguous())
    return torch.stack(parts)


def normal(like: Tensor) -> Tensor:
    """Return standard normal numbers for samples of the shape of `like`, float32 or wider."""
    return _draw(torch.randn, like)


def uniform(like: Tensor) -> Tensor:
    """Return uniform numbers in [0, 1) for samples of the shape of `like`, float32 or wider."""
    return _draw(torch.rand, like)


def _draw(draw: Callable[..., Tensor], like: Tensor) -> Tensor:
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    shape = (len(like) * world_size(), *like.shape[1:])
    return shard(draw(shape, device=like.device, dtype=dtype))


def _all_reduce(x: Tensor) -> Tensor:
    from torch.distributed.nn.functional import all_reduce

    total: Tensor = all_reduce(x)  # type: ignore[no-untyped-call]
    return total
