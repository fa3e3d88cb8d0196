"""PyTorch's global generator, borrowed: seeded for a while, and given back as it was.

Threads share that generator, and what one draws the other does not. Within :data:`ALONE` nobody
else here seeds it or gives it back, so weights drawn there, right after seeding it, are those of
the seed, in however many threads models are fitted.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

ALONE = threading.RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's generator, and restore it at the end.

    Example:
        >>> before = torch.get_rng_state()
        >>> with seeded(0):
        ...     first = torch.rand(2)
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """
    with ALONE:
        before = torch.get_rng_state()
        torch.manual_seed(seed)
    try:
        yield
    finally:
        with ALONE:
            torch.set_rng_state(before)
