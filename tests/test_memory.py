"""Freed memory is kept while it is asked to be, and handed back afterwards."""

import platform
import resource
from itertools import pairwise

import pytest
import torch

from lorae import memory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")


def faults() -> int:
    """The least number of pages that the system clears for a block of 40 MB, of several blocks.

    The least, because a system short of memory may take pages away at any time.
    """
    torch.ones(10**7)  # so that a heap that keeps has grown
    counts = [resource.getrusage(resource.RUSAGE_SELF).ru_minflt]
    for _ in range(5):
        torch.ones(10**7)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    return min(after - before for before, after in pairwise(counts))


def resident() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123 - no file that a Path would serve better
        return int(file.read().split()[1]) * resource.getpagesize()


@glibc
def test_memory_is_kept_within_and_handed_back_after(monkeypatch):
    for name in ("MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    at_first, before = faults(), resident()
    with memory.kept():
        assert faults() < at_first / 2
        assert resident() > before + 2 * 10**7
    assert resident() < before + 2 * 10**7
    assert faults() > at_first / 2


@glibc
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_wishes_of_the_environment_are_left_alone(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    at_first = faults()
    with memory.kept():
        assert faults() > at_first / 2
