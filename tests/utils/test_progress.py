"""Progress of long work where there is no terminal."""

import re
import time

from lorae.utils import progress
from lorae.utils.progress import ProgressBar


def test_lines_tell_what_is_done_and_left(capsys, monkeypatch):
    clock = iter(range(0, 10**6, 20))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    bar = ProgressBar(range(10), desc="codes", unit="images")
    bar._time, bar.start_t, bar.last_print_t = (lambda: next(clock)), 0, 0
    for _ in bar:
        pass
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 10
    assert all(re.fullmatch(r"codes: \d+ of 10 images, [\d:?]+ left", line) for line in lines)


def test_short_work_is_silent(capsys):
    assert progress.INTERVAL == 30
    assert list(ProgressBar(range(1000), desc="codes")) == list(range(1000))
    assert capsys.readouterr().err == ""
