"""Answers and warnings of commands."""

import json
import warnings

from lorae.cli.output import print_answer, print_warning, show_warnings


def test_text_is_printed_as_it_is_and_anything_else_as_json(capsys):
    print_answer("a\nb")
    assert capsys.readouterr() == ("a\nb\n", "")
    print_answer({"x": [1, None]})
    assert json.loads(capsys.readouterr().out) == {"x": [1, None]}


def test_warnings_go_to_standard_error(capsys):
    print_warning("too few samples")
    assert capsys.readouterr() == ("", "lorae: warning: too few samples\n")


def test_warnings_of_a_category_are_printed_every_time_without_their_code(capsys):
    with show_warnings(RuntimeWarning):
        for _ in range(2):
            warnings.warn("slow", RuntimeWarning, stacklevel=1)
    assert capsys.readouterr().err == "lorae: warning: slow\n" * 2
