"""Records: what was written is read, and nothing else is."""

import json
from typing import Any, NotRequired, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorae.errors import InputError
from lorae.utils.records import check_json, read_record, seal, unseal, write_record

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(PLAIN, lambda one: st.lists(one) | st.dictionaries(st.text(), one))


class Point(TypedDict):
    x: float
    label: NotRequired[str]


@given(st.dictionaries(st.text().filter(lambda name: name != "checksum"), JSON))
def test_a_sealed_record_is_unsealed_unchanged(value):
    assert unseal(json.loads(json.dumps(seal(value))), "a", dict[str, Any]) == value


def test_a_record_is_refused_after_any_change(tmp_path):
    path = tmp_path / "a.json"
    write_record(path, {"steps": 10, "names": ["a"]})
    assert read_record(path, dict[str, Any]) == {"steps": 10, "names": ["a"]}
    for old, new in (("10", "11"), ('"a"', '"b"'), ("steps", "step"), ('"names"', '"checksun"')):
        path.write_text(path.read_text().replace(old, new))
        with pytest.raises(InputError, match=r"a\.json' was altered"):
            read_record(path, dict[str, Any])
        write_record(path, {"steps": 10, "names": ["a"]})
    path.write_text("[1]")
    with pytest.raises(InputError, match="it has no checksum"):
        read_record(path, dict[str, Any])


def test_a_chain_is_broken_by_a_missing_link():
    first = seal({"a": 1}, "start")
    second = seal({"a": 2}, first["checksum"])
    assert unseal(second, "b", dict[str, int], first["checksum"]) == {"a": 2}
    with pytest.raises(InputError, match="checksum is wrong"):
        unseal(second, "b", dict[str, int], "start")


def test_a_new_record_replaces_none(tmp_path):
    write_record(tmp_path / "a.json", {"a": 1}, new=True)
    with pytest.raises(FileExistsError):
        write_record(tmp_path / "a.json", {"a": 2}, new=True)
    assert read_record(tmp_path / "a.json", dict[str, int]) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("value", "schema", "message"),
    [
        (1, bool, "the content must be true or false, got 1"),
        (True, int, "the content must be an integer, got true"),
        (2.5, int, "the content must be an integer, got 2.5"),
        ("5", int | None, "the content must be an integer or null, got '5'"),
        ([1, None], list[float], r"\[1\] must be a number, got null"),
        ({"a": [0, "b"]}, dict[str, list[int]], r"a\[1\] must be an integer, got 'b'"),
        ({"label": "a"}, Point, "'x' is missing"),
        ({"x": 0, "label": 1}, Point, "label must be a text, got 1"),
        ([], Point, r"the content must be an object, got \[\]"),
        ([{}], list[Point], r"\[0\]: 'x' is missing"),
        ("a" * 99, float, "the content must be a number, got 'aaa.*\\.\\.\\.$"),
    ],
)
def test_what_does_not_fit_is_named(value, schema, message):
    with pytest.raises(InputError, match=f"^a file: {message}"):
        check_json(value, schema, "a file")


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (1, float),
        (None, int | None),
        ({"x": 1.5, "more": []}, Point),
        ([1, 2], tuple[int, ...]),
        ({"a": None}, dict[str, Any]),
    ],
)
def test_what_fits_passes(value, schema):
    check_json(value, schema, "a file")
