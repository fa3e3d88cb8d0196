"""Checks of refused commands."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from small import content


def assert_refused(answer: tuple[int, str, str], pattern: str) -> None:
    """Check for status 2 and one line on standard error, with nothing on standard output."""
    status, out, err = answer
    assert status == 2, err
    assert out == ""
    assert re.fullmatch(r"lorae: [^\n]+\n", err), err
    assert re.search(pattern, err), err


def assert_refused_without_loss(
    lorae, arguments: Sequence[str], pattern: str, runs: Mapping[str, Path]
) -> None:
    """Check that a command is refused and leaves every file as it was, with a folder `full` there.

    Arguments that are names of runs are replaced by their folders.
    """
    Path("full").mkdir()
    Path("full/mine").touch()
    before, paths = content(Path()), set(Path().rglob("*"))
    assert_refused(lorae(*[runs.get(argument, argument) for argument in arguments]), pattern)
    assert content(Path()) == before
    assert set(Path().rglob("*")) == paths
