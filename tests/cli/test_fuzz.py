"""Strange options through the command line: an answer, or one sentence.

Every case is a function of its number, so a failure is repeated by its name.
"""

import random
import re
from pathlib import Path

import numpy as np
import pytest

from lorae.cli.parsing import option_types
from lorae.cli.train import Train

pytest_plugins = ["commands"]

CASES = 40
STRANGE = ("-1", "0", "1", "nan", "inf", "1e300", "-1e-300", "", "x", "None", "\u00fc", "2.5",
           "99999999999999999999", "[]", "a b", "--", "/", "yes", "cpu", "digits")  # fmt: skip
TABLE = np.random.default_rng(0).normal(size=(20, 3))


def check(answer: tuple[int, str, str]) -> None:
    """Check that a command has answered, or has refused in one sentence and made no folder."""
    status, out, err = answer
    assert status in (0, 2), err
    assert "Traceback" not in err
    if status == 2:
        assert out == ""
        assert re.fullmatch(r"lorae: [^\n]+\n", err.splitlines(keepends=True)[-1]), err
    assert not Path("runs").exists()


@pytest.mark.parametrize("case", range(CASES))
def test_strange_options_are_taken_or_refused(case: int, lorae):
    chance = random.Random(case)
    np.save("data.npy", TABLE)
    names = sorted({name for name, _ in option_types(Train)} - {"dry-run", "out"})
    asked = [
        word
        for name in chance.sample(names, chance.randrange(1, 4))
        for word in (f"--{name}", *chance.choices(STRANGE, k=chance.randrange(3)))
    ]
    check(lorae("train", "--data", "data.npy", *asked, "--dry-run"))
