"""Autoencoders that training starts from: default networks for any samples, or the user's modules.

The default networks start as principal component analysis, with a nonlinear part of zero.
"""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from lorae.errors import InputError
from lorae.linalg.incomplete import choose_factors
from lorae.nn.autoencoder import Architecture, Autoencoder, build
from lorae.nn.bridges.base import NoBridge
from lorae.nn.residual import principal_axes, start_from_components
from lorae.nn.wrapping import wrap
from lorae.utils.samples import has_gaps


def build_model(
    samples: Tensor,
    latent: int,
    *,
    width: float = 1.0,
    standardize: bool = False,
    categories: tuple[int, ...] = (),
    modules: tuple[nn.Module, nn.Module] | None = None,
) -> Autoencoder:
    """Return an untrained autoencoder, with weights from PyTorch's global generator.

    Default networks are exactly PCA.

    Args:
        samples: training samples, n x D or of any other shape, as floats.
        latent: number of codes, 1 to the number of values of a sample.
        width: factor on the hidden widths.
        standardize: whether values are scaled to variance 1 each, instead of all by one number.
        categories: numbers of categories of columns whose one-hot values are the last of a sample.
        modules: encoder and decoder of the user, to be used instead of default networks; a linear
            layer reduces their codes to `latent`.

    Raises:
        InputError: if the modules do not fit the samples or each other.
    """
    shift, scale = scaling(samples, standardize=standardize, categories=categories)
    if modules is not None:
        if has_gaps(samples) or categories:
            raise InputError(
                "X must have no gaps and no categories for your own encoder and decoder, got some"
            )
        return wrap_modules(
            *modules, samples[:2], latent=latent, shift=shift.float(), scale=scale.float()
        )
    centred = ((samples.double() - shift) / scale).flatten(1)
    filling = choose_factors(centred) if has_gaps(samples) else None
    if filling is not None:
        centred = filling.fill(centred)
    axes, deviations = principal_axes(centred, latent)
    architecture = Architecture(
        "residual",
        tuple(samples.shape[1:]),
        latent,
        width=width,
        value_range=None,
        factors=0 if filling is None else filling.loadings.shape[1],
        categories=categories,
    )
    model = build(architecture, shift.float(), scale.float())
    if filling is not None and model.gaps is not None:
        model.gaps.set_factors(filling)
    encoder, decoder = model.encoder, model.decoder
    assert isinstance(encoder, nn.Sequential)
    assert isinstance(decoder, nn.Sequential)
    spread = float(deviations.square().mean().sqrt().clamp(min=1e-30))
    start_from_components(encoder, decoder, axes, spread)
    return model


def scaling(
    samples: Tensor, *, standardize: bool, categories: tuple[int, ...] = ()
) -> tuple[Tensor, Tensor]:
    """Return the mean of samples, and the standard deviation of each value or of all, in float64.

    A value that does not vary has scale 1. If there are categories, numbers have that of each
    value, and the values of a column of categories the root of the sum of their variances: scaled,
    each column has variance 1.
    """
    mean = mean_sample(samples)
    squares = (samples - mean).square()
    variance = squares.nanmean(0) if has_gaps(samples) else squares.mean(0)
    if categories:
        numbers = variance[: -sum(categories)]
        groups = torch.split(variance[-sum(categories) :], list(categories))
        variance = torch.cat([numbers, *(group.sum().expand_as(group) for group in groups)])
    elif not standardize:
        variance = variance.mean().expand_as(variance)
    return mean, variance.sqrt().where(variance > 0, 1.0)


def mean_sample(samples: Tensor) -> Tensor:
    """Return the mean of the observed values of samples, in float64."""
    if has_gaps(samples):
        return samples.nanmean(0, dtype=torch.float64)
    return samples.mean(0, dtype=torch.float64)


def wrap_modules(
    encoder: nn.Module,
    decoder: nn.Module,
    samples: Tensor,
    *,
    latent: int,
    shift: Tensor,
    scale: Tensor,
) -> Autoencoder:
    """Return an autoencoder of copies of the user's modules, with linear layers at the codes.

    Args:
        encoder: from scaled samples to codes.
        decoder: from codes to scaled samples.
        samples: a few, on which the modules are tried.
        latent: number of codes of the result, at most that of the modules.
        shift: subtracted from samples.
        scale: divides samples.

    Raises:
        InputError: if the modules do not fit the samples or each other.
    """
    encoder, decoder = copy.deepcopy(encoder), copy.deepcopy(decoder)
    model = wrap(encoder, decoder, bridge="none", sample=samples.float(), shift=shift, scale=scale)
    own = model.bridge.latent
    if latent > own:
        raise InputError(
            f"n_components must be at most the {own} codes of the encoder, got {latent}"
        )
    model.encoder, model.decoder = add_linear_layers(encoder, decoder, own, latent)
    model.bridge = NoBridge(latent)
    assert model.architecture is not None
    model.architecture = replace(model.architecture, latent=latent)
    return model


@torch.no_grad()
def add_linear_layers(
    encoder: nn.Module, decoder: nn.Module, own: int, latent: int
) -> tuple[nn.Sequential, nn.Sequential]:
    """Return an encoder followed, and a decoder preceded, by a linear layer of codes.

    The layers keep the first `latent` of the `own` codes. They absorb every linear map of the
    codes, so that the modules may end and begin in any way.
    """
    first, last = nn.Linear(latent, own), nn.Linear(own, latent)
    for layer in (first, last):
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(encoder, last), nn.Sequential(first, decoder)
