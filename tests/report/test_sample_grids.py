"""Pictures of signals, fields and volumes."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from lorae import data
from lorae.report.sample_grids import colour_planes, draw_curves, sample_grid


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", count=50)


def field(digits, samples):
    """Return a set of other samples without values of black and white."""
    return replace(digits, train=samples, value_range=None)


def test_a_curve_is_as_high_as_its_values():
    """A step up from the least to the largest value."""
    signal = torch.tensor([-2.0] * 30 + [3.0] * 30)[None, None]
    picture = draw_curves(signal, [(-2.0, 3.0)], 60)[0]
    assert picture.shape == (3, 40, 60)
    rows = picture.sum(0).argmin(0)  # of the darkest pixel of each column
    assert (rows[:28] > 34).all()
    assert (rows[32:] < 6).all()


def test_every_channel_has_a_colour_and_its_own_range():
    signal = torch.stack([torch.full((9,), 0.0), torch.full((9,), 100.0)])[None]
    picture = draw_curves(signal, [(0.0, 1.0), (99.0, 100.0)], 30)[0]
    low, high = picture[:, -3:].amin((1, 2)), picture[:, :3].amin((1, 2))
    assert not torch.allclose(low, high, atol=0.2)


def test_planes_are_white_at_zero_and_distinct_at_both_ends():
    plane = torch.tensor([[-2.0, 0.0, 4.0, 9.0]])[None, None]
    colours = colour_planes(plane, [(-2.0, 4.0)])[0, :, 0].T
    assert (colours[1] > 0.95).all()
    assert colours[0, 2] > colours[0, 0]  # blue below
    assert colours[2, 0] > colours[2, 2]  # red above
    assert torch.equal(colours[2], colours[3])  # clipped


def test_channels_of_a_field_stand_one_below_the_other():
    planes = torch.rand(2, 3, 5, 7)
    both = colour_planes(planes, [(0.0, 1.0)] * 3)
    assert both.shape == (2, 3, 15, 7)
    alone = colour_planes(planes[:, 1:2], [(0.0, 1.0)])
    assert torch.equal(both[:, :, 5:10], alone)


def test_a_volume_is_its_middle_slice(digits):
    volumes = torch.rand(4, 1, 6, 8, 9)
    shown = sample_grid(volumes, field(digits, volumes), 2, side=32)
    other = volumes.clone()
    other[:, :, [0, 1, 2, 4, 5]] = 0.5
    same = sample_grid(other, field(digits, volumes), 2, side=32)
    assert np.array_equal(pixels(shown), pixels(same))
    other[:, :, 3] = 0
    assert not np.array_equal(
        pixels(shown), pixels(sample_grid(other, field(digits, volumes), 2, side=32))
    )


@pytest.mark.parametrize("shape", [(2, 30), (3, 8, 12), (2, 4, 8, 8)])
def test_any_shape_has_a_picture(digits, shape):
    samples = torch.randn(5, *shape)
    content = sample_grid(samples, field(digits, samples), 3, side=32, framed=True)
    assert pixels(content).std() > 10
