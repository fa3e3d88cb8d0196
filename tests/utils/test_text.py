"""The columns of text tables are aligned."""

import pytest

from lorae.utils.text import format_table


@pytest.mark.parametrize(
    ("align", "lines"),
    [
        ("lr", ["rank   a    b", "one    1  2.5", "three       1"]),
        ("rrl", [" rank  a  b", "  one  1  2.5", "three     1"]),
    ],
)
def test_columns_are_aligned_by_letter(align, lines):
    table = format_table([("one", 1, 2.5), ("three", "", 1)], ("rank", "a", "b"), align)
    assert table.splitlines() == lines


def test_a_table_may_lack_a_header():
    assert format_table([("a", "b"), ("cc", "d")], align="l") == "a   b\ncc  d"
