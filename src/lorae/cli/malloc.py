"""An allocator setting for processes that train on a CPU."""

import ctypes
import os
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # the numbers in glibc's malloc.h


def keep_freed_memory() -> None:
    """Let the C library keep freed memory, for the rest of the process.

    Every training step frees the activations and gradients that the next one allocates again.
    glibc returns large blocks to the system, which clears every page of the new ones: a tenth to a
    fifth of a step of the paper's MNIST network on one thread. After this call all blocks come
    from a heap that only grows.

    It has no effect with another C library, or where the environment configures this one
    (`MALLOC_...`, `GLIBC_TUNABLES`). The setting is that of the whole process, so it is left to
    the command line; no library function calls it.
    """
    configured = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if configured or platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
