"""Freed memory is kept while it is asked to be, and handed back afterwards."""

import platform
import resource

import pytest
import torch

from lorae import memory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")


def faults() -> int:
    """How many pages the system clears for 20 blocks of 80 MB, one after the other."""
    torch.ones(2 * 10**7)  # so that a heap that keeps has grown
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2 * 10**7)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123 - no file that a Path would serve better
        return int(file.read().split()[1]) * resource.getpagesize()


@glibc
def test_memory_is_kept_within_and_handed_back_after(monkeypatch):
    for name in ("MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    at_first, before = faults(), resident()
    with memory.kept():
        assert faults() < at_first / 4
        assert resident() > before + 4 * 10**7
    assert resident() < before + 4 * 10**7
    assert faults() > at_first / 2


@glibc
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_wishes_of_the_environment_are_left_alone(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    at_first = faults()
    with memory.kept():
        assert faults() > at_first / 2
