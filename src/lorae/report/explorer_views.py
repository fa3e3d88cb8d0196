"""How the explorer shows samples: images, signals, fields and the columns of tables."""

import base64
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from lorae.nn.autoencoder import Autoencoder
from lorae.report.browser_decoder import encode_floats
from lorae.report.image_grids import encode_png
from lorae.report.runs import printable
from lorae.utils.samples import as_float, subsample

MAX_COLUMNS = 100
"""Vectors of more values than this are shown as curves, if their columns have no names."""

_BYTES = 1_000_000  # of the samples of a page, about
_JPEG = 92  # quality of stored colour images, at about a fifth of their bytes
_RANGED = 1000  # samples from which the ranges of axes and colours are taken


@dataclass(frozen=True)
class View:
    """A way to show samples of one shape.

    Args:
        kind: "image", "signal", "field" or "table".
        shape: of a sample.
        value_range: of an image, the values of black and white, in the units of the data.
        shift: subtracted from samples to scale them.
        scale: divides them.
        low: the least value of each channel or column, in the units of the data.
        high: the largest values.
        mean: the mean values.
        columns: names of the columns of a table.
    """

    kind: str
    shape: tuple[int, ...]
    value_range: tuple[float, float] | None
    shift: Tensor
    scale: Tensor
    low: list[float]
    high: list[float]
    mean: list[float]
    columns: list[str]

    @property
    def channels(self) -> int:
        """The number of colours, curves or planes that are shown."""
        if self.kind == "image":
            return 3 if self.shape[0] >= 3 else 1
        return 1 if len(self.shape) == 1 else self.shape[0]

    @property
    def bytes(self) -> float:
        """The bytes that a sample takes on the page, about."""
        if self.kind != "image":
            return 2.0 * math.prod(self.shape) / self._depth
        return math.prod(self.shape[1:]) * (0.6 if self.channels == 3 else 1.0)

    @property
    def _depth(self) -> int:
        """The slices of a volume, of which the middle one is shown; 1 for other samples."""
        return self.shape[1] if len(self.shape) == 4 else 1

    def count(self, most: int) -> int:
        """Return how many samples a page shows, at most `most`."""
        return max(50, min(most, int(_BYTES / self.bytes)))

    @property
    def _fits_half(self) -> bool:
        """Whether float16 holds the values closely enough for a picture."""
        spans = [high - low for low, high in zip(self.low, self.high, strict=True)]
        largest = max(abs(value) for value in (*self.low, *self.high))
        return largest < 60_000 and min(spans) > max(1e-3, largest / 20)

    def describe(self) -> dict[str, Any]:
        """Return what the script reads of this view."""
        depth = self._depth
        height, width = self.shape[-2:] if len(self.shape) > 2 else (1, self.shape[-1])
        return {
            "kind": self.kind,
            "channels": self.channels,
            "height": height,
            "width": width,
            "plane": depth * height * width,
            "slice": depth // 2 * height * width,
            "low": self.low,
            "high": self.high,
            "mean": self.mean,
            "columns": self.columns,
        }

    def output_map(self) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
        """Return factor and offset from the decoder's output to what is shown.

        Images are shown from 0 to 1, other samples in the units of the data.
        """
        scale, shift = self.scale, self.shift
        if scale.numel() != shift.numel() or scale.numel() not in (1, self.shape[0]):
            scale, shift = scale.expand(self.shape), shift.expand(self.shape)
        if self.kind == "image":
            assert self.value_range is not None
            low, high = self.value_range
            scale, shift = scale / (high - low), (shift - low) / (high - low)
        return scale.flatten(), shift.flatten()

    def pack(self, samples: Float[Tensor, "n *shape"]) -> dict[str, Any]:
        """Return samples for the page: one picture of all images, or floats in base64."""
        if self.kind != "image":
            half = self.kind != "table" and self._fits_half
            shown = samples if self._depth == 1 else samples[:, :, self._depth // 2]
            values = shown.to(torch.float16 if half else torch.float32).flatten(1)
            return {"floats": encode_floats(values), "half": half}
        assert self.value_range is not None
        low, high = self.value_range
        unit = (samples - low) / (high - low)
        pixels = (unit[:, : self.channels].clamp(0, 1) * 255).round().to(torch.uint8)
        columns = math.isqrt(max(0, len(pixels) - 1)) + 1
        return {"sheet": _sheet(pixels.permute(0, 2, 3, 1).numpy(), columns), "columns": columns}


def view_of(
    model: Autoencoder,
    samples: Tensor,
    columns: Sequence[str] | None = None,
    value_range: tuple[float, float] | None = None,
) -> View:
    """Return the view that suits the samples of a model.

    Args:
        model: whose value range tells images from fields.
        samples: in the units of the data.
        columns: names of the values of a vector.
        value_range: of images, in the units of the data, if the model does not know it.
    """
    shape = tuple(samples.shape[1:])
    value_range = value_range or _value_range(model, samples)
    kind = "field"
    if len(shape) < 3:
        named = columns is not None and not _are_numbers(columns)
        few = len(shape) == 1 and (named or shape[0] <= MAX_COLUMNS)
        kind = "table" if few else "signal"
    elif len(shape) == 3 and value_range is not None:
        kind = "image"
    some = as_float(subsample(samples, _RANGED)).double()
    axes = [0] if kind == "table" else [0, *range(2 if len(shape) > 1 else 1, some.ndim)]
    names = columns if columns is not None else range(1, shape[0] + 1)
    return View(
        kind=kind,
        shape=shape,
        value_range=value_range,
        shift=model.shift.detach().cpu(),
        scale=model.scale.detach().cpu(),
        low=_finite(some.nan_to_num(math.inf).amin(axes)),
        high=_finite(some.nan_to_num(-math.inf).amax(axes)),
        mean=_finite(some.nanmean(axes)),
        columns=[printable(str(name)) for name in names] if kind == "table" else [],
    )


def _value_range(model: Autoencoder, samples: Tensor) -> tuple[float, float] | None:
    """Return the range of images; of the user's modules, that of the samples."""
    architecture = model.architecture
    if architecture is None or architecture.network == "own":
        return image_range(samples)
    if architecture.value_range is None:
        return None
    ends = model.scale.new_tensor(architecture.value_range)
    low, high = (ends * model.scale.flatten()[0] + model.shift.flatten()[0]).tolist()
    return low, high


def _finite(values: Tensor) -> list[float]:
    """Return numbers, and 0 for those of columns without a value."""
    return values.nan_to_num(0, 0, 0).flatten().tolist()


def image_range(samples: Tensor) -> tuple[float, float] | None:
    """Return the values of black and white if samples look like images, and not like fields.

    Images have one, three or four channels of values from 0 to 1, or of whole numbers from 0 on.

    Example:
        >>> image_range(torch.tensor([0.0, 16.0]).view(1, 1, 1, 2))
        (0.0, 16.0)
    """
    if samples.ndim != 4 or samples.shape[1] not in (1, 3, 4):
        return None
    some = as_float(samples[:_RANGED])
    low, high = float(some.min()), float(some.max())
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return (0.0, high) if low >= 0 and bool((some == some.round()).all()) else None


def _are_numbers(names: Sequence[str]) -> bool:
    """Return whether columns are only numbered, with or without a word before the number."""
    return all(re.fullmatch(r"[A-Za-z _]*\d+", str(name)) for name in names)


def _sheet(pixels: "np.ndarray[Any, Any]", columns: int) -> str:
    """Return images, row by row, as one picture at a `data:` address."""
    n, height, width, channels = pixels.shape
    rows = -(-n // columns)
    whole = np.zeros((rows * columns, height, width, channels), np.uint8)
    whole[:n] = pixels
    grid = whole.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    grid = grid.reshape(rows * height, columns * width, channels)
    if channels == 1 or grid.size < _BYTES // 4:
        kind, content = "png", encode_png(grid)
    else:
        file = io.BytesIO()
        Image.fromarray(grid).save(file, "JPEG", quality=_JPEG, subsampling=0)
        kind, content = "jpeg", file.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
