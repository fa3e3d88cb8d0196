r"""Encoders and decoders, as plain sequences of layers.

A pair of networks maps samples to codes and back,

.. math:: E_\phi : \mathbb{R}^s \to \mathbb{R}^l, \qquad D_\theta : \mathbb{R}^l \to \mathbb{R}^s,

where the shape `s` of a sample is C x L for a signal, C x H x W for an image, C x D x H x W for a
volume, and D for a vector. Both take a batch along the first axis. An encoder ends in a linear map
without activation (`Linear`, or `Conv2d` over the remaining image and a `Flatten`), so that a
linear map after it, such as the matrix M of LoRAE, can be folded into that layer. A decoder ends in
an activation with the range of the data.

The paper's networks are in :mod:`lorae.nn.paper_networks`; `convolutional`, `fully_connected` and
`residual` fit any other shape, and `build` makes all of them by name. `width` multiplies every
hidden number of channels or units (rounded, at least 1). Parameters have PyTorch's default
initialization, drawn from its global generator.
"""

import math
from collections.abc import Callable

from torch import nn

from lorae.errors import InputError, unknown_name
from lorae.nn import residual as linear_path
from lorae.nn.blocks import (
    HALVE,
    KEEP,
    POINT,
    Pair,
    Shape,
    Step,
    ValueRange,
    check_sizes,
    dense,
    downsampling,
    scale_widths,
    upsampling,
)
from lorae.nn.paper_networks import PAPER_SHAPES, celeba, mnist, shapes
from lorae.utils.validation import check_choice

SMALLEST_SIDE = 4
"""The smallest side of a grid, except 1."""
PADDINGS = ("zeros", "circular")
_HALVED = 8  # the smallest side that a layer halves


# Networks for any shape of sample


def convolutional(
    shape: Shape,
    latent: int,
    width: float = 1.0,
    value_range: ValueRange = (0.0, 1.0),
    padding: str = "zeros",
) -> Pair:
    r"""Return convolutional networks for signals, images and volumes of any size.

    The convolutions have as many dimensions as the grid. Each layer of the encoder halves the sides
    of 8 or more, rounding down, and keeps the others, until all are below 8, with
    :math:`\min(32 \cdot 2^i, 256)` channels (times `width`) after layer i = 0, 1, ...; a linear map
    follows. The decoder mirrors it, with output padding where a side was odd, so that its output
    has exactly the shape of the input.

    Args:
        shape: shape C x L, C x H x W or C x D x H x W of a sample, without the batch; C >= 1, and
            every side 4 or more, or 1.
        latent: number l of latent dimensions, at least 1.
        width: factor on the hidden numbers of channels, positive.
        value_range: the range of the decoder's outputs: (0, 1) by a sigmoid, (-1, 1) by tanh, or
            None if unbounded.
        padding: what lies beyond the grid: zeros, or circular for a grid that is periodic along
            every axis. A shift of the input by a multiple of all strides then shifts what the last
            convolution of the encoder returns, if the sides are such multiples, too.

    Example:
        >>> import torch
        >>> encoder, decoder = convolutional((3, 37, 64), 16, width=0.25)
        >>> z = encoder(torch.zeros(5, 3, 37, 64))
        >>> z.shape, decoder(z).shape
        (torch.Size([5, 16]), torch.Size([5, 3, 37, 64]))
        >>> encoder, decoder = convolutional((2, 100), 16, padding="circular")
        >>> decoder(encoder(torch.zeros(5, 2, 100))).shape
        torch.Size([5, 2, 100])
    """
    _check_grid(shape)
    check_sizes(latent, width)
    check_choice("padding", padding, PADDINGS)
    sizes, circular = _grid_sizes(shape[1:]), padding == "circular"
    steps = [[_step(side) for side in size] for size in sizes[:-1]]
    channels = scale_widths([min(32 * 2**i, 256) for i in range(len(steps))], width)
    seed = (channels[-1], *sizes[-1])
    encoder = nn.Sequential(
        *downsampling(shape[0], channels, steps, circular=circular),
        nn.Flatten(),
        nn.Linear(math.prod(seed), latent),
    )
    up = upsampling([*channels[::-1], shape[0]], steps[::-1], sizes[-2::-1], circular=circular)
    decoder = nn.Sequential(
        nn.Linear(latent, math.prod(seed)),
        nn.ReLU(),
        nn.Unflatten(1, seed),
        *up[:-1],
        _activation(value_range),
    )
    return Pair(encoder, decoder)


def fully_connected(
    shape: Shape, latent: int, width: float = 1.0, value_range: ValueRange = None
) -> Pair:
    r"""Return fully connected networks for samples of D values, vectors or grids.

    Two hidden layers, of h and :math:`\max(h / 2, 128)` units (times `width`), with
    :math:`h = 2^{\lceil \log_2 4D \rceil}` kept within 128 to 1024; the decoder mirrors them.

    Args:
        shape: shape of a sample, without the batch, of any number of dimensions.
        latent: number l of latent dimensions, at least 1.
        width: factor on the hidden numbers of units, positive.
        value_range: the range of the decoder's outputs: (0, 1) by a sigmoid, (-1, 1) by tanh, or
            None if unbounded.

    Example:
        >>> import torch
        >>> encoder, decoder = fully_connected((13,), 4)
        >>> z = encoder(torch.zeros(5, 13))
        >>> z.shape, decoder(z).shape
        (torch.Size([5, 4]), torch.Size([5, 13]))
    """
    _check_sides(shape)
    check_sizes(latent, width)
    dim = math.prod(shape)
    outer, inner = _units(dim, width)
    flatten, unflatten = ([nn.Flatten()], [nn.Unflatten(1, shape)]) if len(shape) > 1 else ([], [])
    return Pair(
        nn.Sequential(*flatten, *dense(dim, outer, inner, latent)),
        nn.Sequential(*dense(latent, inner, outer, dim), *unflatten, _activation(value_range)),
    )


def residual(shape: Shape, latent: int, width: float = 1.0, value_range: ValueRange = None) -> Pair:
    """Return fully connected networks with a linear path (:mod:`lorae.nn.residual`).

    Two hidden layers of 256 units (times `width`) each way.

    Args:
        shape: shape of a sample, without the batch, of any number of dimensions.
        latent: number l of latent dimensions, at least 1.
        width: factor on the hidden numbers of units, positive.
        value_range: the range of the decoder's outputs: (0, 1) by a sigmoid, (-1, 1) by tanh, or
            None if unbounded.

    Example:
        >>> import torch
        >>> encoder, decoder = residual((13,), 4)
        >>> decoder(encoder(torch.zeros(5, 13))).shape
        torch.Size([5, 13])
    """
    _check_sides(shape)
    check_sizes(latent, width)
    (hidden,) = scale_widths([256], width)
    decoder = linear_path.decoder(latent, hidden, shape)
    if value_range is not None:
        decoder.append(_activation(value_range))
    return Pair(linear_path.encoder(shape, hidden, latent), decoder)


# Networks by name


NETWORKS: dict[str, Callable[..., Pair]] = {
    "mnist": mnist,
    "celeba": celeba,
    "shapes": shapes,
    "conv": convolutional,
    "mlp": fully_connected,
    "residual": residual,
}
"""The functions that make networks, by the names that :func:`build` takes."""


def build(
    name: str,
    shape: Shape,
    latent: int,
    width: float = 1.0,
    value_range: ValueRange = None,
    *,
    padding: str = "zeros",
) -> Pair:
    """Return the networks of this name for samples of this shape.

    Args:
        name: one of `NETWORKS`.
        shape: shape of a sample, without the batch.
        latent: number l of latent dimensions, which may exceed the number of values of a sample.
        width: factor on the hidden numbers of channels or units, positive.
        value_range: the range of the decoder's outputs, (0, 1), (-1, 1) or None if unbounded. The
            paper's networks always end in tanh, as published.
        padding: what lies beyond the grid, zeros or circular; only "conv" takes the latter.

    Example:
        >>> encoder, decoder = build("conv", (1, 28, 28), 16, width=0.25, value_range=(0.0, 1.0))
        >>> decoder[-1]
        Sigmoid()
        >>> build("mnist", (1, 28, 28), 16)
        Traceback (most recent call last):
        lorae.errors.InputError: shape must be (1, 32, 32) for the network 'mnist', got (1, 28, 28)
    """
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    _activation(value_range)  # checks the range, which the paper's networks ignore
    if name == "conv":
        return convolutional(shape, latent, width, value_range, padding)
    if padding != "zeros":
        raise InputError(f"padding must be zeros for the network {name!r}, got {padding!r}")
    if name not in PAPER_SHAPES:
        return NETWORKS[name](shape, latent, width, value_range)
    if shape != PAPER_SHAPES[name]:
        raise InputError(
            f"shape must be {PAPER_SHAPES[name]} for the network {name!r}, got {tuple(shape)}"
        )
    return NETWORKS[name](latent, width)


# Layers


def _units(dim: int, width: float) -> tuple[int, int]:
    """Return the numbers of units of the outer and the inner hidden layer."""
    h = min(max(1 << (4 * dim - 1).bit_length(), 128), 1024)
    outer, inner = scale_widths([h, max(h // 2, 128)], width)
    return outer, inner


def _grid_sizes(size: Shape) -> list[Shape]:
    """Return the sizes of a grid before each layer, and the last one; there is at least a layer."""
    sizes = [size]
    while len(sizes) == 1 or max(sizes[-1]) >= _HALVED:
        sizes.append(tuple(side // 2 if side >= _HALVED else side for side in sizes[-1]))
    return sizes


def _step(side: int) -> Step:
    if side >= _HALVED:
        return HALVE
    return POINT if side == 1 else KEEP


def _activation(value_range: ValueRange) -> nn.Module:
    if value_range is None:
        return nn.Identity()
    if value_range == (0.0, 1.0):
        return nn.Sigmoid()
    if value_range == (-1.0, 1.0):
        return nn.Tanh()
    raise InputError(f"value_range must be (0, 1), (-1, 1) or None, got {value_range!r}")


# Checks


def _check_grid(shape: Shape) -> None:
    sides = shape[1:]
    fits = all(side == 1 or side >= SMALLEST_SIDE for side in sides) and max(sides, default=0) > 1
    if len(shape) not in (2, 3, 4) or shape[0] < 1 or not fits:
        raise InputError(
            f"shape of a grid must be (C, L), (C, H, W) or (C, D, H, W) with C at least 1 and "
            f"sides of at least {SMALLEST_SIDE}, got {tuple(shape)}"
        )


def _check_sides(shape: Shape) -> None:
    if not shape or min(shape) < 1:
        raise InputError(f"shape must have only positive sides, got {tuple(shape)}")
