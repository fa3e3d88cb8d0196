"""The memory of one training step, kept for the next."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # the numbers in glibc's malloc.h
_KEEPING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
# What glibc's own rule comes to once blocks of 32 MB are freed; to set a value ends that rule.
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26}


@contextmanager
def kept() -> Iterator[None]:
    """Let the C library keep what is freed, instead of handing it back to the system.

    Every step of training frees the activations and gradients that the next one asks for again.
    glibc returns large blocks, and the system clears every page of the new ones, which is a tenth
    to a fifth of a step of the paper's MNIST network on one thread. Within this context blocks
    come from a heap that only grows; at its end what is free goes back. It does nothing with
    another C library, nor where the environment has wishes of its own for this one (`MALLOC_...`,
    `GLIBC_TUNABLES`).
    """
    own = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if own or platform.libc_ver()[0] != "glibc":
        yield
        return
    library = ctypes.CDLL(None)
    for parameter, value in _KEEPING.items():
        library.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in _USUAL.items():
            library.mallopt(parameter, value)
        library.malloc_trim(0)
