r"""Paths between codes, and how smooth what they decode to is.

A path of s codes between two ends goes along the straight line, or along the great circle of the
codes' own mean, where norms are kept:

.. math::
    z(t) &= (1 - t) a + t b, \\
    z(t) &= \mu + \frac{\sin((1 - t) \theta)}{\sin \theta} (a - \mu)
        + \frac{\sin(t \theta)}{\sin \theta} (b - \mu),
    \qquad \cos \theta = \frac{(a - \mu)^\top (b - \mu)}{\|a - \mu\| \|b - \mu\|}.

Its smoothness is measured on what it decodes to: the *detour* is the length of the decoded path
divided by the distance of its ends, at least 1, and 1 for a straight line.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lorae.sampling.registry import KINDS
from lorae.utils.validation import check_choice, check_finite, check_range


def interpolate(
    starts: Float[Tensor, "n l"],
    ends: Float[Tensor, "n l"],
    steps: int,
    kind: str = "linear",
    centre: Float[Tensor, " l"] | None = None,
) -> Float[Tensor, "n s l"]:
    """Return the codes of n paths of s codes, both ends included.

    The kind is "linear" or "spherical", along great circles around a centre, 0 by default.

    Example:
        >>> ends = torch.eye(2)
        >>> interpolate(ends[:1], ends[1:], 3, "spherical")[0, 1]
        tensor([0.7071, 0.7071])
    """
    check_choice("kind", kind, KINDS)
    check_range("steps", steps, 2)
    t = torch.linspace(0, 1, steps, dtype=starts.dtype, device=starts.device)[:, None]
    if kind == "linear":
        return torch.lerp(starts[:, None], ends[:, None], t)
    mean = starts.new_zeros(starts.shape[1]) if centre is None else centre.to(starts)
    a, b = starts - mean, ends - mean
    angle = _angle(a, b)[:, None, None]
    # At a tiny or a straight angle the great circle is a line, or is not defined.
    plain = (angle < 1e-3) | (angle > torch.pi - 1e-3)
    sine = torch.sin(angle).where(~plain, 1.0)
    first = torch.where(plain, 1 - t, torch.sin((1 - t) * angle) / sine)
    second = torch.where(plain, t, torch.sin(t * angle) / sine)
    codes: Tensor = mean + first * a[:, None] + second * b[:, None]
    return codes


def traverse_axes(
    codes: Float[Tensor, "n l"], axes: int, steps: int, reach: float = 2.0
) -> Float[Tensor, "a s l"]:
    """Return paths through the mean of codes along their principal axes.

    Args:
        codes: n of them, at least 2.
        axes: how many axes, of the largest variance, 1 to l.
        steps: codes on each path, at least 2.
        reach: how far it goes to both sides, in standard deviations of the axis.

    Example:
        >>> codes = torch.tensor([[-2.0, 1.0], [2.0, 1.0], [0.0, 0.9], [0.0, 1.1]])
        >>> traverse_axes(codes, axes=1, steps=3, reach=1.0)[0, :, 0].abs()
        tensor([1.6330, 0.0000, 1.6330])
    """
    check_range("axes", axes, 1, codes.shape[1])
    check_range("steps", steps, 2)
    check_finite("codes", codes)
    mean = codes.double().mean(0)
    _, sigma, Vh = torch.linalg.svd(codes.double() - mean, full_matrices=False)
    kept = Vh[:axes] * (sigma[:axes] / (len(codes) - 1) ** 0.5)[:, None]
    t = torch.linspace(-reach, reach, steps, dtype=torch.float64)[:, None]
    path: Tensor = mean + t * kept[:, None]
    return path.to(codes.dtype)


def detour(path: Float[Tensor, "n s d"]) -> Float[Tensor, " n"]:
    """Return the length of each path divided by the distance of its ends; NaN where that is 0.

    Example:
        >>> detour(torch.tensor([[[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]]]))
        tensor([1.4142])
    """
    length = torch.linalg.vector_norm(path.diff(dim=1), dim=2).sum(1)
    chord = torch.linalg.vector_norm(path[:, -1] - path[:, 0], dim=1)
    ratio: Tensor = (length / chord).where(chord > 0, torch.nan)
    return ratio


def _angle(a: Tensor, b: Tensor) -> Float[Tensor, " n"]:
    """Return the angle between vectors, accurate also where it is small."""
    u, v = functional.normalize(a, eps=1e-30), functional.normalize(b, eps=1e-30)
    across, along = (torch.linalg.vector_norm(x, dim=1) for x in (u - v, u + v))
    angle: Tensor = 2 * torch.atan2(across, along)
    return angle
