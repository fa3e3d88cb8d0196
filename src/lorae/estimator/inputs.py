"""Inputs of the estimator: a user's samples as the tensor that networks take, and back.

Samples are vectors n x D, in an array, a tensor or a data frame, or images n x h x w,
n x h x w x c or n x c x h x w, in an array or a tensor. Networks take n x D or n x c x h x w.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_array
from torch import Tensor

from lorae.data.arrays import as_samples
from lorae.errors import InputError
from lorae.utils.samples import as_float

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class InputFormat:
    """Container, layout and dtype of a user's samples.

    Attributes:
        container: array, tensor, pandas or polars.
        sample_shape: the shape of one sample in the user's layout.
        shape: the shape of one sample in the layout of the networks, (D,) or (C, H, W).
        channels_last: whether the user's images are h x w x c.
        dtype: the NumPy name of the user's dtype; images of "uint8" are returned as bytes.
        columns: names of the columns of a data frame.
    """

    container: str
    sample_shape: tuple[int, ...]
    shape: tuple[int, ...]
    channels_last: bool = False
    dtype: str = "float32"
    columns: tuple[str, ...] | None = None

    @property
    def n_values(self) -> int:
        """The number of values of a sample."""
        return math.prod(self.shape)

    @property
    def is_image(self) -> bool:
        """Whether samples are images to the networks."""
        return len(self.shape) == 3

    @property
    def is_stack(self) -> bool:
        """Whether samples are images to the user, too, and not flat vectors."""
        return len(self.sample_shape) > 1

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Return the format that `dataclasses.asdict` and JSON turned into `fields`."""
        columns = fields["columns"]
        return cls(
            **fields
            | {"sample_shape": tuple(fields["sample_shape"]), "shape": tuple(fields["shape"])}
            | {"columns": None if columns is None else tuple(columns)}
        )

    def with_image_shape(self, image_shape: Any) -> Self:
        """Return the format of flat samples that networks see as images of this shape.

        Raises:
            InputError: if that is not the shape of an image, or of another number of values.
        """
        sides = image_shape if isinstance(image_shape, list | tuple) else ()
        if len(sides) not in (2, 3) or not all(
            isinstance(s, int | np.integer) and s > 0 for s in sides
        ):
            raise InputError(
                "image_shape must be (height, width), with or without a number of channels, got "
                f"{image_shape!r}"
            )
        if math.prod(sides) != self.n_values:
            raise InputError(
                f"image_shape must have as many values as a sample, {self.n_values}, got "
                f"{tuple(sides)}"
            )
        shape, channels_last = image_layout(np.empty((1, *sides), np.uint8), "image_shape")
        return replace(self, shape=shape, channels_last=channels_last)

    def to_tensor(self, samples: Array) -> Tensor:
        """Return samples in the layout of the networks, as a copy.

        Bytes, float32 and float64 keep their dtype, all others become float32.
        """
        n = len(samples)
        if self.is_image:
            channels, height, width = self.shape
            if self.channels_last:
                samples = samples.reshape(n, height, width, channels).transpose(0, 3, 1, 2)
            samples = samples.reshape(n, *self.shape)
        tensor = torch.from_numpy(np.array(samples, order="C"))
        known = (torch.uint8, torch.float32, torch.float64)
        return tensor if tensor.dtype in known else tensor.float()

    def from_tensor(self, samples: Tensor, *, frames: bool = True) -> Any:
        """Return samples in the layout of the networks in the user's layout and container.

        Args:
            samples: n x D or n x C x H x W.
            frames: whether data frames are returned; otherwise arrays take their place.
        """
        if self.channels_last:
            samples = samples.permute(0, 2, 3, 1)
        samples = samples.detach().cpu().reshape(len(samples), *self.sample_shape)
        if self.dtype == "uint8" and self.is_stack:
            samples = (samples * 255).round().clamp(0, 255).to(torch.uint8)
        if self.container == "tensor":
            return samples
        if frames and self.container == "pandas":
            import pandas as pd

            return pd.DataFrame(samples.numpy(), columns=list(self.columns or ()))
        if frames and self.container == "polars":
            import polars as pl

            return pl.DataFrame(samples.numpy(), schema=list(self.columns or ()))
        return samples.numpy()


def read_samples(X: Any, image_shape: Any = None) -> tuple[Array, InputFormat]:
    """Return a user's samples as an array, and their format.

    Args:
        X: samples.
        image_shape: the shape of the images that flat samples are.

    Raises:
        InputError: if `X` holds images of fewer than 8 x 8 pixels, or `image_shape` does not fit.
        ValueError: from scikit-learn, if `X` holds no finite numbers.
    """
    values, container = to_array(X), detect_container(X)
    if getattr(values, "ndim", 0) in (3, 4):
        array = check_array(values, allow_nd=True, dtype=None)
        shape, channels_last = image_layout(array, "X")
        dtype = str(array.dtype)
        return array, InputFormat(container, array.shape[1:], shape, channels_last, dtype)
    array = check_array(values, dtype=[np.float64, np.float32], input_name="X")
    columns = tuple(map(str, X.columns)) if container in ("pandas", "polars") else None
    flat = array.shape[1:]
    found = InputFormat(container, flat, flat, dtype=str(array.dtype), columns=columns)
    return array, found if image_shape is None else found.with_image_shape(image_shape)


def detect_container(samples: object) -> str:
    """Return the container of samples: tensor, pandas, polars, or array for everything else.

    Example:
        >>> detect_container(torch.zeros(2, 3)), detect_container([[1.0]])
        ('tensor', 'array')
    """
    if isinstance(samples, Tensor):
        return "tensor"
    package = type(samples).__module__.partition(".")[0]
    is_frame = package in ("pandas", "polars") and hasattr(samples, "columns")
    return package if is_frame else "array"


def to_array(samples: Any) -> Any:
    """Return a tensor as an array, and everything else unchanged."""
    return samples.detach().cpu().numpy() if isinstance(samples, Tensor) else samples


def image_layout(images: Array, name: str) -> tuple[tuple[int, ...], bool]:
    """Return the shape C x H x W of images, and whether their channels come last.

    Args:
        images: n x h x w, n x h x w x c or n x c x h x w.
        name: name of the argument, for the message.

    Raises:
        InputError: if they are not images of 8 x 8 pixels or more.

    Example:
        >>> image_layout(np.zeros((5, 28, 28)), "X"), image_layout(np.zeros((5, 32, 32, 3)), "X")
        (((1, 28, 28), False), ((3, 32, 32), True))
    """
    shape = as_samples(images[:1], name).shape[1:]
    return tuple(shape), images.ndim == 4 and tuple(images.shape[1:]) != tuple(shape)


def to_float(samples: Tensor) -> Tensor:
    """Return bytes divided by 255, and other samples unchanged.

    Raises:
        InputError: if a number is beyond the range of float32.
    """
    if samples.dtype == torch.uint8:
        return as_float(samples)
    if not bool(samples.float().isfinite().all()):
        raise InputError("X must hold numbers within the range of float32, got a larger one")
    return samples
