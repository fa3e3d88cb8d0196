"""The memory of one training step, kept for the next."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # the parameters' numbers in glibc's malloc.h
_DEFAULTS = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_MAX: 65536}
_KEEPING = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0}


@contextmanager
def kept() -> Iterator[None]:
    """Let the C library keep what is freed, instead of handing it back to the system.

    Every step of training frees the activations and gradients that the next one asks for again.
    glibc maps blocks as large as these afresh each time, and the system clears every page of
    them: a fifth of a step of the paper's MNIST network on one thread, and more of a narrower
    one. Within this context they are taken from the heap, which only grows; at its end what is
    free goes back. It does nothing with another C library, nor where the environment has wishes of
    its own for this one (`MALLOC_...`, `GLIBC_TUNABLES`).
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
        for parameter, value in _DEFAULTS.items():
            library.mallopt(parameter, value)
        library.malloc_trim(0)
