"""Grids of images hold their pixels."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from lorae.report.image_grids import encode_png, image_grid


def decode(png):
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_grid_holds_the_pixels(channels):
    images = torch.rand(5, channels, 8, 10)
    pixels = decode(image_grid(images, 3, side=96))
    assert pixels.shape == (17, 32, 4 if channels >= 3 else 2)
    last = torch.from_numpy(pixels[9:17, 11:21, :-1].copy()) / 255
    kept = images[4, : pixels.shape[2] - 1].permute(1, 2, 0)
    assert (last - kept).abs().max() <= 0.5 / 255 + 1e-6
    assert (pixels[9:17, 22:, -1] == 0).all()


def test_a_frame_sets_the_first_and_the_last_column_apart():
    images = torch.ones(4, 1, 8, 8)
    alpha = decode(image_grid(images, 4, side=8, framed=True))[0, :, 1] > 0
    assert "".join("#" if shown else "." for shown in alpha) == "...".join(
        ["#" * 8, "#" * 8 + "." + "#" * 8, "#" * 8]
    )


def test_large_images_are_averaged_down():
    pixels = decode(image_grid(torch.full((1, 3, 40, 80), 0.5), 1, side=20))
    assert pixels.shape == (10, 20, 4)
    assert (pixels == [128, 128, 128, 255]).all()


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 2), (2, 3, 3), (2, 3, 4)])
def test_a_png_holds_the_bytes(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert (decode(encode_png(pixels)) == pixels.reshape(decode(encode_png(pixels)).shape)).all()
