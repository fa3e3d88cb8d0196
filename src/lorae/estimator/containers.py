"""What a user's samples came in, and giving them back in the same.

Samples are vectors, n x D, in an array, a tensor or a data frame, or images, in an array or tensor
of shape n x h x w, n x h x w x c or n x c x h x w. Networks take them as a tensor n x D or
n x c x h x w.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_array, validate_data
from torch import Tensor

from lorae.data import tables as arrays
from lorae.errors import InputError

FRAMES = ("pandas", "polars")


@dataclass(frozen=True)
class Container:
    """What samples are in, apart from how many they are.

    Attributes:
        kind: array, tensor, pandas or polars.
        sample: the shape of one sample as the user has it.
        shape: the shape of one sample as networks take it, (D,) or (C, H, W).
        channels_last: whether images are h x w x c.
        dtype: of NumPy, of the values given; "uint8" images come back as bytes.
        columns: of a data frame.
    """

    kind: str
    sample: tuple[int, ...]
    shape: tuple[int, ...]
    channels_last: bool = False
    dtype: str = "float32"
    columns: tuple[str, ...] | None = None

    @property
    def values(self) -> int:
        """The number of values in a sample."""
        return math.prod(self.shape)

    @property
    def is_image(self) -> bool:
        """Whether samples are images to the networks."""
        return len(self.shape) == 3

    @property
    def is_stack(self) -> bool:
        """Whether samples are images to the user, too."""
        return len(self.sample) > 1

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Return the container that `dataclasses.asdict` turned into `fields`."""
        columns = fields["columns"]
        return cls(
            **fields
            | {"sample": tuple(fields["sample"]), "shape": tuple(fields["shape"])}
            | {"columns": None if columns is None else tuple(columns)}
        )

    def folded(self, image_shape: Any) -> Self:
        """Return the container of flat samples that are images of this shape to the networks.

        Raises:
            InputError: if the shape is no image's, or has another number of values.
        """
        sides = image_shape if isinstance(image_shape, list | tuple) else ()
        if len(sides) not in (2, 3) or not all(
            isinstance(s, int | np.integer) and s > 0 for s in sides
        ):
            raise InputError(
                f"image_shape must be (height, width) or that with channels, got {image_shape!r}"
            )
        if math.prod(sides) != self.values:
            raise InputError(
                f"image_shape must have as many values as a sample, {self.values}, got "
                f"{tuple(sides)}"
            )
        shape, channels_last = image_layout(np.empty((1, *sides), np.uint8), "image_shape")
        return replace(self, shape=shape, channels_last=channels_last)

    def take(self, samples: "np.ndarray[Any, Any]") -> Tensor:
        """Return samples, as an array of the user's layout, as a tensor of the networks'."""
        n = len(samples)
        if self.is_image:
            channels, height, width = self.shape
            if self.channels_last:
                samples = samples.reshape(n, height, width, channels).transpose(0, 3, 1, 2)
            samples = samples.reshape(n, *self.shape)
        tensor = torch.from_numpy(np.array(samples, order="C"))  # a copy: torch must own it
        known = (torch.uint8, torch.float32, torch.float64)
        return tensor if tensor.dtype in known else tensor.float()

    def give(self, samples: Tensor) -> Any:
        """Return samples of the networks' layout as the user has them."""
        if self.channels_last:
            samples = samples.permute(0, 2, 3, 1)
        flat = samples.detach().cpu().reshape(len(samples), *self.sample)
        if self.dtype == "uint8" and self.is_stack:
            flat = (flat * 255).round().clamp(0, 255).to(torch.uint8)
        if self.kind == "tensor":
            return flat
        if self.kind == "pandas":
            import pandas as pd

            return pd.DataFrame(flat.numpy(), columns=list(self.columns or ()))
        if self.kind == "polars":
            import polars as pl

            return pl.DataFrame(flat.numpy(), schema=list(self.columns or ()))
        return flat.numpy()


def kind_of(samples: object) -> str:
    """Return what samples are in: tensor, pandas, polars, or array for all else.

    Example:
        >>> kind_of(torch.zeros(2, 3)), kind_of([[1.0]])
        ('tensor', 'array')
    """
    if isinstance(samples, Tensor):
        return "tensor"
    package = type(samples).__module__.partition(".")[0]
    return package if package in FRAMES and hasattr(samples, "columns") else "array"


def as_array(samples: Any) -> Any:
    """Return a tensor as an array, and all else as it is."""
    return samples.detach().cpu().numpy() if isinstance(samples, Tensor) else samples


def image_layout(images: "np.ndarray[Any, Any]", name: str) -> tuple[tuple[int, ...], bool]:
    """Return the shape C x H x W of a stack's images, and whether their channels come last.

    Raises:
        InputError: if they are not images of 8 x 8 pixels or more.

    Example:
        >>> image_layout(np.zeros((5, 28, 28)), "X"), image_layout(np.zeros((5, 32, 32, 3)), "X")
        (((1, 28, 28), False), ((3, 32, 32), True))
    """
    shape = arrays.samples(images[:1], name).shape[1:]
    return tuple(shape), images.ndim == 4 and tuple(images.shape[1:]) != tuple(shape)


def taken(
    estimator: Any, samples: Any, image_shape: Any, *, reset: bool
) -> tuple[Tensor, Container]:
    """Return samples as the networks take them, and what they came in.

    scikit-learn checks them, and sets on the estimator what it sets on its own.

    Args:
        estimator: of scikit-learn's kind, fitted to `container_` unless `reset`.
        samples: a user's.
        image_shape: that flat samples have as images.
        reset: whether they are the first ones, which all others have to be like.

    Raises:
        InputError: if they are unfit, or unlike the first ones.
    """
    raw, kind = as_array(samples), kind_of(samples)
    if getattr(raw, "ndim", 0) in (3, 4):
        array = check_array(raw, allow_nd=True, dtype=None)
        shape, channels_last = image_layout(array, "X")
        found = Container(kind, array.shape[1:], shape, channels_last, str(array.dtype))
    else:
        array = validate_data(estimator, raw, reset=reset, dtype=[np.float64, np.float32])
        columns = tuple(map(str, samples.columns)) if kind in FRAMES else None
        flat = array.shape[1:]
        found = Container(kind, flat, flat, dtype=str(array.dtype), columns=columns)
        found = found if image_shape is None else found.folded(image_shape)
    if reset and found.is_stack:
        estimator.n_features_in_ = found.values
        vars(estimator).pop("feature_names_in_", None)
    if not reset and found.sample != estimator.container_.sample:
        raise InputError(
            f"X has samples of shape {found.sample}, but {type(estimator).__name__} was fitted to "
            f"samples of shape {estimator.container_.sample}"
        )
    return (found if reset else estimator.container_).take(array), found


def as_training(samples: Tensor) -> Tensor:
    """Return samples as they are trained on: bytes, or float32.

    Raises:
        InputError: if a number is too large for that.
    """
    if samples.dtype == torch.uint8:
        return samples
    narrow = samples.float()
    if not bool(narrow.isfinite().all()):
        raise InputError("X must hold numbers within float32, and some are larger")
    return narrow
