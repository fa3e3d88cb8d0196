"""Arrays with named dimensions and coordinates: `xarray.DataArray`, NetCDF and HDF5 files.

The first dimension is that of the samples. A dimension named channel, variable, component or band
is that of the channels; all others form the grid. Several variables of one file are channels.

The package xarray (`pip install 'lorae[fields]'`) is imported when a file is read or an array
returned.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from lorae.data.array_files import as_finite_samples
from lorae.data.arrays import Array
from lorae.data.options import ReadOptions
from lorae.data.splits import Split, split_at_random
from lorae.errors import InputError, unknown_name
from lorae.utils.text import shorten_list

if TYPE_CHECKING:
    import xarray

CHANNELS = ("channel", "channels", "variable", "component", "components", "band", "c")
_GRIDS = {1: "L", 2: "HW", 3: "DHW"}


def layout_of(dims: Sequence[Any]) -> str:
    """Return the layout of an array with these dimensions.

    Example:
        >>> layout_of(("time", "y", "x")), layout_of(("run", "x", "component"))
        ('NHW', 'NLC')
    """
    if len(set(dims)) < len(dims):
        raise InputError(
            f"dimensions must have names of their own, got {', '.join(map(str, dims))}"
        )
    is_channel = [str(name).lower() in CHANNELS for name in dims[1:]]
    grid = _GRIDS.get(is_channel.count(False))
    if grid is None or is_channel.count(True) > 1:
        raise InputError(
            "dimensions must be that of the samples, up to three of a grid, and one of channels at "
            f"most, got {', '.join(map(str, dims)) or 'none'}"
        )
    letters = iter(grid)
    return "N" + "".join("C" if channel else next(letters) for channel in is_channel)


@dataclass(frozen=True)
class Labels:
    """Dimensions and coordinates of samples, as values that JSON can hold.

    Attributes:
        name: of the array.
        dims: names of the dimensions, that of the samples first.
        coords: of each coordinate that does not depend on the sample, its dimensions, its NumPy
            dtype and its values, times as text.
    """

    name: str | None
    dims: list[str]
    coords: dict[str, list[Any]]

    @classmethod
    def of(cls, array: "xarray.DataArray") -> Self:
        """Return the labels of an array."""
        if hasattr(array, "data_vars"):
            raise InputError(
                "X must be one array, got an xarray.Dataset; select a variable, or make them "
                "channels: X.to_dataarray('channel'), transposed to begin with the samples"
            )
        dims = [str(dim) for dim in array.dims]
        coords = {}
        for name, coord in array.coords.items():
            if dims[0] not in coord.dims:
                values = coord.values
                stored = values.astype(str) if values.dtype.kind in "mM" else values
                coords[str(name)] = [list(map(str, coord.dims)), values.dtype.str, stored.tolist()]
        return cls(None if array.name is None else str(array.name), dims, coords)

    def check_like(self, array: "xarray.DataArray") -> None:
        """Check that later samples have these dimensions, and these coordinates of the grid."""
        other = type(self).of(array)
        if self.dims != other.dims:
            raise InputError(
                f"X must have the dimensions {', '.join(self.dims)}, got {', '.join(other.dims)}"
            )
        differing = [
            name
            for name, (dims, _, stored) in self.coords.items()
            if dims and name in other.coords and not _agree(stored, other.coords[name][2])
        ]
        if differing:
            raise InputError(
                f"X must have the coordinates of the fit, got others in {', '.join(differing)}; "
                "align it (X.reindex), or leave these coordinates out (X.drop_vars)"
            )

    def attach(self, values: Array) -> "xarray.DataArray":
        """Return an array n x the shape of a sample with these labels."""
        coords: dict[str, Any] = {
            name: (dims, np.array(stored).astype(dtype))
            for name, (dims, dtype, stored) in self.coords.items()
        }
        kind: type[xarray.DataArray] = import_xarray().DataArray
        return kind(values, coords=coords, dims=self.dims, name=self.name)


def _agree(stored: list[Any], others: list[Any]) -> bool:
    """Return whether coordinates of one shape are equal, numbers to the precision of float32."""
    x, y = np.array(stored), np.array(others)
    if x.shape != y.shape:
        return True
    if x.dtype.kind not in "iuf" or y.dtype.kind not in "iuf":
        return stored == others
    return bool(np.allclose(x, y, rtol=1e-6, atol=1e-6 * float(np.abs(x).max()), equal_nan=True))


def attach_codes(codes: Array, samples: "xarray.DataArray") -> "xarray.DataArray":
    """Return codes n x k as an array, with the coordinates of their samples."""
    first, kind = samples.dims[0], type(samples)
    return kind(codes, coords=sample_coords(samples, first), dims=(first, "code"))


def sample_coords(array: "xarray.DataArray", dim: Any) -> dict[Any, Any]:
    """Return the coordinates along one dimension alone."""
    return {name: c for name, c in array.coords.items() if c.dims == (dim,)}


def load_labelled(path: Path, options: ReadOptions, test_fraction: float, seed: int) -> Split:
    """Read a NetCDF or HDF5 file and hold out a fraction of its samples at random."""
    samples, notes = read_labelled(path, options)
    split = split_at_random(samples, None, test_fraction, seed)
    return dataclasses.replace(split, notes=tuple(notes))


def read_labelled(path: Path, options: ReadOptions) -> tuple[Array, list[str]]:
    """Return the samples of a NetCDF or HDF5 file, N x C x grid, and notes.

    All variables with the dimensions of the largest one are read, as channels, or those that
    `columns` names.
    """
    xarray = import_xarray()
    try:
        with xarray.open_dataset(path) as dataset:
            array, notes = _stack(path, dataset, options)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError):
        raise InputError(
            f"{path} must be a NetCDF or HDF5 file, got another or a damaged one"
        ) from None
    return as_finite_samples(array.values, str(path), options, layout_of(array.dims)), notes


def _stack(
    path: Path, dataset: "xarray.Dataset", options: ReadOptions
) -> tuple["xarray.DataArray", list[str]]:
    """Return the variables to use as one array, and a note on which they are."""
    numbers = {str(n): v for n, v in dataset.data_vars.items() if v.dtype.kind in "biuf" and v.ndim}
    for given in (*options.columns, *options.drop):
        if given not in numbers:
            raise unknown_name("variable", given, numbers)
    if not numbers:
        raise InputError(f"{path} must hold a variable of numbers outside groups, got none")
    dims = max(numbers.values(), key=lambda variable: variable.size).dims
    names = list(options.columns) or [n for n, v in numbers.items() if v.dims == dims]
    names = [name for name in names if name not in options.drop]
    if len({numbers[name].dims for name in names}) != 1:
        shapes = [f"{name} ({', '.join(map(str, numbers[name].dims))})" for name in names]
        got = shorten_list(shapes) or "none"
        raise InputError(f"columns must be variables of the same dimensions, got {got}")
    notes = [f"read {shorten_list(names)} of the variables {shorten_list(list(numbers))}"]
    if len(names) == 1:
        return dataset[names[0]].load(), notes if len(numbers) > 1 else []
    stacked = dataset[names].to_dataarray("channel")
    first, *others = numbers[names[0]].dims
    return stacked.transpose(first, "channel", *others), notes


def import_xarray() -> Any:
    """Import xarray."""
    try:
        import xarray
    except ImportError:
        raise InputError(
            "named dimensions need the package xarray: pip install 'lorae[fields]'"
        ) from None
    return xarray
