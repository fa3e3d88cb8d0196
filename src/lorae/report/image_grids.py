"""Images as PNG."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Picture:
    """A PNG, and the size at which a page shows it, in CSS pixels."""

    png: bytes
    width: int
    height: int

    @property
    def address(self) -> str:
        """The PNG as a `data:` address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


def grid(
    images: Float[Tensor, "n c h w"],
    columns: int,
    *,
    side: int,
    width: int = 340,
    framed: bool = False,
) -> Picture:
    """Return images as one PNG, row after row, with transparent gaps.

    One channel is gray, three are red, green and blue; of two the first is shown, of more than
    three the first three.

    Args:
        images: values in [0, 1]; what lies beyond is clipped.
        columns: images in a row.
        side: greatest side of an image in pixels; larger ones are averaged down to it.
        width: CSS pixels that the grid should about fill, in whole multiples of its own pixels.
        framed: whether the first and the last column stand somewhat apart.
    """
    colour = 3 if images.shape[1] >= 3 else 1
    shown = _within(images[:, :colour].detach().float(), side).clamp(0, 1)
    pixels = (shown * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    n, height, across, _ = pixels.shape
    gap = max(1, across // 16)
    apart = 2 * gap if framed else 0
    lefts = [k * (across + gap) + apart * ((k > 0) + (k == columns - 1)) for k in range(columns)]
    tops = [k * (height + gap) for k in range(-(-n // columns))]
    canvas = np.zeros((tops[-1] + height, lefts[-1] + across, colour + 1), np.uint8)
    for k, image in enumerate(pixels):
        top, left = tops[k // columns], lefts[k % columns]
        place = canvas[top : top + height, left : left + across]
        place[..., :colour], place[..., colour] = image, 255
    times = max(1, round(width / canvas.shape[1]))
    return Picture(png(canvas), canvas.shape[1] * times, canvas.shape[0] * times)


def _within(images: Tensor, side: int) -> Tensor:
    height, width = images.shape[2:]
    factor = side / max(height, width)
    if factor >= 1:
        return images
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return functional.interpolate(images, size, mode="area")


def png(pixels: "np.ndarray[Any, Any]") -> bytes:
    """Return a PNG of bytes, h x w or h x w x c with gray, gray and alpha, colour, or both."""
    content = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).save(
        content, "PNG", optimize=True
    )
    return content.getvalue()
