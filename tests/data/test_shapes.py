"""Shapes: uniform independent factors, and the pixels that OpenCV draws for them."""

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from lorae.data import shapes

ROWS = {  # pixels in each row of cv2.circle(image, centre, radius, colour, -1), OpenCV 5.0.0
    3: [1, 5, 5, 7, 5, 5, 1],
    4: [1, 5, 7, 7, 9, 7, 7, 5, 1],
    5: [1, 7, 9, 9, 9, 11, 9, 9, 9, 7, 1],
    6: [1, 7, 9, 11, 11, 11, 13, 11, 11, 11, 9, 7, 1],
    7: [1, 7, 9, 11, 13, 13, 13, 15, 13, 13, 13, 11, 9, 7, 1],
    8: [1, 7, 11, 13, 13, 15, 15, 15, 17, 15, 15, 15, 13, 13, 11, 7, 1],
}


def test_the_factors_are_uniform_and_independent():
    _, factors = shapes.generate(20_000, seed=3)
    for k, (low, high) in enumerate(zip(shapes.LOW, shapes.HIGH, strict=True)):
        found, counts = np.unique(factors[:, k], return_counts=True)
        assert found.tolist() == list(range(low, high + 1))
        assert chisquare(counts).pvalue > 1e-4
    for colour in factors[:, 4:].T:
        assert kstest(colour, "uniform").pvalue > 1e-4
    correlation = np.corrcoef(factors.T) - np.eye(7)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(factors))  # five standard errors


@pytest.mark.parametrize("radius", ROWS)
def test_circles_have_the_pixels_of_opencv(radius):
    image = shapes.render(np.array([[0, 15, 20, radius, 1, 1, 1]]))[0, 0]
    rows = ROWS[radius]
    expected = np.zeros((32, 32), bool)
    for row, count in zip(range(20 - radius, 21 + radius), rows, strict=True):
        expected[row, 15 - count // 2 : 16 + count // 2] = True
    assert np.array_equal(image > 0, expected)


@pytest.mark.parametrize(("x", "y", "size"), [(8, 9, 3), (12, 24, 7), (24, 24, 8)])
def test_squares_begin_at_their_upper_left_corner(x, y, size):
    image = shapes.render(np.array([[1, x, y, size, 1, 1, 1]]))[0, 0]
    expected = np.zeros((32, 32), bool)
    expected[y : y + size + 1, x : x + size + 1] = True  # cut off at the border, as by OpenCV
    assert np.array_equal(image > 0, expected)


def test_a_shape_has_one_colour():
    images, factors = shapes.generate(200, seed=1)
    assert np.abs(images.max(axis=(2, 3)) / 255 - factors[:, 4:]).max() <= 0.5 / 255 + 1e-9
    assert all(len(np.unique(channel)) <= 2 for image in images for channel in image)


def test_shapes_are_seeded_and_longer_draws_continue_shorter_ones():
    few, _ = shapes.generate(10, seed=5)
    many, _ = shapes.generate(5_000, seed=5)
    other, _ = shapes.generate(10, seed=6)
    assert np.array_equal(few, many[:10])
    assert not np.array_equal(few, other)
    split = shapes.load((10, 10), seed=5)
    assert not np.array_equal(split.train, split.test)
