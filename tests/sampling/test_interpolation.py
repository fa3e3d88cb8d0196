"""Paths have their ends and shape, and the detour is a ratio of lengths."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import geometric_slerp

from lorae.errors import InputError
from lorae.sampling.interpolation import KINDS, detour, interpolate, traverse_axes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("latent", [1, 2, 7])
@pytest.mark.parametrize("steps", [2, 3, 10])
def test_paths_start_and_stop_at_their_ends(kind, latent, steps):
    a, b, centre = torch.randn(5, latent), torch.randn(5, latent), torch.randn(latent)
    path = interpolate(a, b, steps, kind, centre)
    assert path.shape == (5, steps, latent)
    assert path.isfinite().all()
    torch.testing.assert_close(path[:, 0], a)
    torch.testing.assert_close(path[:, -1], b)
    torch.testing.assert_close(interpolate(b, a, steps, kind, centre), path.flip(1))


def test_lines_have_equal_steps():
    path = interpolate(torch.zeros(1, 2), torch.tensor([[3.0, 6.0]]), 4)
    torch.testing.assert_close(path[0], torch.tensor([[0.0, 0], [1, 2], [2, 4], [3, 6]]))


def test_great_circles_equal_scipys():
    a, b = (torch.nn.functional.normalize(torch.randn(1, 4, dtype=torch.float64)) for _ in "ab")
    expected = geometric_slerp(a[0].numpy(), b[0].numpy(), np.linspace(0, 1, 9))
    np.testing.assert_allclose(interpolate(a, b, 9, "spherical")[0].numpy(), expected, atol=1e-12)


def test_great_circles_keep_the_distance_from_their_centre():
    centre = torch.tensor([5.0, -3.0, 1.0])
    a, b = (centre + 2 * torch.nn.functional.normalize(torch.randn(20, 3)) for _ in "ab")
    path = interpolate(a, b, 11, "spherical", centre)
    radii = (path - centre).norm(dim=2)
    torch.testing.assert_close(radii, torch.full_like(radii, 2.0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("b", [[1.0, 0.0], [-1.0, 0.0], [2.0, 1e-6]])
def test_degenerate_great_circles_are_lines(b):
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([b])
    path = interpolate(a, b, 5, "spherical")
    torch.testing.assert_close(path, interpolate(a, b, 5), atol=1e-3, rtol=0)


def test_axes_are_those_of_the_covariance():
    codes = torch.randn(4000, 3) * torch.tensor([0.5, 3.0, 1.0]) + torch.tensor([1.0, 2.0, 3.0])
    path = traverse_axes(codes, 2, 5, reach=2.0)
    assert path.shape == (2, 5, 3)
    torch.testing.assert_close(path[:, 2], codes.mean(0).expand(2, 3), atol=1e-4, rtol=0)
    ends = (path[:, -1] - path[:, 0]).abs()
    torch.testing.assert_close(ends[0], torch.tensor([0.0, 12.0, 0.0]), atol=0.5, rtol=0)
    torch.testing.assert_close(ends[1], torch.tensor([0.0, 0.0, 4.0]), atol=0.3, rtol=0)


@pytest.mark.parametrize("d", [1, 2, 50])
def test_detour_of_lines_and_half_circles(d):
    path = interpolate(torch.randn(4, d), torch.randn(4, d), 9)
    torch.testing.assert_close(detour(path), torch.ones(4), rtol=1e-5, atol=0)
    angle = torch.linspace(0, math.pi, 2001)
    circle = torch.stack([angle.cos(), angle.sin()], 1)[None]
    assert detour(circle).item() == pytest.approx(math.pi / 2, rel=1e-4)


def test_detour_of_a_loop_is_nan():
    assert detour(torch.tensor([[[0.0], [1.0], [0.0]]])).isnan().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: interpolate(x, x, 3, "curly"), "kind must be one of .* got 'curly'"),
        (lambda x: interpolate(x, x, 1), "steps must be .*at least 2, got 1"),
        (lambda x: traverse_axes(x, 0, 3), "axes must be .*at least 1 and at most 2, got 0"),
        (lambda x: traverse_axes(x, 3, 3), "axes must be .*at least 1 and at most 2, got 3"),
        (lambda x: traverse_axes(x, 1, 1), "steps must be .*at least 2, got 1"),
    ],
)
def test_invalid_paths_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make(torch.randn(6, 2))
