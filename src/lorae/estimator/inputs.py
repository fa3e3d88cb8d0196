"""Inputs of the estimator: a user's samples as the tensor that networks take, and back.

Samples are vectors n x D, in an array, a tensor or a data frame, or signals, images or volumes, in
an array, a tensor or an `xarray.DataArray`, with channels in any place
(:mod:`lorae.data.arrays`). Networks take n x D or n x c x grid.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_array
from torch import Tensor

from lorae.data.arrays import as_samples, channels_first, guess_layout
from lorae.data.columns import Schema
from lorae.data.labelled import Labels, attach_codes, layout_of, sample_coords
from lorae.data.options import LAYOUTS
from lorae.errors import InputError
from lorae.estimator.frames import (
    decode_frame,
    describe_frame,
    encode_frame,
    fill_frame,
    is_frame,
    with_index,
)
from lorae.utils.samples import as_float
from lorae.utils.text import shorten_list
from lorae.utils.validation import check_choice

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class InputFormat:
    """Container, layout and dtype of a user's samples.

    Attributes:
        container: array, tensor, pandas, polars or xarray.
        sample_shape: the shape of one sample in the user's layout.
        shape: the shape of one sample in the layout of the networks, such as (D,) or (C, H, W).
        layout: the axes of samples that are grids, such as NHWC; None for vectors.
        dtype: the NumPy name of the user's dtype; images of "uint8" are returned as bytes.
        columns: names of the columns of a data frame.
        integers: indices of the columns whose names were integers.
        labels: dimensions and coordinates of an `xarray.DataArray`.
        schema: the columns of a data frame with categories; None without.
    """

    container: str
    sample_shape: tuple[int, ...]
    shape: tuple[int, ...]
    layout: str | None = None
    dtype: str = "float32"
    columns: tuple[str, ...] | None = None
    labels: Labels | None = None
    schema: Schema | None = None
    integers: tuple[int, ...] = ()

    @property
    def categories(self) -> tuple[int, ...]:
        """The number of categories of each column that has any."""
        return () if self.schema is None else self.schema.sizes

    @property
    def scored_values(self) -> int | None:
        """The number of values that are numbers, if there are some besides categories."""
        return self.n_values - sum(self.categories) or None if self.categories else None

    @property
    def n_values(self) -> int:
        """The number of values of a sample."""
        return math.prod(self.shape)

    @property
    def is_grid(self) -> bool:
        """Whether samples are signals, images or volumes to the networks."""
        return self.layout is not None

    @property
    def is_stack(self) -> bool:
        """Whether samples are grids to the user, too, and not flat vectors."""
        return len(self.sample_shape) > 1 or self.container == "xarray"

    @property
    def own_layout(self) -> str | None:
        """The layout of the user's samples; None if they are flat, or vectors."""
        flat = self.layout is not None and len(self.layout) != len(self.sample_shape) + 1
        return None if flat else self.layout

    def check_like(self, X: Any) -> None:
        """Check that later samples have the shape and the named dimensions of the first, if any.

        Raises:
            InputError: if grids have another shape or other coordinates, or dimensions are others
                or in another order.
        """
        if self.labels is not None and detect_container(X) == "xarray":
            self.labels.check_like(X)
        shape = tuple(getattr(X, "shape", ()))[1:]
        if shape != self.sample_shape and (self.is_stack or len(shape) > 1):
            raise InputError(
                f"X must have samples of the fitted shape {self.sample_shape}, got {shape}"
            )

    def return_codes(self, codes: Tensor, X: Any) -> Any:
        """Return codes in the container of their samples: a tensor, a `DataArray` or an array."""
        if isinstance(X, Tensor):
            return codes
        labelled = self.labels is not None and detect_container(X) == "xarray"
        return attach_codes(codes.numpy(), X) if labelled else codes.numpy()

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Return the format that `dataclasses.asdict` and JSON turned into `fields`."""
        columns, schema = fields["columns"], fields["schema"]
        return cls(
            **fields
            | {"sample_shape": tuple(fields["sample_shape"]), "shape": tuple(fields["shape"])}
            | {"columns": None if columns is None else tuple(columns)}
            | {"integers": tuple(fields.get("integers", ()))}
            | {"schema": None if schema is None else Schema.from_dict(schema)}
            | {"labels": None if fields["labels"] is None else Labels(**fields["labels"])}
        )

    def with_image_shape(self, image_shape: Any, layout: str | None = None) -> Self:
        """Return the format of flat samples that networks see as grids of this shape.

        Raises:
            InputError: if that is not the shape of a grid, or of another number of values.
        """
        sides = image_shape if isinstance(image_shape, list | tuple) else ()
        whole = all(isinstance(s, int | np.integer) and s > 0 for s in sides)
        if not whole or len(sides) not in range(1 if layout else 2, 5):
            raise InputError(
                "image_shape must be (height, width), with or without a number of channels, or the "
                f"shape of a signal or a volume, got {image_shape!r}"
            )
        if math.prod(sides) != self.n_values:
            raise InputError(
                f"image_shape must have as many values as a sample, {self.n_values}, got "
                f"{tuple(sides)}"
            )
        layout = layout or ("NHW" if len(sides) == 2 else None)
        shape, layout = grid_layout(np.empty((1, *sides), np.uint8), "image_shape", layout)
        return replace(self, shape=shape, layout=layout)

    def to_tensor(self, samples: Array) -> Tensor:
        """Return samples in the layout of the networks, as a copy.

        Bytes, float32 and float64 keep their dtype, all others become float32.
        """
        if self.layout is not None:
            samples = samples.reshape(len(samples), *self._grid())
            samples = channels_first(samples, self.layout)
        tensor = torch.from_numpy(np.array(samples, order="C"))
        known = (torch.uint8, torch.float32, torch.float64)
        return tensor if tensor.dtype in known else tensor.float()

    def _grid(self) -> tuple[int, ...]:
        """Return the shape of a grid in the user's layout."""
        assert self.layout is not None
        channels, *sides = self.shape
        if "C" in self.layout:
            sides.insert(self.layout.index("C") - 1, channels)
        return tuple(sides)

    @property
    def _column_labels(self) -> list[str | int]:
        names = self.columns or ()
        return [int(name) if k in self.integers else name for k, name in enumerate(names)]

    def from_tensor(self, samples: Tensor, *, frames: bool = True) -> Any:
        """Return samples in the layout of the networks in the user's layout and container.

        Args:
            samples: n x D or n x C x grid.
            frames: whether data frames are returned; otherwise arrays take their place.
        """
        if self.schema is not None:
            values = samples.detach().cpu().double().numpy()
            parts = self.schema, self.container, self._column_labels
            return decode_frame(values, *parts) if frames else values
        if self.layout is not None and "C" in self.layout:
            samples = samples.movedim(1, self.layout.index("C"))
        samples = samples.detach().cpu().reshape(len(samples), *self.sample_shape)
        if self.dtype == "uint8" and self.is_stack:
            samples = (samples * 255).round().clamp(0, 255).to(torch.uint8)
        if self.container == "tensor":
            return samples
        if frames and self.container == "pandas":
            import pandas as pd

            return pd.DataFrame(samples.numpy(), columns=self._column_labels)
        if frames and self.container == "polars":
            import polars as pl

            return pl.DataFrame(samples.numpy(), schema=list(self.columns or ()))
        if frames and self.labels is not None:
            return self.labels.attach(samples.numpy())
        return samples.numpy()


def _integer_names(X: Any) -> tuple[int, ...]:
    return tuple(k for k, name in enumerate(X.columns) if type(name) is int)


def read_samples(
    X: Any,
    image_shape: Any = None,
    layout: str | None = None,
    schema: Schema | None = None,
) -> tuple[Array, InputFormat]:
    """Return a user's samples as an array, and their format.

    Args:
        X: samples.
        image_shape: the shape of the grids that flat samples are.
        layout: the axes of grids, if their shape leaves a doubt.
        schema: the columns of the data frame that was fitted, if it has categories.

    Raises:
        InputError: if a side is under 4, a column of a data frame cannot be used, or `image_shape`
            or `layout` does not fit.
        ValueError: from scikit-learn, if `X` holds no finite numbers.
    """
    check_choice("layout", layout or "NCHW", LAYOUTS)
    values, container = to_array(X), detect_container(X)
    columns = _column_names(X) if is_frame(X) else None
    if schema is None and is_frame(X):
        schema = describe_frame(X)
    if schema is not None:
        array = encode_frame(X, schema)
        names = tuple(column.name for column in schema.columns)
        return array, InputFormat(
            *(container, (len(names),), array.shape[1:]),
            columns=names,
            schema=schema,
            integers=_integer_names(X),
        )
    labels = None
    if container == "xarray":
        labels, layout = Labels.of(X), layout or layout_of(X.dims)
    if getattr(values, "ndim", 0) > 2 or (layout and image_shape is None):
        array = check_array(values, allow_nd=True, dtype=None, ensure_all_finite="allow-nan")
        shape, layout = grid_layout(array, "X", layout)
        dtype = str(array.dtype)
        return array, InputFormat(container, array.shape[1:], shape, layout, dtype, None, labels)
    array = check_array(
        values, dtype=[np.float64, np.float32], input_name="X", ensure_all_finite="allow-nan"
    )
    flat = array.shape[1:]
    found = InputFormat(
        *(container, flat, flat),
        dtype=str(array.dtype),
        columns=columns,
        integers=_integer_names(X) if columns else (),
    )
    return array, found if image_shape is None else found.with_image_shape(image_shape, layout)


def detect_container(samples: object) -> str:
    """Return the container of samples: tensor, pandas, polars, xarray, or array for all others.

    Example:
        >>> detect_container(torch.zeros(2, 3)), detect_container([[1.0]])
        ('tensor', 'array')
    """
    if isinstance(samples, Tensor):
        return "tensor"
    package = type(samples).__module__.partition(".")[0]
    labelled = {"pandas": "columns", "polars": "columns", "xarray": "dims"}.get(package)
    return package if labelled and hasattr(samples, labelled) else "array"


def fill_container(X: Any, values: Any) -> Any:
    """Return a copy of a user's samples whose gaps have other values.

    Args:
        X: samples; values that are not missing stay as they are.
        values: an array, tensor or data frame of the same shape.
    """
    if is_frame(X):
        return fill_frame(X, to_array(values))
    if isinstance(X, Tensor):
        return torch.where(X.isnan(), torch.as_tensor(values).to(X), X)
    array = np.array(to_array(X))
    filled = np.where(np.isnan(array), np.asarray(to_array(values), array.dtype), array)
    return X.copy(data=filled) if detect_container(X) == "xarray" else filled


def to_array(samples: Any) -> Any:
    """Return a tensor, a `DataArray` or a list of grids as an array, and others unchanged.

    Numbers are of a type that PyTorch has: in native byte order, and of 64 bits at most.

    Raises:
        InputError: if grids in a list differ in shape.
    """
    if isinstance(samples, Tensor):
        samples = samples.detach().cpu()
        return (samples.float() if samples.dtype == torch.bfloat16 else samples).numpy()
    if detect_container(samples) == "xarray":
        samples = samples.values
    elif isinstance(samples, list | tuple) and any(np.ndim(one) > 1 for one in samples[:1]):
        shapes = {np.shape(one) for one in samples}
        if len(shapes) > 1:
            raise InputError(
                f"X must be samples of one shape, got {shorten_list(sorted(map(str, shapes)))}"
            )
        samples = np.stack([np.asarray(one) for one in samples])
    if not isinstance(samples, np.ndarray) or samples.dtype.kind not in "iuf":
        return samples
    if samples.dtype.itemsize > 8:
        return samples.astype(np.float64)
    return samples.astype(samples.dtype.newbyteorder("="), copy=False)


def _column_names(frame: Any) -> tuple[str, ...]:
    """Return the names of the columns of a data frame, which have to differ."""
    names = tuple(map(str, frame.columns))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"X must have columns of different names, got {twice[0]!r} twice")
    return names


def label_samples(samples: Any, codes: Any) -> Any:
    """Return decoded samples with the coordinates or the index of their codes, if they have any."""
    if is_frame(samples):
        return with_index(samples, codes)
    if detect_container(samples) != "xarray" or detect_container(codes) != "xarray":
        return samples
    return samples.assign_coords(sample_coords(codes, samples.dims[0]))


def grid_layout(
    grids: Array, name: str, layout: str | None = None
) -> tuple[tuple[int, ...], str | None]:
    """Return the shape C x grid of samples, and their layout.

    Args:
        grids: signals, images or volumes.
        name: name of the argument, for the message.
        layout: theirs, if it is known.

    Raises:
        InputError: if a side is under 4, or the layout in doubt.

    Example:
        >>> grid_layout(np.zeros((5, 28, 28)), "X"), grid_layout(np.zeros((5, 32, 32, 3)), "X")
        (((1, 28, 28), 'NHW'), ((3, 32, 32), 'NHWC'))
    """
    bytes_only = grids.dtype == np.uint8
    shape = as_samples(grids, name, layout).shape[1:]
    return tuple(shape), layout or guess_layout(grids.shape, name, bytes_only=bytes_only)


def check_gaps(array: Array, columns: Sequence[str] | None, *, fitting: bool) -> None:
    """Check that every sample and, to fit, every column has an observed value.

    Raises:
        InputError: naming those that have none.
    """
    missing = np.isnan(array.reshape(len(array), -1))
    if not missing.any():
        return
    if (empty := np.flatnonzero(missing.all(1))).size:
        raise InputError(
            f"X must have an observed value in every sample, got only gaps in "
            f"{shorten_list([f'sample {k}' for k in empty])}; leave these samples out"
        )
    if fitting and (empty := np.flatnonzero(missing.all(0))).size:
        places = zip(*np.unravel_index(empty, array.shape[1:]), strict=True)
        names = [
            columns[k] if columns else f"column {':'.join(map(str, place))}"
            for k, place in zip(empty.tolist(), places, strict=True)
        ]
        raise InputError(
            f"X must have an observed value in every column, got only gaps in "
            f"{shorten_list(names)}; leave these columns out"
        )


def to_float(samples: Tensor) -> Tensor:
    """Return bytes divided by 255, and other samples unchanged.

    Raises:
        InputError: if a number is beyond the range of float32.
    """
    if samples.dtype == torch.uint8:
        return as_float(samples)
    if bool(samples.float().isinf().any()):
        raise InputError("X must hold numbers within the range of float32, got a larger one")
    return samples
