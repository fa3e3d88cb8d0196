r"""Encoders and decoders, as plain sequences of layers.

A pair of networks maps samples to codes and back,

.. math:: E_\phi : \mathbb{R}^s \to \mathbb{R}^l, \qquad D_\theta : \mathbb{R}^l \to \mathbb{R}^s,

where the shape `s` of a sample is C x H x W for an image and D for a vector. Both take a batch
along the first axis. An encoder ends in a linear map without activation (`Linear`, or `Conv2d`
over the remaining image and a `Flatten`), so that a linear map after it, such as the matrix M of
LoRAE, can be folded into that layer. A decoder ends in an activation with the range of the data.

The paper's networks are in :mod:`lorae.nn.paper_networks`; `convolutional`, `fully_connected` and
`residual` fit any other shape, and `build` makes all of them by name. `width` multiplies every
hidden number of channels or units (rounded, at least 1). Parameters have PyTorch's default
initialization, drawn from its global generator.
"""

from collections.abc import Callable

from torch import nn

from lorae.errors import InputError, unknown_name
from lorae.nn import residual as linear_path
from lorae.nn.blocks import (
    Pair,
    Shape,
    ValueRange,
    check_sizes,
    dense,
    downsampling,
    scale_widths,
    upsample,
    upsampling,
)
from lorae.nn.paper_networks import PAPER_SHAPES, celeba, mnist, shapes

SMALLEST_SIDE = 8


# Networks for any shape of sample


def convolutional(
    shape: Shape, latent: int, width: float = 1.0, value_range: ValueRange = (0.0, 1.0)
) -> Pair:
    r"""Return convolutional networks for images of any shape C x H x W with sides of 8 or more.

    The encoder halves the sides, rounding down, until the smaller is 4 to 7, with
    :math:`\min(32 \cdot 2^i, 256)` channels (times `width`) after halving i = 0, 1, ...; a linear
    map follows. The decoder mirrors it, with output padding where a side was odd, so that its
    output has exactly the shape of the input.

    Args:
        shape: shape C x H x W of a sample, without the batch; C >= 1, H and W >= 8.
        latent: number l of latent dimensions, 1 to C H W.
        width: factor on the hidden numbers of channels, positive.
        value_range: the range of the decoder's outputs: (0, 1) by a sigmoid, (-1, 1) by tanh, or
            None if unbounded.

    Raises:
        InputError: if an argument is out of range.

    Example:
        >>> import torch
        >>> encoder, decoder = convolutional((3, 37, 64), 16, width=0.25)
        >>> z = encoder(torch.zeros(5, 3, 37, 64))
        >>> z.shape, decoder(z).shape
        (torch.Size([5, 16]), torch.Size([5, 3, 37, 64]))
    """
    _check_image(shape)
    check_sizes(latent, width)
    sides = _halved(*shape[1:])
    h, w = sides[-1]
    down = scale_widths([min(32 * 2**i, 256) for i in range(len(sides) - 1)], width)
    seed = down[-1] * h * w
    encoder = nn.Sequential(*downsampling(shape[0], down), nn.Flatten(), nn.Linear(seed, latent))
    decoder = nn.Sequential(
        nn.Linear(latent, seed),
        nn.ReLU(),
        nn.Unflatten(1, (down[-1], h, w)),
        *upsampling(down[::-1], sides[-2:0:-1]),
        upsample(down[0], shape[0], sides[0]),
        _activation(value_range),
    )
    return Pair(encoder, decoder)


def fully_connected(
    shape: Shape, latent: int, width: float = 1.0, value_range: ValueRange = None
) -> Pair:
    r"""Return fully connected networks for vectors of D values.

    Two hidden layers, of h and :math:`\max(h / 2, 128)` units (times `width`), with
    :math:`h = 2^{\lceil \log_2 4D \rceil}` kept within 128 to 1024; the decoder mirrors them.

    Args:
        shape: shape (D,) of a sample, without the batch; D >= 1.
        latent: number l of latent dimensions, 1 to D.
        width: factor on the hidden numbers of units, positive.
        value_range: the range of the decoder's outputs: (0, 1) by a sigmoid, (-1, 1) by tanh, or
            None if unbounded.

    Raises:
        InputError: if an argument is out of range.

    Example:
        >>> import torch
        >>> encoder, decoder = fully_connected((13,), 4)
        >>> z = encoder(torch.zeros(5, 13))
        >>> z.shape, decoder(z).shape
        (torch.Size([5, 4]), torch.Size([5, 13]))
    """
    _check_vector(shape)
    check_sizes(latent, width)
    dim, (outer, inner) = shape[0], _units(shape[0], width)
    return Pair(
        nn.Sequential(*dense(dim, outer, inner, latent)),
        nn.Sequential(*dense(latent, inner, outer, dim), _activation(value_range)),
    )


def residual(shape: Shape, latent: int, width: float = 1.0, value_range: ValueRange = None) -> Pair:
    """Return fully connected networks with a linear path (:mod:`lorae.nn.residual`).

    Two hidden layers of 256 units (times `width`) each way.

    Args:
        shape: shape of a sample, without the batch, of any number of dimensions.
        latent: number l of latent dimensions, 1 to the number of values of a sample.
        width: factor on the hidden numbers of units, positive.
        value_range: the range of the decoder's outputs: (0, 1) by a sigmoid, (-1, 1) by tanh, or
            None if unbounded.

    Raises:
        InputError: if an argument is out of range.

    Example:
        >>> import torch
        >>> encoder, decoder = residual((13,), 4)
        >>> decoder(encoder(torch.zeros(5, 13))).shape
        torch.Size([5, 13])
    """
    if not shape or min(shape) < 1:
        raise InputError(f"shape must have only positive sides, got {tuple(shape)}")
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
    name: str, shape: Shape, latent: int, width: float = 1.0, value_range: ValueRange = None
) -> Pair:
    """Return the networks of this name for samples of this shape.

    Args:
        name: one of `NETWORKS`.
        shape: shape of a sample, without the batch.
        latent: number l of latent dimensions, which may exceed the number of values of a sample.
        width: factor on the hidden numbers of channels or units, positive.
        value_range: the range of the decoder's outputs, (0, 1), (-1, 1) or None if unbounded. The
            paper's networks always end in tanh, as published.

    Raises:
        InputError: if the name is unknown, the network does not take this shape, or an argument
            is out of range.

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
    if name not in PAPER_SHAPES:
        return NETWORKS[name](shape, latent, width, value_range)
    if shape != PAPER_SHAPES[name]:
        raise InputError(
            f"shape must be {PAPER_SHAPES[name]} for the network {name!r}, got {tuple(shape)}"
        )
    return NETWORKS[name](latent, width)


def choose(shape: Shape) -> str:
    """Return the name of the default networks for samples of this shape.

    Args:
        shape: shape of a sample, without the batch: C x H x W or (D,).

    Returns:
        "conv" for images and "mlp" for vectors.

    Raises:
        InputError: if the shape is neither, or a side of the image is under 8 pixels.

    Example:
        >>> choose((3, 64, 64)), choose((13,))
        ('conv', 'mlp')
    """
    if len(shape) not in (1, 3):
        raise InputError(
            f"shape must be (C, H, W) for images or (D,) for vectors, got {tuple(shape)}"
        )
    if len(shape) == 1:
        _check_vector(shape)
        return "mlp"
    _check_image(shape)
    return "conv"


# Layers


def _units(dim: int, width: float) -> tuple[int, int]:
    """Return the numbers of units of the outer and the inner hidden layer."""
    h = min(max(1 << (4 * dim - 1).bit_length(), 128), 1024)
    outer, inner = scale_widths([h, max(h // 2, 128)], width)
    return outer, inner


def _halved(h: int, w: int) -> list[tuple[int, int]]:
    """Return the sizes of the image down to the one whose smaller side is 4 to 7."""
    sides = [(h, w)]
    while min(sides[-1]) >= SMALLEST_SIDE:
        sides.append((sides[-1][0] // 2, sides[-1][1] // 2))
    return sides


def _activation(value_range: ValueRange) -> nn.Module:
    if value_range is None:
        return nn.Identity()
    if value_range == (0.0, 1.0):
        return nn.Sigmoid()
    if value_range == (-1.0, 1.0):
        return nn.Tanh()
    raise InputError(f"value_range must be (0, 1), (-1, 1) or None, got {value_range!r}")


# Checks


def _check_image(shape: Shape) -> None:
    if len(shape) != 3 or shape[0] < 1 or min(shape[1:]) < SMALLEST_SIDE:
        raise InputError(
            f"shape of an image must be (C, H, W) with C at least 1 and H and W at least "
            f"{SMALLEST_SIDE}, got {tuple(shape)}"
        )


def _check_vector(shape: Shape) -> None:
    if len(shape) != 1 or shape[0] < 1:
        raise InputError(f"shape of a vector must be (D,) with D at least 1, got {tuple(shape)}")
