"""Columns of numbers and categories as values, and back."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorae.data.columns import Schema, category_column, describe_column
from lorae.errors import InputError

KINDS = {
    "number": st.floats(-1e6, 1e6),
    "text": st.sampled_from(["ash", "elm", "oak"]),
    "boolean": st.booleans(),
}


@given(
    st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=5).flatmap(
        lambda kinds: st.lists(st.tuples(*(KINDS[kind] for kind in kinds)), min_size=1, max_size=9)
    )
)
def test_decoding_inverts_encoding(rows):
    cells = [list(column) for column in zip(*rows, strict=True)]
    schema = Schema(
        tuple(describe_column(f"c{k}", "float64", column) for k, column in enumerate(cells))
    )
    values = schema.encode(cells)
    assert values.shape == (len(rows), len(schema.value_names))
    assert schema.decode(values) == cells
    assert Schema.from_dict(json.loads(json.dumps(asdict(schema)))) == schema


def test_numbers_come_first_and_missing_cells_are_gaps():
    columns = (
        category_column("kind", "str", ["a", "b"]),
        describe_column("size", "float64", [1.0]),
    )
    schema = Schema(columns)
    assert schema.value_names == ("size", "kind=a", "kind=b")
    values = schema.encode([["b", None], [None, 2.0]])
    np.testing.assert_array_equal(values, [[np.nan, 0, 1], [2, np.nan, np.nan]])
    assert schema.select(np.array([False, True, True])).columns == columns[:1]


def test_whole_numbers_are_returned_as_such():
    column = describe_column("age", "int64", [3, 4])
    assert column.decode(np.array([[3.2], [-0.7]])) == [3, -1]


def test_text_among_numbers_is_named():
    column = describe_column("age", "float64", [3, 4])
    with pytest.raises(InputError, match="column 'age' must hold numbers, got 'old'"):
        column.encode([1, "old"])


def test_text_that_differs_in_every_row_is_refused():
    names = [f"sample {k}" for k in range(40)]
    with pytest.raises(InputError, match="'id' must have categories that repeat, got 40 diff"):
        describe_column("id", "str", [*names, None])
    assert len(describe_column("id", "str", [*names, names[0]]).levels or ()) == 40
