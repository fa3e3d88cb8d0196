r"""Encoders and decoders, as plain sequences of layers.

A pair of networks maps samples to codes and back,

.. math:: E_\phi : \mathbb{R}^s \to \mathbb{R}^l, \qquad D_\theta : \mathbb{R}^l \to \mathbb{R}^s,

where the shape `s` of a sample is C x L for a signal, C x H x W for an image, C x D x H x W for a
volume, and D for a vector. Both take a batch along the first axis. An encoder ends in a linear map
without activation (`Linear`, or `Conv2d` over the remaining image and a `Flatten`), so that a
linear map after it, such as the matrix M of LoRAE, can be folded into that layer. A decoder ends in
an activation with the range of the data.

The paper's networks are in :mod:`lorae.nn.paper_networks`; `convolutional`, `fully_connected` and
`residual` fit any other shape, and `build` makes all of them by name and explains their arguments.
Parameters have PyTorch's default initialization, drawn from its global generator.
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
    dense,
    downsampling,
    scale_widths,
    upsampling,
)
from lorae.nn.paper_networks import PAPER_SHAPES, celeba, mnist, shapes
from lorae.utils.validation import check_choice, check_range

SMALLEST_SIDE = 4
"""The smallest side of a grid, except 1."""
PADDINGS = ("zeros", "circular")
_HALVED = 8  # the smallest side that a layer halves


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
    Every side of the grid is 4 or more, or 1. With circular padding, a shift of the input by a
    multiple of all strides shifts what the last convolution of the encoder returns, if the sides
    are such multiples, too.
    """
    sides = shape[1:]
    fits = all(side == 1 or side >= SMALLEST_SIDE for side in sides) and max(sides, default=0) > 1
    if len(shape) not in (2, 3, 4) or shape[0] < 1 or not fits:
        raise InputError(
            f"shape of a grid must be (C, L), (C, H, W) or (C, D, H, W) with C at least 1 and "
            f"sides of at least {SMALLEST_SIDE}, got {tuple(shape)}"
        )
    sizes, circular = _grid_sizes(sides), padding == "circular"
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
    """
    dim = math.prod(shape)
    h = min(max(1 << (4 * dim - 1).bit_length(), 128), 1024)
    outer, inner = scale_widths([h, max(h // 2, 128)], width)
    flatten, unflatten = ([nn.Flatten()], [nn.Unflatten(1, shape)]) if len(shape) > 1 else ([], [])
    return Pair(
        nn.Sequential(*flatten, *dense(dim, outer, inner, latent)),
        nn.Sequential(*dense(latent, inner, outer, dim), *unflatten, _activation(value_range)),
    )


def residual(shape: Shape, latent: int, width: float = 1.0, value_range: ValueRange = None) -> Pair:
    """Return fully connected networks with a linear path (:mod:`lorae.nn.residual`).

    Two hidden layers of 256 units (times `width`) each way.
    """
    (hidden,) = scale_widths([256], width)
    decoder = linear_path.decoder(latent, hidden, shape)
    if value_range is not None:
        decoder.append(_activation(value_range))
    return Pair(linear_path.encoder(shape, hidden, latent), decoder)


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
        width: positive factor on the hidden numbers of channels or units (rounded, at least 1).
        value_range: the range of the decoder's outputs: (0, 1) by a sigmoid, (-1, 1) by tanh, or
            None if unbounded. The paper's networks always end in tanh, as published.
        padding: what lies beyond the grid: zeros, or circular for a grid that is periodic along
            every axis, which only "conv" takes.

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
    check_range("latent", latent, 1)
    check_range("width", width, 0, open_low=True)
    _activation(value_range)  # checks the range, which the paper's networks ignore
    if name == "conv":
        check_choice("padding", padding, PADDINGS)
        return convolutional(shape, latent, width, value_range, padding)
    if padding != "zeros":
        raise InputError(f"padding must be zeros for the network {name!r}, got {padding!r}")
    if name not in PAPER_SHAPES:
        if not shape or min(shape) < 1:
            raise InputError(f"shape must have only positive sides, got {tuple(shape)}")
        return NETWORKS[name](shape, latent, width, value_range)
    if shape != PAPER_SHAPES[name]:
        raise InputError(
            f"shape must be {PAPER_SHAPES[name]} for the network {name!r}, got {tuple(shape)}"
        )
    return NETWORKS[name](latent, width)


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
    layers = {None: nn.Identity, (0.0, 1.0): nn.Sigmoid, (-1.0, 1.0): nn.Tanh}
    if value_range not in layers:
        raise InputError(f"value_range must be (0, 1), (-1, 1) or None, got {value_range!r}")
    return layers[value_range]()
