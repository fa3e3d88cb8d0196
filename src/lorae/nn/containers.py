"""Arrays and data frames as the samples of a model, read as its training data were, and back."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorae.data.arrays import Array, check_finite, check_observed
from lorae.data.columns import Schema
from lorae.data.frames import frame_values, is_frame, schema_of, to_polars
from lorae.errors import InputError
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import decode_all, encode_all


def encode(model: Autoencoder, X: Any) -> Any:
    """Return the codes of samples in any container, n x l: a tensor for a tensor, else an array."""
    codes = encode_all(model, read_samples(model, X))
    return codes if isinstance(X, Tensor) else codes.numpy()


def decode(model: Autoencoder, codes: Any) -> Array:
    """Return the samples that an array of codes decodes to, n x the shape of a sample."""
    z, latent = np.asarray(codes), model.bridge.latent
    if z.dtype.kind not in "biuf" or z.ndim != 2 or z.shape[1] != latent:
        raise InputError(f"codes must be numbers, n x {latent}, got {z.dtype} of shape {z.shape}")
    check_finite(z, "codes")
    dtype = np.float64 if z.dtype == np.float64 else np.float32
    array: Array = decode_all(model, torch.from_numpy(z.astype(dtype))).numpy()
    return array


def reconstruct(model: Autoencoder, X: Any) -> Any:
    """Return the reconstructions of samples in their container, layout and units."""
    samples = read_samples(model, X)
    decoded = decode_all(model, encode_all(model, samples)).double()
    if samples.dtype == torch.uint8:
        decoded = (decoded * 255).round().clamp(0, 255)
    if is_frame(X):
        return _to_frame(decoded.numpy(), X, _schema(model, X))
    given = np.asarray(X.detach().cpu() if isinstance(X, Tensor) else X)
    _, back = _layout(given.shape, tuple(decoded.shape[1:]))
    array = back(decoded.numpy())
    kind = given.dtype if given.dtype.kind == "f" or samples.dtype == torch.uint8 else np.float32
    return torch.from_numpy(array.astype(kind)) if isinstance(X, Tensor) else array.astype(kind)


def read_samples(model: Autoencoder, X: Any) -> Tensor:
    """Return samples as a tensor in the layout and the units of a model's training data.

    Args:
        model: with the shape, the columns and the value range of its data.
        X: a data frame, whose columns are found by name, or an array or a tensor n x D, n x grid,
            n x grid x c or n x c x grid.
    """
    shape = () if model.architecture is None else model.architecture.shape
    missing = "refuse" if model.gaps is None else "keep"
    if is_frame(X):
        array = frame_values(X, _schema(model, X), missing)
    else:
        array = np.asarray(X.detach().cpu() if isinstance(X, Tensor) else X)
    if array.dtype.kind not in "biuf" or array.ndim < 2 or not len(array):
        raise InputError(
            f"X must be an array of numbers with a row for each sample, got {array.dtype} of "
            f"shape {array.shape}"
        )
    forward, _ = _layout(array.shape, shape or array.shape[1:])
    array = forward(array)
    names = None if model.schema is None else model.schema.value_names
    check_finite(array, "X", names, missing=missing)
    check_observed(array, "X")
    if array.ndim == 2:
        wide = array.dtype == np.float64
        return torch.from_numpy(array.astype(np.float64 if wide else np.float32))
    return _image_units(model, array)


def _schema(model: Autoencoder, X: Any) -> Schema:
    return schema_of(to_polars(X).columns) if model.schema is None else model.schema


_Map = Callable[[Array], Array]


def _layout(given: tuple[int, ...], shape: tuple[int, ...]) -> tuple[_Map, _Map]:
    """Return the maps from the layout of an array to that of a model, and back."""
    if given[1:] == shape:
        return (lambda x: x), (lambda x: x)
    if (1, *given[1:]) == shape:
        return (lambda x: x[:, None]), (lambda x: x[:, 0])
    if len(shape) > 1 and given[1:] == (*shape[1:], shape[0]):
        return (lambda x: np.moveaxis(x, -1, 1)), (lambda x: np.moveaxis(x, 1, -1))
    sizes = " x ".join(map(str, shape))
    raise InputError(f"X must have samples of shape {sizes}, got an array of shape {given}")


def _image_units(model: Autoencoder, images: Array) -> Tensor:
    """Return images in the units of a model; bytes are divided by 255 if its range is up to 1."""
    value_range = None if model.architecture is None else model.architecture.value_range
    if images.dtype == np.bool_:
        images = images.astype(np.uint8) * np.uint8(255)
    if value_range is None:
        kept = images.dtype in (np.uint8, np.float64)
        return torch.from_numpy(np.array(images, images.dtype if kept else np.float32))
    low, high = (float(x * model.scale + model.shift) for x in value_range)
    if images.dtype == np.uint8 and low >= 0 and high <= 1:
        return torch.from_numpy(np.array(images))
    least, most = float(images.min()), float(images.max())
    if least < 2 * low - high or most > 2 * high - low or (low < 0 and images.dtype == np.uint8):
        raise InputError(
            f"X must have values of the range {low:g} to {high:g}, as the training images, got "
            f"{least:g} to {most:g}"
        )
    return torch.from_numpy(np.array(images, np.float32))


def _to_frame(values: Array, like: Any, schema: Schema) -> Any:
    """Return values as a data frame of the kind, the index and the order of another."""
    cells = dict(zip((c.name for c in schema.columns), schema.decode(values), strict=True))
    columns = {name: cells[str(name)] for name in like.columns if str(name) in cells}
    if hasattr(like, "iloc"):  # pandas
        return type(like)(columns, index=like.index)
    return type(like)(columns)
