"""NetCDF and HDF5 files: variables as channels, dimensions as axes."""

import h5py
import numpy as np
import pytest
import xarray as xr

from lorae import data
from lorae.data.splits import split_rows
from lorae.errors import InputError

WIND = np.random.default_rng(0).normal(size=(2, 20, 6, 9))
FIELDS = xr.Dataset(
    {
        "u": (("time", "y", "x"), WIND[0]),
        "v": (("time", "y", "x"), WIND[1]),
        "mask": (("y", "x"), np.ones((6, 9))),
        "station": (("time",), np.arange(20)),
    }
)


@pytest.fixture
def path(tmp_path):
    FIELDS.to_netcdf(tmp_path / "wind.nc")
    return tmp_path / "wind.nc"


def test_variables_of_the_largest_dimensions_are_channels(path):
    loaded = data.load(path)
    assert (loaded.name, loaded.shape, loaded.is_image) == ("wind", (2, 6, 9), False)
    train, _ = split_rows(20, 0.1, 0)
    np.testing.assert_allclose(loaded.train, WIND[:, train].swapaxes(0, 1), rtol=1e-6)
    assert loaded.notes[0] == "read u, v of the variables u, v, mask, station"


def test_one_variable_may_be_selected(path):
    for options in ({"columns": ["v"]}, {"drop": ["u", "mask", "station"]}):
        assert data.load(path, **options).shape == (1, 6, 9)
    assert data.load(path, columns=["v"], layout="NLC").shape == (9, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["w"]}, "unknown variable 'w'"),
        ({"columns": ["u", "mask"]}, r"same dimensions, got u \(time, y, x\), mask \(y, x\)"),
        ({"columns": ["station"]}, "dimensions must be that of the samples"),
        ({"header": True}, "data must be a table of text for header"),
        ({"layout": "NHWC"}, "as many axes"),
    ],
)
def test_what_does_not_fit_is_refused(path, options, message):
    with pytest.raises(InputError, match=message):
        data.load(path, **({"columns": ["u"]} | options))


def test_hdf5_without_names_is_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["signals"] = WIND[0, :, 0]
    assert data.load(tmp_path / "a.h5").shape == (1, 9)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.nc").write_text("no NetCDF")
    with pytest.raises(InputError, match=r"a\.nc must be .*got another or a damaged one$"):
        data.load(tmp_path / "a.nc")
    xr.Dataset({"name": (("n",), ["a", "b"])}).to_netcdf(tmp_path / "text.nc")
    with pytest.raises(InputError, match="a variable of numbers outside groups, got none"):
        data.load(tmp_path / "text.nc")
