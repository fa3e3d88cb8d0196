"""JSON objects in files, with a checksum and checked types.

A record is a JSON object whose last entry is a checksum of the others, so a record that was
altered is refused. Its types are those of a `TypedDict`, so one that another version or program
wrote is refused as well, in a sentence that names what does not fit.
"""

import hashlib
import json
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from lorae.errors import InputError
from lorae.utils.files import create_file, read_json, write_atomic

_WORDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a text",
    type(None): "null",
    list: "a list",
    tuple: "a list",
    dict: "an object",
}


def write_record(path: Path, value: Mapping[str, Any], *, new: bool = False) -> None:
    """Write a record, atomically, or raise FileExistsError if a `new` file exists already.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "a.json"
        >>> write_record(path, {"steps": 10})
        >>> read_record(path, dict[str, int])
        {'steps': 10}
    """
    write = create_file if new else write_atomic
    write(path, (json.dumps(seal(value), indent=2) + "\n").encode())


def read_record(path: Path, schema: Any) -> Any:
    """Read a record of :func:`write_record` whose types are those of :func:`check_json`."""
    return unseal(read_json(path), repr(str(path)), schema)


def seal(value: Mapping[str, Any], previous: str = "") -> dict[str, Any]:
    """Return a record with its checksum, which covers the previous record if there is one."""
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain | {"checksum": _checksum(plain, previous)}


def unseal(value: Any, name: str, schema: Any, previous: str = "") -> Any:
    """Return a record without its checksum."""
    content = dict(value) if isinstance(value, dict) else {}
    checksum = content.pop("checksum", None)
    if checksum is None:
        raise InputError(f"{name} was not written by this version of lorae: it has no checksum")
    if checksum != _checksum(content, previous):
        raise InputError(f"{name} was altered after it was written: its checksum is wrong")
    check_json(content, schema, name)
    return content


def _checksum(value: Mapping[str, Any], previous: str) -> str:
    text = previous + json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def check_json(value: Any, schema: Any, name: str) -> None:
    """Check the types of a JSON value.

    Args:
        value: what `json.loads` returns.
        schema: a type: bool, int, float (which integers fit, too), str, None, Any, a list, tuple
            or dict of those, a union, or a `TypedDict`, which may have more keys than it names.
        name: of the value, for the message.

    Example:
        >>> check_json({"ranks": [3, "2"]}, dict[str, list[int]], "a.json")
        Traceback (most recent call last):
        lorae.errors.InputError: a.json: ranks[1] must be an integer, got '2'
    """
    problem = _mismatch(value, schema, "")
    if problem:
        raise InputError(f"{name}: {problem}")


def _mismatch(value: Any, schema: Any, where: str) -> str | None:
    """Return what part of a value does not fit, or None."""
    origin, inner = get_origin(schema), get_args(schema)
    parts: list[tuple[Any, Any, str]]
    if schema is Any:
        return None
    if origin in (Union, types.UnionType):
        fits = any(_mismatch(value, one, where) is None for one in inner)
        return None if fits else _message(where, schema, value)
    if is_typeddict(schema):
        if not isinstance(value, dict):
            return _message(where, dict, value)
        hints = get_type_hints(schema, include_extras=True)
        optional = {key for key, hint in hints.items() if get_origin(hint) is NotRequired}
        missing = [key for key in hints if key not in value and key not in optional]
        if missing:
            return f"{where}{': ' if where else ''}{missing[0]!r} is missing"
        parts = [
            (value[key], get_args(hint)[0] if key in optional else hint, f"{where}.{key}")
            for key, hint in hints.items()
            if key in value
        ]
    elif origin is dict and isinstance(value, dict):
        parts = [(one, inner[1], f"{where}.{key}") for key, one in value.items()]
    elif origin in (list, tuple) and isinstance(value, list):
        parts = [(one, inner[0], f"{where}[{k}]") for k, one in enumerate(value)]
    else:
        return None if _is_plain(value, origin or schema) else _message(where, schema, value)
    problems = (_mismatch(one, hint, place.lstrip(".")) for one, hint, place in parts)
    return next((problem for problem in problems if problem), None)


def _is_plain(value: Any, kind: Any) -> bool:
    if kind in (None, type(None)):
        return value is None
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, int | float if kind is float else kind)


def _message(where: str, schema: Any, value: Any) -> str:
    shown = json.dumps(value) if not isinstance(value, str) else repr(value)
    shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
    return f"{where or 'the content'} must be {_describe(schema)}, got {shown}"


def _describe(schema: Any) -> str:
    if get_origin(schema) in (Union, types.UnionType):
        return " or ".join(_describe(one) for one in get_args(schema))
    return _WORDS[get_origin(schema) or schema]
