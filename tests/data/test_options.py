"""How data are read: which options are taken, and which are refused."""

import pytest

from lorae.data.options import ReadOptions
from lorae.errors import InputError


def test_lists_and_single_names_become_tuples():
    options = ReadOptions.from_keywords(
        {"columns": ["a", "b"], "drop": "id", "value_range": [0, 9]}
    )
    assert (options.columns, options.drop, options.value_range) == (("a", "b"), ("id",), (0, 9))
    assert ReadOptions.from_keywords({"separator": "tab"}).separator_character == "\t"
    assert options.changed(("drop", "index")) == ["drop"]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"colums": ["a"]}, r"unknown option 'colums' \(did you mean 'columns'\?\)"),
        ({"value_range": (1, 0)}, "value_range must be two numbers, the smaller first"),
        ({"value_range": (0, float("inf"))}, "value_range must be two numbers, the smaller first"),
        ({"layout": "CHW"}, "layout must be one of NL, NCL, .*, NDHWC, got 'CHW'"),
        ({"separator": ";", "decimal": ";"}, "decimal must be one of"),
        ({"separator": ",", "decimal": ","}, "separator must differ from decimal"),
        ({"size": 3}, "size must be .*at least 4, got 3"),
    ],
)
def test_what_does_not_fit_is_named(keywords, message):
    with pytest.raises(InputError, match=message):
        ReadOptions.from_keywords(keywords)
