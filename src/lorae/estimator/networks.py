"""Autoencoders that training starts from: default networks for any samples, or the user's modules.

The default networks of vectors start from principal components. Those of images start from the mean
colour: if they started from the middle of the range, Adam would overshoot the mean of images that
are mostly black and end in a decoder that returns black for all codes.
"""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.data.datasets import image_range, standardisation
from lorae.estimator.inputs import InputFormat
from lorae.estimator.rank_reduction import mean_of
from lorae.nn import networks, residual
from lorae.nn.autoencoder import Architecture, Autoencoder, build
from lorae.nn.wrapping import wrap

_MARGIN = 0.01  # share of the range of values that the initial colour keeps from its ends

ValueRange = tuple[float, float] | None


def build_model(
    samples: Tensor,
    input_format: InputFormat,
    latent: int,
    *,
    width: float = 1.0,
    standardize: bool = True,
    modules: tuple[nn.Module, nn.Module] | None = None,
) -> Autoencoder:
    """Return an untrained autoencoder, with weights from PyTorch's global generator.

    Args:
        samples: training samples.
        input_format: their format.
        latent: number of codes, reduced to the number of values of a sample if that is less.
        width: factor on the hidden widths.
        standardize: whether columns of vectors are scaled to variance 1.
        modules: encoder and decoder of the user, to be used instead of default networks; `latent`
            and `width` do not apply to them.

    Raises:
        InputError: if images are constant, or the modules do not fit the samples or each other.
    """
    shift, scale, value_range = scaling(samples, input_format, standardize=standardize)
    if modules is not None:
        return wrap_modules(*modules, samples[:2], shift, scale)
    network = networks.choose(input_format.shape) if input_format.is_image else "residual"
    latent = min(latent, input_format.n_values)
    model = build(
        Architecture(network, input_format.shape, latent, width=width, value_range=value_range),
        shift,
        scale,
    )
    encoder, decoder = model.encoder, model.decoder
    assert isinstance(encoder, nn.Sequential)
    assert isinstance(decoder, nn.Sequential)
    if input_format.is_image:
        colour = model.scaled(mean_of(samples).float()[None]).mean((0, 2, 3))
        start_from_colour(decoder, colour, value_range)
    else:
        residual.start_from_components(encoder, decoder, model.scaled(samples))
    return model


def scaling(
    samples: Tensor, input_format: InputFormat, *, standardize: bool
) -> tuple[Tensor, Tensor, ValueRange]:
    """Return shift and scale of samples, and the range of the scaled values if it is bounded.

    Images are scaled as in :mod:`lorae.data.datasets`. Columns of vectors are centred and divided
    by their standard deviations, or all by one number; a constant column is divided by 1.

    Raises:
        InputError: if images are constant.
    """
    if input_format.is_image:
        shift, scale, value_range = image_range("X", samples.numpy())
        return torch.from_numpy(shift), torch.from_numpy(scale), value_range
    mean, deviation = (torch.from_numpy(part) for part in standardisation(samples.numpy()))
    if not standardize:
        deviation = deviation.square().mean().sqrt().expand_as(deviation).clone()
    return mean, deviation.where(deviation > 0, 1.0), None


@torch.no_grad()
def start_from_colour(
    decoder: nn.Sequential, colour: Float[Tensor, " c"], value_range: ValueRange
) -> None:
    r"""Set the last bias of a decoder of images, in place, so that zeros before it give a colour.

    The bias becomes the inverse of the output activation: :math:`\log \frac{c}{1 - c}` for the
    range (0, 1), :math:`\operatorname{artanh} c` for (-1, 1), and c if there is no range. Colours
    within a hundredth of the range from an end are moved that far from it.

    Args:
        decoder: ends in a convolution and an activation.
        colour: c, the scaled value of each channel.
        value_range: of the activation.

    Example:
        >>> decoder = nn.Sequential(nn.ConvTranspose2d(4, 2, 1), nn.Sigmoid())
        >>> start_from_colour(decoder, torch.tensor([0.1, 0.7]), (0.0, 1.0))
        >>> decoder(torch.zeros(1, 4, 1, 1)).detach().flatten()
        tensor([0.1000, 0.7000])
    """
    last = decoder[-2]
    assert isinstance(last, nn.ConvTranspose2d)
    assert last.bias is not None
    if value_range is not None:
        low, high = value_range
        share = ((colour - low) / (high - low)).clamp(_MARGIN, 1 - _MARGIN)
        colour = share.logit() / (high - low)  # tanh(x) is 2 sigmoid(2x) - 1
    last.bias.copy_(colour)


def wrap_modules(
    encoder: nn.Module, decoder: nn.Module, samples: Tensor, shift: Tensor, scale: Tensor
) -> Autoencoder:
    """Return an autoencoder of copies of the user's modules, with linear layers at the codes.

    Args:
        encoder: from scaled samples to codes.
        decoder: from codes to scaled samples.
        samples: a few, on which the modules are tried.
        shift: subtracted from samples.
        scale: divides samples.

    Raises:
        InputError: if the modules do not fit the samples or each other.
    """
    encoder, decoder = copy.deepcopy(encoder), copy.deepcopy(decoder)
    model = wrap(encoder, decoder, bridge="none", sample=samples, shift=shift, scale=scale)
    model.encoder, model.decoder = add_linear_layers(encoder, decoder, model.bridge.latent)
    return model


@torch.no_grad()
def add_linear_layers(
    encoder: nn.Module, decoder: nn.Module, latent: int
) -> tuple[nn.Sequential, nn.Sequential]:
    """Return an encoder followed, and a decoder preceded, by a linear layer that is the identity.

    A change of the codes is absorbed by these layers, so that the modules may end and begin in
    any way.
    """
    first, last = nn.Linear(latent, latent), nn.Linear(latent, latent)
    for layer in (first, last):
        layer.weight.copy_(torch.eye(latent))
        layer.bias.zero_()
    return nn.Sequential(encoder, last), nn.Sequential(first, decoder)
