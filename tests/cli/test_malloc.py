"""Freed memory is kept while it is asked to be, and handed back afterwards."""

import json
import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

# In a process of its own, for what a heap does depends on all that it has been through.
SCRIPT = """
import json, resource
import torch
from lorae.cli import malloc as memory

def faults():
    '''The least number of pages that the system clears for one of several blocks of 40 MB; the
    least, because a system short of memory may take pages away at any time. Where a block leaves
    a small piece behind itself, which glibc caches, the next one of that size does not fit in its
    place; a cache holds seven such pieces.'''
    for _ in range(20):  # so that a heap that keeps has grown
        torch.ones(10**7)
    counts = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(10**7)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(counts)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

at_first, start = faults(), resident()
with memory.kept():
    within, held = faults(), resident() - start
print(json.dumps([at_first, within, held, resident() - start]))
"""


def measured(**environment: str) -> tuple[int, int, int, int]:
    """Faults outside and within, and the bytes that are held within and afterwards."""
    own = ("MALLOC_", "GLIBC_TUNABLES")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=kept | environment, capture_output=True, check=True
    )
    return tuple(json.loads(answer.stdout))


def test_memory_is_kept_within_and_handed_back_after():
    at_first, within, held, left = measured()
    assert within < at_first / 2
    assert held > 2 * 10**7
    assert left < 2 * 10**7


@pytest.mark.slow
@pytest.mark.parametrize("wish", [{"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": ""}], ids=str)
def test_wishes_of_the_environment_are_left_alone(wish):
    at_first, within, held, _ = measured(**wish)
    assert within > at_first / 2
    assert held < 2 * 10**7
