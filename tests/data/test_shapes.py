"""Shapes: uniform independent factors that can be recovered from the images."""

import numpy as np
from scipy.stats import binomtest, kstest

from lorae.data import shapes


def test_the_seven_factors_are_uniform_and_independent() -> None:
    _, factors = shapes.generate(20_000, seed=3)
    kind = factors[:, 0]
    assert set(kind) == {0, 1}
    assert binomtest(int(kind.sum()), len(kind)).pvalue > 1e-4
    for k, (low, high) in enumerate(zip(shapes.LOW, shapes.HIGH, strict=True)):
        if k > 0:
            assert kstest(factors[:, k], "uniform", (low, high - low)).pvalue > 1e-4
    correlation = np.corrcoef(factors.T) - np.eye(7)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(factors))  # five standard errors


def test_the_factors_can_be_measured_in_the_images() -> None:
    images, factors = shapes.generate(2_000, seed=1)
    visible = factors[:, 4:].max(axis=1) > 0.01
    images, factors = images[visible], factors[visible]
    kind, x, y, size = factors[:, :4].T
    mask = images.max(axis=1) > 0
    area = mask.sum(axis=(1, 2))
    centres = np.arange(32) + 0.5
    cx = (mask * centres).sum(axis=(1, 2)) / area
    cy = (mask * centres[:, None]).sum(axis=(1, 2)) / area
    assert np.abs(cx - x).max() < 0.51  # pixels are crisp: half a pixel is their resolution
    assert np.abs(cy - y).max() < 0.51
    width = mask.any(axis=1).sum(axis=1)
    assert np.abs(width - 2 * size).max() <= 1.5
    height = mask.any(axis=2).sum(axis=1)
    assert np.abs(height - 2 * size)[kind == 1].max() <= 1
    filled = area / (width * height)
    assert filled[kind == 1].min() == 1  # squares fill their box, circles pi/4 of it
    assert filled[kind == 0].max() < 1
    assert np.abs(area[kind == 0] / (np.pi * size[kind == 0] ** 2) - 1).mean() < 0.05
    colour = images.max(axis=(2, 3)) / 255
    assert np.abs(colour - factors[:, 4:]).max() <= 0.5 / 255 + 1e-9
    shades = images.reshape(*images.shape[:2], -1)
    assert all(len(np.unique(channel)) <= 2 for image in shades[:100] for channel in image)


def test_shapes_are_seeded_and_longer_draws_continue_shorter_ones() -> None:
    few, _ = shapes.generate(10, seed=5)
    many, _ = shapes.generate(5_000, seed=5)
    other, _ = shapes.generate(10, seed=6)
    assert np.array_equal(few, many[:10])
    assert not np.array_equal(few, other)
    split = shapes.load(10, 10, seed=5)
    assert not np.array_equal(split.train, split.test)
