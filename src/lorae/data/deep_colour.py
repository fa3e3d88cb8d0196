"""Colour images of 16 bits, of which Pillow by itself keeps the upper 8.

Its decoders select one of the two bytes of a value by the name of a byte order, so that a second
reading in the other order gives the lower 8 bits.
"""

import re
import sys
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile

from lorae.data.arrays import Array

_NATIVE = "L" if sys.byteorder == "little" else "B"


class DeepColour(NamedTuple):
    """The upper and the lower 8 bits of a colour image, RGB or RGBA."""

    upper: Image.Image
    lower: Image.Image

    def values(self) -> Array:
        """Return the values 0 to 65535 as H x W x 3 floats, on white where it is transparent."""
        upper, lower = (np.asarray(part, np.float32) for part in self)
        values = 256 * upper + lower
        opacity = values[..., 3:] / 65535
        colours: Array = values[..., :3]
        return colours * opacity + 65535 * (1 - opacity) if opacity.size else colours


def is_deep_colour(image: Image.Image) -> bool:
    """Return whether the present frame of an image has colours of 16 bits; it is not yet loaded."""
    tiles = getattr(image, "tile", [])
    return bool(tiles) and all(_order(tile.args) for tile in tiles)


def select_lower_bits(image: ImageFile.ImageFile) -> None:
    """Let the present frame load the lower 8 bits of its values."""
    image.tile = [tile._replace(args=_swap(tile.args)) for tile in image.tile]


def _order(args: Any) -> str | None:
    """Return the byte order in the arguments of a decoder, if they are of deep colours."""
    mode = args if isinstance(args, str) else args[0] if args else ""
    found = re.fullmatch(r"RGBA?;16([BLN])", str(mode))
    return found[1] if found else None


def _swap(args: Any) -> Any:
    order = str(_order(args)).replace("N", _NATIVE)
    other = "B" if order == "L" else "L"
    mode = args if isinstance(args, str) else args[0]
    swapped = f"{mode.partition(';')[0]};16{other}"
    return swapped if isinstance(args, str) else (swapped, *args[1:])
