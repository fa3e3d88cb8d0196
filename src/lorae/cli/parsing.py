"""Command lines to commands: tyro over frozen dataclasses, each field an option."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_args, get_origin, get_type_hints

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

Command = Callable[[], None]
_CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)
_REGISTRY = ConstructorRegistry()


def parse(kind: type[Command], name: str, words: Sequence[str]) -> Command:
    """Return the command that the words after its name describe.

    A field `given` of the command receives the names of the options that were written out, which
    differ from those that were left at their default.

    Raises:
        SystemExit: after `--help`, or after a message about words that are not understood.
    """
    command = tyro.cli(kind, prog=f"lorae {name}", args=words, config=_CONFIG, registry=_REGISTRY)
    if not hasattr(command, "given"):
        return command
    return dataclasses.replace(command, given=option_names(words))  # type: ignore[type-var]


def option_names(words: Sequence[str]) -> frozenset[str]:
    """Return the fields that the options among the words of a command line set.

    Example:
        >>> sorted(option_names(["--seed", "0", "--batch-size=10", "digits"]))
        ['batch_size', 'seed']
    """
    options = (word[2:].partition("=")[0] for word in words if word.startswith("--"))
    return frozenset(option.replace("-", "_") for option in options)


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
        for field in dataclasses.fields(info.type)
    )
    return StructConstructorSpec(instantiate=info.type, fields=tuple(fields))


def _field(field: dataclasses.Field[Any], hint: Any, text: str | None) -> StructFieldSpec:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    elif default is dataclasses.MISSING:
        default = tyro.MISSING
    says_nothing = default is False or default in (None, (), {}, tyro.MISSING)
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


def _metavar(kind: type) -> str | None:
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kind, set()))
    return spec.metavar if isinstance(spec, PrimitiveConstructorSpec) else None
