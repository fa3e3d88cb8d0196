"""How a table, an array or a folder of images is read: the options that users give."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from lorae.errors import InputError, unknown_name
from lorae.utils.validation import check_choice, check_range

SIDE = 4  # values, the smallest side of a signal, an image or a volume
LAYOUTS = ("NL", "NCL", "NLC", "NHW", "NCHW", "NHWC", "NDHW", "NCDHW", "NDHWC")
"""Axes of arrays of samples: signals, images and volumes, without or with channels."""
SEPARATORS = {"tab": "\t", "\\t": "\t", "space": " "}
MISSING = ("refuse", "keep")
TEXT_OPTIONS = ("header", "separator", "decimal", "encoding")


@dataclass(frozen=True)
class ReadOptions:
    """How data are read; what is not given is guessed, and every guess is reported."""

    size: int | None = None
    """Resize images to this many pixels on each side, after cutting a centred square."""
    crop: int | None = None
    """Cut a centred square of this many pixels first."""
    value_range: tuple[float, float] | None = None
    """Values of black and white of images, such as 0 4095; by default 0 to 255 for bytes, 0 to
    65535 for 16 bits, and for floating-point images 0 to 1, -1 to 1 or 0 to 255."""
    layout: str | None = None
    """Axes of an array whose shape is ambiguous, such as NCL, NHW, NCHW, NHWC or NDHW: N samples, C
    channels, D depth, H height, W width, L length of signals."""
    header: bool | None = None
    """Whether the first line of a table holds column names; by default guessed."""
    separator: str | None = None
    """Separator of the values of a table: a character, tab, or space (any white space); by default
    guessed."""
    decimal: str | None = None
    """Decimal sign of a table: . or ,; by default guessed."""
    encoding: str | None = None
    """Encoding of a table, such as utf-8 or latin-1; by default guessed."""
    columns: tuple[str, ...] = ()
    """Names of the columns of a table to use; by default all."""
    drop: tuple[str, ...] = ()
    """Names of the columns of a table to leave out, such as id label."""
    index: str | None = None
    """Name of the index column of a table, which is left out, or none; by default guessed."""
    categories: tuple[str, ...] = ()
    """Names of the columns of a table whose numbers are codes of categories; columns of text or
    booleans always are."""
    missing: str = "refuse"
    """What to do with missing values (empty cells, NaN): refuse them, or keep them. Kept ones are
    filled in for the encoder, and do not count in losses and scores."""
    skip_bad: bool = False
    """Skip files of a folder that cannot be read, instead of stopping."""
    drop_constant: bool = False
    """Drop constant columns of a table, instead of stopping."""

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> Self:
        """Return the options of a call, checked; lists become tuples, a name one of one name."""
        known = {field.name for field in fields(cls)}
        for name in keywords.keys() - known:
            raise unknown_name("option", name, known)
        several = ("value_range", "columns", "drop", "categories")
        as_tuples = {
            name: (value,) if isinstance(value, str) else tuple(value)
            for name, value in keywords.items()
            if name in several and value is not None
        }
        options = cls(**{**keywords, **as_tuples})
        options.check_reading()
        return options

    def check_reading(self) -> None:
        """Check everything that can be checked without the data."""
        check_range("size", self.size, SIDE)
        check_range("crop", self.crop, SIDE)
        if self.value_range is not None:
            limits = [float(limit) for limit in self.value_range]
            if len(limits) != 2 or not all(map(math.isfinite, limits)) or limits[0] >= limits[1]:
                raise InputError(
                    f"value_range must be two numbers, the smaller first, got {self.value_range}"
                )
        for name, allowed in (("layout", LAYOUTS), ("decimal", (".", ","))):
            if (value := getattr(self, name)) is not None:
                check_choice(name, value, allowed)
        check_choice("missing", self.missing, MISSING)
        if self.separator is not None and len(self.separator_character) != 1:
            raise InputError(f"separator must be one character or tab, got {self.separator!r}")
        if self.separator is not None and self.separator_character == self.decimal:
            raise InputError(f"separator must differ from decimal, got {self.separator!r} for both")

    @property
    def separator_character(self) -> str:
        """The separator as a character, empty if it is to be guessed."""
        return SEPARATORS.get(self.separator or "", self.separator or "")

    def changed(self, names: tuple[str, ...]) -> list[str]:
        """Return which of some options are not at their defaults."""
        return [name for name in names if getattr(self, name) != getattr(ReadOptions, name)]


READ_OPTIONS = tuple(field.name for field in fields(ReadOptions))
