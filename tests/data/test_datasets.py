"""The data set object: named sets, arguments, scaling."""

import numpy as np
import pytest
import torch

from lorae import data
from lorae.data.splits import split_rows
from lorae.errors import InputError
from lorae.utils.samples import as_float


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("LORAE_DATA", str(folder))
    return folder


def save(path, array):
    np.save(path, array)
    return path


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# named sets


def test_shapes_as_data():
    default = data.load("shapes")
    assert default.train.shape == (50_000, 3, 32, 32)
    assert default.test.shape == (10_000, 3, 32, 32)
    few = data.load("shapes", count=50)
    assert (len(few.train), len(few.test)) == (50, 10)
    assert torch.equal(few.train, default.train[:50])
    assert few.network == "shapes"
    assert few.shape == (3, 32, 32)
    assert set(few.train_labels.tolist()) == {0, 1}


def test_digits_are_scaled_to_bytes_and_split_by_class():
    digits = data.load("digits")
    assert digits.shape == (1, 8, 8)
    assert digits.train.dtype == torch.uint8
    assert digits.train.max() == 255
    assert set(digits.train.unique().tolist()) == {round(k * 255 / 16) for k in range(17)}
    assert digits.train_labels is not None
    assert digits.test_labels is not None
    held = digits.test_labels.bincount() / (digits.train_labels.bincount() + 18)
    assert len(digits.test) == 180
    assert held.min() > 0.08  # every class gives about a tenth
    assert held.max() < 0.12
    assert (digits.value_range, digits.network) == ((0.0, 1.0), "conv")


@pytest.mark.parametrize("name", ["shapes", "digits"])
def test_loading_is_deterministic_and_seeded(name):
    first, again, other = (data.load(name, count=40, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.train, again.train)
    assert first.checksum == again.checksum != other.checksum
    assert not torch.equal(first.train, other.train)


def test_generated_sets_are_always_ready():
    assert data.cached("shapes")
    assert not data.cached("mnist")
    assert data.fetch("digits").is_dir()
    with pytest.raises(InputError, match="did you mean 'mnist'"):
        data.fetch("mnits")


# arguments


def test_files_of_another_kind_are_refused(tmp_path):
    for name in ("samples", "a.tar.gz", "a.mat"):
        (tmp_path / name).write_text("1,2")
        with pytest.raises(InputError, match=rf"data must be a folder or \.zip .*got .*/{name}$"):
            data.load(tmp_path / name)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("shpaes", {}, "unknown data set 'shpaes'.*did you mean 'shapes'"),
        ("no/such/folder", {}, "data must be a path that exists .* got no/such/folder"),
        ("missing.csv", {}, "data must be a path that exists .* got missing.csv"),
        ("digits", {"test_fraction": 0.0}, "test_fraction must be .*got 0"),
        ("digits", {"test_fraction": 1.0}, "test_fraction must be .*got 1"),
        ("digits", {"count": 1}, "count must be .*got 1"),
        ("digits", {"seed": -1}, "seed must be .*got -1"),
        (
            "digits",
            {"size": 16},
            "data must be a folder or zip of images for size and crop, got digits",
        ),
    ],
)
def test_bad_arguments_are_named(source, options, message):
    with pytest.raises(InputError, match=message):
        data.load(source, **options)


# scaling


def test_vectors_are_standardised_by_the_training_samples_alone(tmp_path):
    rows = noise(500, 3) * [1e-3, 1.0, 1e3] + [5.0, 0.0, -1e4]
    loaded = data.load(save(tmp_path / "rows.npy", rows), test_fraction=0.3)
    train = loaded.train.double()
    assert loaded.value_range is None
    assert loaded.network == "mlp"
    assert torch.allclose(loaded.shift.double(), train.mean(0))
    assert torch.allclose(loaded.scale, train.std(0, correction=0).float())
    scaled = (as_float(loaded.train) - loaded.shift) / loaded.scale
    # the first column stands 5000 standard deviations from 0, so that it is kept in float64
    assert loaded.train.dtype == torch.float64
    assert scaled.mean(0).abs().max() < 1e-6
    assert (scaled.std(0, correction=0) - 1).abs().max() < 1e-6

    held = rows.copy()
    _, test = split_rows(500, 0.3, 0)
    held[test] = 1e6
    other = data.load(save(tmp_path / "held.npy", held), test_fraction=0.3)
    assert torch.allclose(other.shift.double(), loaded.shift.double())
    # the held-out rows widen the columns, so that these are stored as float32
    assert torch.allclose(other.scale, loaded.scale, rtol=1e-3)


@pytest.mark.parametrize(
    ("low", "high", "value_range", "shift", "scale"),
    [
        (0.0, 1.0, (0.0, 1.0), 0.0, 1.0),
        (0.2, 0.7, (0.0, 1.0), 0.0, 1.0),
        (-1.0, 1.0, (-1.0, 1.0), 0.0, 1.0),
        (-0.1, 0.9, (-1.0, 1.0), 0.0, 1.0),
        (0.0, 255.0, (0.0, 1.0), 0.0, 255.0),
        (100.0, 150.0, (0.0, 1.0), 0.0, 255.0),
    ],
)
def test_float_images_are_mapped_by_their_range(tmp_path, low, high, value_range, shift, scale):
    images = np.random.default_rng(0).uniform(low, high, (50, 8, 8))
    images[:, 0, 0], images[:, 7, 7] = low, high
    loaded = data.load(save(tmp_path / "images.npy", images))
    assert loaded.value_range == value_range
    assert loaded.shift.item() == pytest.approx(shift)
    assert loaded.scale.item() == pytest.approx(scale)
    scaled = (loaded.train - loaded.shift) / loaded.scale
    assert scaled.min() >= value_range[0] - 1e-6
    assert scaled.max() <= value_range[1] + 1e-6


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((60, 9, 2), "NLC"), ((60, 8, 9), "NHW"), ((60, 5, 8, 6), "NHWC"), ((60, 4, 5, 6), "NDHW")],
)
def test_channels_of_fields_are_standardised(tmp_path, shape, layout):
    generator = np.random.default_rng(0)
    fields = generator.normal(size=shape) * generator.uniform(1, 9, shape[-1]) + 30
    loaded = data.load(save(tmp_path / "fields.npy", fields), layout=layout)
    assert (loaded.value_range, loaded.is_image, loaded.network) == (None, False, "conv")
    scaled = ((loaded.train - loaded.shift) / loaded.scale).double()
    axes = [0, *range(2, scaled.ndim)]
    zero = torch.zeros(loaded.shape[0], dtype=torch.float64)
    torch.testing.assert_close(scaled.mean(axes), zero, atol=1e-5, rtol=0)  # float32 near 30
    torch.testing.assert_close(scaled.std(axes, correction=0), zero + 1, atol=1e-5, rtol=0)
    assert "each channel is scaled" in loaded.notes[-1]
    stated = data.load(tmp_path / "fields.npy", layout=layout, value_range=(-60, 90))
    assert stated.value_range == (0.0, 1.0)
    assert stated.is_image == (len(stated.shape) == 3)


def test_a_constant_channel_has_scale_1_and_far_channels_keep_their_digits(tmp_path):
    fields = np.random.default_rng(0).normal(size=(40, 3, 10, 9))
    fields[:, 0], fields[:, 1] = 7.0, 1e6 + fields[:, 1]
    loaded = data.load(save(tmp_path / "fields.npy", fields), layout="NCHW")
    assert loaded.scale.flatten().tolist()[0] == 1
    assert loaded.train.dtype == loaded.shift.dtype == torch.float64
    assert loaded.channel_ranges[0] == (7.0, 8.0)
