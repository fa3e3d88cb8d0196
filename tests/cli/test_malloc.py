"""Freed memory is kept if the command line asks for it and the environment does not object."""

import json
import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

# In a process of its own: the behaviour of a heap depends on everything it has been used for.
SCRIPT = """
import json, resource
import torch
from lorae.cli.malloc import keep_freed_memory

def faults():
    '''The least number of pages that the system clears for one of several blocks of 40 MB. The
    least, because a system short of memory may take pages away at any time. A block may leave a
    small piece behind, which glibc caches, so that the next one of that size does not fit in its
    place; a cache holds seven such pieces.'''
    for _ in range(20):  # until a heap that keeps its memory has grown
        torch.ones(10**7)
    counts = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(10**7)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(counts)

before = faults()
keep_freed_memory()
print(json.dumps([before, faults()]))
"""


def page_faults(**environment):
    """Return the page faults of a large allocation before the call and after it."""
    own = ("MALLOC_", "GLIBC_TUNABLES")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=inherited | environment, capture_output=True, check=True
    )
    return tuple(json.loads(answer.stdout))


def test_freed_memory_is_kept():
    before, after = page_faults()
    assert after < before / 2


@pytest.mark.slow
@pytest.mark.parametrize("setting", [{"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": ""}], ids=str)
def test_settings_of_the_environment_are_left_alone(setting):
    before, after = page_faults(**setting)
    assert after > before / 2
