"""From the words of a command line to a command."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import tyro

from lorae.cli.parsing import parse


@dataclass(frozen=True)
class Example:
    """Do something."""

    run: tyro.conf.Positional[Path]
    """A folder."""
    size: int | None = None
    """A size, in a docstring that
    takes two lines."""
    names: tuple[str, ...] = ()
    """Some names."""
    seed: int = 0
    """A seed."""
    quiet: bool = False
    """Say less."""
    colour: bool = True
    """Print without colours."""
    given: tyro.conf.Suppress[frozenset[str]] = frozenset()
    """What was written out."""

    def __call__(self):
        """Do nothing."""


def test_fields_are_options():
    words = ["a", "--size", "3", "--names", "x", "y", "--seed=0", "--quiet", "--no-colour"]
    given = frozenset({"size", "names", "seed", "quiet", "colour"})
    expected = Example(Path("a"), 3, ("x", "y"), quiet=True, colour=False, given=given)
    assert parse(Example, "example", words) == expected


@pytest.mark.parametrize("words", [["--seed", "0"], ["--seed=0"]])
def test_an_option_given_its_default_is_told_apart_from_one_left_out(words):
    assert parse(Example, "example", ["a"]) == Example(Path("a"))
    assert parse(Example, "example", ["a", *words]).given == {"seed"}


def test_help_joins_lines_and_shows_the_defaults_that_say_something(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        parse(Example, "example", ["--help"])
    text = re.sub(r"[│╭╮╰╯─\s]+", " ", capsys.readouterr().out)
    assert text.startswith("usage: lorae example [-h] RUN [--names [STR [STR ...]]]")
    assert "Some names. --seed INT A seed. (default: 0) --quiet Say less. --no-colour Print" in text
    # options of reading, such as --size, stand last
    assert (
        "--no-colour Print without colours. --size INT A size, in a docstring that takes two lines."
        in text
    )
    assert "given" not in text
