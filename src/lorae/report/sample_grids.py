"""Grids of samples as PNG: images as they are, signals as curves, fields and volumes in colours."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from lorae.data.datasets import Data
from lorae.report.image_grids import image_grid
from lorae.utils.plots import COLOURS, colour_map

_CHANNELS = 4  # of a field or a volume, that are shown one below the other
_FINE = 3  # curves are drawn so many times as large, and averaged


def sample_grid(
    samples: Float[Tensor, "n *shape"],
    data: Data,
    columns: int,
    *,
    side: int,
    framed: bool = False,
) -> bytes:
    """Return samples as one PNG, row by row.

    Args:
        samples: in the units of the data.
        data: the set that they belong to; its training samples determine ranges and colours.
        columns: samples in a row.
        side: largest side of an image in pixels.
        framed: whether larger gaps set the first and the last column apart.
    """
    pictures = draw_samples(samples, data, side)
    if not data.is_image:
        side = max(side, *pictures.shape[2:])
    return image_grid(pictures, columns, side=side, framed=framed)


def draw_samples(samples: Float[Tensor, "n *shape"], data: Data, side: int) -> Tensor:
    """Return pictures of samples, n x channels x h x w from 0 to 1; curves have a width of `side`.

    Args:
        samples: in the units of the data; not those of a table.
        data: the set that they belong to.
        side: width of the picture of a signal.
    """
    x = samples.detach().cpu().float()
    if data.is_image:
        return data.unit(x)
    if x.ndim == 3:
        return draw_curves(x, data.channel_ranges, side)
    planes = x if x.ndim == 4 else x[:, :, x.shape[2] // 2]  # the middle slice of a volume
    return colour_planes(planes[:, :_CHANNELS], data.channel_ranges)


def draw_curves(
    signals: Float[Tensor, "n c l"], ranges: Sequence[tuple[float, float]], side: int
) -> Float[Tensor, "n 3 h w"]:
    """Return pictures of signals, a curve for each channel over its own range, from 0 to 1."""
    width, height = _FINE * side, _FINE * side * 2 // 3
    across = np.linspace(0, width - 1, signals.shape[2])
    pictures = []
    for signal in signals.numpy():
        canvas = Image.new("RGB", (width, height), "white")
        draw = ImageDraw.Draw(canvas)
        for k, (values, (low, high)) in enumerate(zip(signal, ranges, strict=True)):
            share = np.clip((values - low) / (high - low), -0.5, 1.5)
            down = (height - 1) * (0.95 - 0.9 * share)
            points = list(zip(across.tolist(), down.tolist(), strict=True))
            draw.line(points, COLOURS[k % len(COLOURS)], _FINE + 1, joint="curve")
        pictures.append(np.asarray(canvas.resize((side, side * 2 // 3), Image.Resampling.BOX)))
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255


def colour_planes(
    planes: Float[Tensor, "n c h w"], ranges: Sequence[tuple[float, float]]
) -> Float[Tensor, "n 3 ch w"]:
    """Return pictures of fields from 0 to 1, the channels one below the other.

    A channel whose range crosses 0 has diverging colours, white at 0.
    """
    coloured = []
    for plane, (least, largest) in zip(planes.unbind(1), ranges, strict=False):
        crosses = least < 0 < largest
        high = max(-least, largest) if crosses else largest
        low = -high if crosses else least
        colours = torch.tensor(colour_map(diverging=crosses), dtype=torch.float32)
        share = ((plane - low) / (high - low)).clamp(0, 1).nan_to_num(0)
        coloured.append(colours[(share * (len(colours) - 1)).round().long()])
    return torch.cat(coloured, 1).permute(0, 3, 1, 2)
