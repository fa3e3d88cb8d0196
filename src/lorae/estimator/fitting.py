"""The networks that an estimator starts from, for samples of any shape or of the user's making."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.data.datasets import image_range, standardisation
from lorae.errors import InputError
from lorae.estimator.containers import Container
from lorae.estimator.model_selection import rule_for, select_rank, warn_if_no_better_than_mean
from lorae.estimator.rank_reduction import (
    STAGE,
    Point,
    Trainer,
    ladder,
    mean_of,
    train_at_rank,
    walk,
)
from lorae.estimator.validation import is_whole
from lorae.nn import networks, residual
from lorae.nn.autoencoder import Architecture, Autoencoder, build, clone
from lorae.nn.bridges.base import NoBridge
from lorae.nn.wrapping import probe_decoder, probe_encoder
from lorae.objectives.base import AE
from lorae.utils.samples import as_float

_WIDE = 0.6  # of a training, without constraint before a walk
_LAST = 0.4  # of a training, at the rank that was chosen
_EDGE = 0.01  # share of the range of values that a decoder of images starts away from its ends

Shape = tuple[int, ...]
Scaling = tuple[Tensor, Tensor, tuple[float, float] | None]


def scaling(samples: Tensor, container: Container, *, standardize: bool) -> Scaling:
    """Return shift and scale of samples, and the range of scaled values where it is bounded.

    Images are scaled as those of :mod:`lorae.data.datasets`. Columns of vectors are centred and divided by
    their standard deviations, or all by one number; a constant column is divided by 1.

    Raises:
        InputError: if images are all of one value.
    """
    if container.is_image:
        shift, scale, value_range = image_range("X", samples.numpy())
        return torch.from_numpy(shift), torch.from_numpy(scale), value_range
    mean, deviation = (torch.from_numpy(part) for part in standardisation(samples.numpy()))
    if not standardize:
        deviation = deviation.square().mean().sqrt().expand_as(deviation).clone()
    return mean, deviation.where(deviation > 0, 1.0), None


def architecture(
    container: Container, latent: int, width: float, value_range: tuple[float, float] | None
) -> Architecture:
    """Return what the default networks for samples are."""
    network = "residual" if not container.is_image else networks.choose(container.shape)
    return Architecture(network, container.shape, latent, width=width, value_range=value_range)


def default_model(samples: Tensor, plan: Architecture, shift: Tensor, scale: Tensor) -> Autoencoder:
    """Return the default networks.

    Those of vectors start from principal components, and those of images at the mean colour: from
    the middle of the range Adam hurries past the mean of images that are mostly black, to a
    decoder that puts out black whatever its codes are, and is stuck there.
    """
    model = build(plan, shift, scale)
    encoder, decoder = model.encoder, model.decoder
    assert isinstance(encoder, nn.Sequential)
    assert isinstance(decoder, nn.Sequential)
    if plan.network == "residual":
        residual.start_from_components(encoder, decoder, model.scaled(samples))
    else:
        colour = model.scaled(mean_of(samples).float()[None]).mean((0, 2, 3))
        start_from_colour(decoder, colour, plan.value_range)
    return model


@torch.no_grad()
def start_from_colour(
    decoder: nn.Sequential,
    colour: Float[Tensor, " c"],
    value_range: tuple[float, float] | None,
) -> None:
    r"""Make what a decoder of images puts out, in place, a colour where its last layer gets 0.

    The bias b of that layer becomes the inverse of the activation: in a range of (0, 1)
    :math:`\log \frac{c}{1 - c}`, in (-1, 1) :math:`\operatorname{artanh} c`, without one c. Colours
    closer than a hundredth of the range to an end count as that far from it.

    Args:
        decoder: that ends in a convolution and an activation.
        colour: c, a value for each channel, scaled.
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
        share = ((colour - low) / (high - low)).clamp(_EDGE, 1 - _EDGE)
        colour = share.logit() / (high - low)  # tanh(x) is 2 sigmoid(2x) - 1
    last.bias.copy_(colour)


def own_model(
    encoder: nn.Module, decoder: nn.Module, latent: int, shift: Tensor, scale: Tensor
) -> Autoencoder:
    """Return copies of the user's modules, each with a linear layer of its own at the codes.

    That layer, at first the identity, is what absorbs changes of the codes, so that the modules
    may begin and end in whatever they like.
    """
    ends = [nn.Linear(latent, latent) for _ in range(2)]
    with torch.no_grad():
        for end in ends:
            end.weight.copy_(torch.eye(latent))
            end.bias.zero_()
    return Autoencoder(
        nn.Sequential(copy.deepcopy(encoder), ends[0]),
        NoBridge(latent),
        nn.Sequential(ends[1], copy.deepcopy(decoder)),
        shift=shift,
        scale=scale,
    )


def fresh_model(
    samples: Tensor,
    container: Container,
    latent: int,
    *,
    width: float = 1.0,
    standardize: bool = True,
    modules: tuple[nn.Module, nn.Module] | None = None,
) -> Autoencoder:
    """Return an autoencoder that nothing has trained yet, with weights from torch's generator.

    Args:
        samples: for training.
        container: what they came in.
        latent: latent size, brought down to the number of values of a sample where that is less;
            modules have their own.
        width: factor on hidden widths.
        standardize: as of :func:`scaling`.
        modules: the user's own encoder and decoder.

    Raises:
        InputError: if the modules do not fit the samples.
    """
    shift, scale, value_range = scaling(samples, container, standardize=standardize)
    if modules is not None:
        encoder, decoder = modules
        few = as_float(samples[:2])
        codes = probe_encoder(encoder, few)
        probe_decoder(decoder, codes, few)
        return own_model(encoder, decoder, codes, shift, scale)
    plan = architecture(container, min(latent, container.values), width, value_range)
    return default_model(samples, plan, shift, scale)


def trained(
    trainer: Trainer, model: Autoencoder, n_components: float | str, steps: int
) -> tuple[Autoencoder, list[Point]]:
    """Return a model of the rank that is asked for, and the points of the walk that chose it.

    Args:
        trainer: with held-out samples where the rank is to be chosen.
        model: to start from, without a bridge.
        n_components: a rank, a share or "auto".
        steps: of one training: a given rank takes so many, a chosen one about 2.5 times as many.

    Raises:
        InputError: if the rank is above the latent size.
        Diverged: if the loss is not finite.
    """
    if is_whole(n_components):
        if n_components > model.bridge.latent:
            raise InputError(
                f"n_components must be at most the latent size, {model.bridge.latent}, got "
                f"{n_components}"
            )
        model = train_at_rank(trainer, model, int(n_components), steps)
        warn_if_no_better_than_mean(trainer, model)
        return model, []
    trainer.run("training", AE(model), max(1, round(_WIDE * steps)))
    warn_if_no_better_than_mean(trainer, model)
    stage = max(1, round(STAGE * steps))
    walked = walk(trainer, model, stage, ranks=ladder(model.bridge.latent))
    best, points = select_rank(
        trainer, walked, rule_for(n_components), trainer.mean_error(model), stage
    )
    final = clone(best.model)
    trainer.run("finishing", AE(final), max(1, round(_LAST * steps)), cool=True)
    return final, points
