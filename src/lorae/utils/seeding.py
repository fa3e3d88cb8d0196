"""PyTorch's global generator, seeded for a while and then restored.

Threads share that generator. While a thread holds :data:`GENERATOR_LOCK`, no other thread of this
package seeds or restores it, so weights that are initialised right after seeding depend on the
seed alone, in however many threads models are fitted.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

GENERATOR_LOCK = threading.RLock()


@contextmanager
def temporary_seed(seed: int) -> Iterator[None]:
    """Seed the CPU's generator, and restore it at the end.

    Example:
        >>> before = torch.get_rng_state()
        >>> with temporary_seed(0):
        ...     first = torch.rand(2)
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """
    with GENERATOR_LOCK:
        before = torch.get_rng_state()
        torch.manual_seed(seed)
    try:
        yield
    finally:
        with GENERATOR_LOCK:
            torch.set_rng_state(before)
