"""Command lines to commands: tyro over frozen dataclasses, each field an option."""

import contextlib
import dataclasses
import difflib
import io
import re
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import docstring_parser
import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from lorae.data.options import READ_OPTIONS
from lorae.errors import InputError

Command = Callable[[], None]
Json = Annotated[bool, tyro.conf.arg(name="json", help="Print the answer as JSON.")]
RunFolder = Annotated[
    Path, tyro.conf.Positional, tyro.conf.arg(help="Run folder of a finished training.")
]
Given = tyro.conf.Suppress[frozenset[str]]
"""Names of the options that were written out, which :func:`parse` sets."""
_CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)
_REGISTRY = ConstructorRegistry()


def parse(kind: type[Command], name: str, words: Sequence[str]) -> Command:
    """Return the command that the words after its name describe.

    A field `given` of the command receives the names of the options that were written out, which
    differ from those that were left at their default.

    Raises:
        SystemExit: after `--help`.
        InputError: about the first word that is not understood.
    """
    prog, errors = f"lorae {name}", io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            command, unknown = tyro.cli(
                kind,
                prog=prog,
                args=words,
                config=_CONFIG,
                registry=_REGISTRY,
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if stop.code:
            raise InputError(_explain(errors.getvalue(), kind, words, prog)) from None
        raise
    if unknown:
        raise _unknown_word(unknown, kind, prog)
    if not hasattr(command, "given"):
        return command
    return dataclasses.replace(command, given=option_names(words))  # type: ignore[type-var]


def _unknown_word(unknown: Sequence[str], kind: type, prog: str) -> InputError:
    """Return the error about words that are left over."""
    option = next((word for word in unknown if re.match(r"--?[a-zA-Z]", word)), None)
    known = [f"--{name}" for name, _ in option_types(kind)]
    if option is None:
        hint = " (data are named by --data)" if "--data" in known else ""
        return InputError(f"unexpected word {unknown[0]!r}{hint}; see {prog} --help")
    option = option.partition("=")[0]
    close = difflib.get_close_matches(option, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return InputError(f"unknown option {option!r}{hint}; see {prog} --help")


def _explain(message: str, kind: type, words: Sequence[str], prog: str) -> str:
    """Return a message of tyro, which is a box of several lines, as one sentence."""
    text = " ".join(re.sub(r"[^\x00-\x7f]", " ", message).split())
    if found := re.search(r"Error parsing (?:-\w/)?(--[\w-]+):", text):
        option = found[1]
        hint = dict(option_types(kind)).get(option[2:], str)
        return f"{option} must be {describe(hint)}, got {_values(words, option)}"
    if found := re.search(r"Missing value for argument '(?:-\w/)?(--[\w-]+)'", text):
        return f"{found[1]} must be followed by a value; see {prog} --help"
    if found := re.search(r"Expected one of {(.*?)}", text):
        return f"{prog} must be followed by one of {found[1]}; see {prog} --help"
    missing = [
        name.upper() if positional else f"--{name}"
        for name, hint in option_types(kind)
        for positional in [tyro.conf.Positional in getattr(hint, "__metadata__", ())]
        if re.search(rf"(?<![\w-])({name.upper()}|--{name}) ", text)
    ]
    if "Missing from" in text and missing:
        return f"{prog} needs {' and '.join(missing)}; see {prog} --help"
    return text.partition(" For full helptext")[0]


def option_types(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the options of a command with their types, those of nested dataclasses included."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if tyro.conf.Suppress in getattr(hint, "__metadata__", ()):
            continue
        plain = hint
        while get_origin(plain) is Annotated:
            plain = get_args(plain)[0]
        if dataclasses.is_dataclass(plain):
            assert isinstance(plain, type)
            yield from option_types(plain)
        else:
            named = [one.name for one in getattr(hint, "__metadata__", ()) if _has_name(one)]
            yield (named[0] if named else name.replace("_", "-")), hint


def _has_name(config: object) -> bool:
    return bool(getattr(config, "name", None))


def describe(hint: Any) -> str:
    """Return what values an option takes, in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated or origin in (Union, types.UnionType):
        return describe(next(one for one in inner if one is not type(None)))
    if origin is tuple:
        return {int: "integers", float: "numbers"}.get(inner[0], "words")
    if origin is dict:
        return "names, each followed by a value"
    return {int: "an integer", float: "a number"}.get(hint, "a word")


def _values(words: Sequence[str], option: str) -> str:
    """Return the words that were given to an option, as a text in quotes."""
    values: list[str] = []
    inside = False
    for word in words:
        if word.startswith("--") or word == f"-{option[2:]}":
            name, equals, value = word.partition("=")
            inside = name.lstrip("-") == option[2:]
            values = ([value] if equals else []) if inside else values
        elif inside:
            values.append(word)
    return repr(" ".join(values))


def option_names(words: Sequence[str]) -> frozenset[str]:
    """Return the fields that the options among the words of a command line set.

    Example:
        >>> sorted(option_names(["--seed", "0", "--batch-size=10", "--no-capture"]))
        ['batch_size', 'capture', 'seed']
    """
    options = (word[2:].partition("=")[0] for word in words if word.startswith("--"))
    return frozenset(option.removeprefix("no-").replace("-", "_") for option in options)


@_REGISTRY.primitive_rule
def _yes_or_no_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[bool | None] | None:
    """Describe an option that is yes, no, or None unless it is given."""
    if info.type != bool | None:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="yes|no",
        instance_from_str=lambda words: words[0] == "yes",
        is_instance=lambda value: value is None or isinstance(value, bool),
        str_from_instance=lambda value: ["yes" if value else "no"],
        choices=("yes", "no"),
    )


@_REGISTRY.struct_rule
def _dataclass_rule(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Describe the fields of a dataclass, so that the help shows only defaults that say something.

    By itself tyro shows `{None}|INT`, `(default: None)` and the line breaks of docstrings, and
    calls positional arguments by their type.
    """
    if not dataclasses.is_dataclass(info.type):
        return None
    hints = get_type_hints(info.type, include_extras=True)
    documented = [
        field
        for kind in info.type.__mro__
        if dataclasses.is_dataclass(kind)
        for field in docstring_parser.parse_from_object(kind).params
    ]
    helps = {one.arg_name: " ".join((one.description or "").split()) for one in documented}
    fields = (
        _field(field, hints[field.name], helps.get(field.name))
        for field in sorted(dataclasses.fields(info.type), key=lambda f: f.name in READ_OPTIONS)
    )  # --data and --model stand before how the data are read
    return StructConstructorSpec(instantiate=info.type, fields=tuple(fields))


def _field(field: dataclasses.Field[Any], hint: Any, text: str | None) -> StructFieldSpec:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    elif default is dataclasses.MISSING:
        default = tyro.MISSING
    says_nothing = isinstance(default, bool) or default in (None, (), {}, tyro.MISSING)
    metavar = None
    if tyro.conf.Positional in getattr(hint, "__metadata__", ()):
        several = get_origin(get_args(hint)[0]) is tuple
        name = field.name.upper()
        metavar = f"[{name.removesuffix('S')} ...]" if several else name
    elif default is None:
        metavar = _metavar(get_args(hint)[0])
    config = tyro.conf.arg(metavar=metavar, help_behavior_hint="" if says_nothing else None)
    annotated: Any = Annotated[hint, config]
    return StructFieldSpec(field.name, annotated, default, text)


def _metavar(kind: Any) -> str | None:
    if get_origin(kind) is tuple:
        return " ".join(filter(None, map(_metavar, get_args(kind))))
    if kind is bool:
        return "yes|no"
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kind, set()))
    return spec.metavar if isinstance(spec, PrimitiveConstructorSpec) else None
