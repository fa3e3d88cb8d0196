"""Grids of images as PNG."""

import io
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional


def image_grid(
    images: Float[Tensor, "n c h w"], columns: int, *, side: int, framed: bool = False
) -> bytes:
    """Return images as one PNG, row by row, with transparent gaps.

    One or two channels give the first as gray, three or more the first three as red, green and
    blue.

    Args:
        images: values in [0, 1]; others are clipped.
        columns: images in a row.
        side: largest side of an image in pixels; larger images are averaged down to it.
        framed: whether larger gaps set the first and the last column apart.
    """
    channels = 3 if images.shape[1] >= 3 else 1
    shown = _shrink(images[:, :channels].detach().float(), side).clamp(0, 1)
    pixels = (shown * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    height, width = pixels.shape[1:3]
    gap = max(1, width // 16)
    apart = 2 * gap if framed else 0
    lefts = [k * (width + gap) + apart * ((k > 0) + (k == columns - 1)) for k in range(columns)]
    tops = [k * (height + gap) for k in range(-(-len(pixels) // columns))]
    canvas = Image.new("RGBA" if channels == 3 else "LA", (lefts[-1] + width, tops[-1] + height))
    for k, image in enumerate(pixels):
        canvas.paste(_to_pil(image), (lefts[k % columns], tops[k // columns]))
    return _to_png(canvas)


def encode_png(pixels: "np.ndarray[Any, Any]") -> bytes:
    """Return bytes of shape h x w or h x w x c as PNG: gray, gray and alpha, RGB or RGBA."""
    return _to_png(_to_pil(pixels))


def _shrink(images: Tensor, side: int) -> Tensor:
    height, width = images.shape[2:]
    factor = side / max(height, width)
    if factor >= 1:
        return images
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return functional.interpolate(images, size, mode="area")


def _to_pil(pixels: "np.ndarray[Any, Any]") -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)


def _to_png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return content.getvalue()
