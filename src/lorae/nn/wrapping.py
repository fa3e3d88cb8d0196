r"""Autoencoders of the user's own modules.

Any encoder :math:`R^{n \times s} \to R^{n \times k}` and decoder
:math:`R^{n \times l} \to R^{n \times s}` with a bridge between them make an
:class:`lorae.Autoencoder`; what the rest of the package does to one, it then does to this one:
objectives, evaluation, densities, folding and saving.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from lorae.errors import InputError
from lorae.nn import layers
from lorae.nn.autoencoder import Architecture, Autoencoder
from lorae.nn.bridges.base import Bridge
from lorae.nn.bridges.registry import build_bridge
from lorae.utils.samples import as_float


def wrap(
    encoder: nn.Module,
    decoder: nn.Module,
    *,
    latent: int | None = None,
    bridge: str = "low-rank",
    settings: Mapping[str, Any] | None = None,
    sample: Shaped[Tensor, "n *shape"] | None = None,
    shift: Tensor | float = 0.0,
    scale: Tensor | float = 1.0,
    value_range: tuple[float, float] | None = None,
    prior: bool = False,
) -> Autoencoder:
    """Return an autoencoder of modules of your own, with a bridge between them.

    The modules become parts of it, not copies. `save` then keeps the weights of all three, and
    :func:`lorae.load` gives the model back when it is given modules like these.

    Args:
        encoder: maps scaled samples to n x k.
        decoder: maps n x l to scaled samples.
        latent: the dimension l of the codes; by default the number k of the encoder's outputs,
            found by running it on `sample` or, without one, read off its last layer.
        bridge: a name in `lorae.nn.bridges.registry.BRIDGES`: none, low-rank, scale-free, ...
        settings: arguments of the bridge, such as `{"rank": 8}` for "truncated".
        sample: one or more samples in the units of the data, the batch first. With it, encoder
            and decoder are tried and the shape of a sample is known, which exporting needs, and
            folding if the encoder is no `nn.Sequential`.
        shift: subtracted from a sample, broadcast over it.
        scale: divides a sample, broadcast over it; never 0.
        value_range: range of the scaled data, None where unbounded.
        prior: whether training is to make codes follow N(0, I), from which new ones are then drawn.

    Raises:
        InputError: if the number of the encoder's outputs cannot be told or does not fit the
            bridge, or the modules do not take what they are given.

    Example:
        >>> encoder = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> decoder = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6))
        >>> model = wrap(encoder, decoder)
        >>> model.bridge, model(torch.rand(5, 6)).shape
        (LowRank(), torch.Size([5, 6]))
    """
    scaled = None if sample is None else _scaled(sample, shift, scale)
    outputs = _last_outputs(encoder) if scaled is None else _tried(encoder, scaled)
    if latent is None and outputs is None:
        raise InputError(
            "latent cannot be read off the encoder, which is no nn.Sequential ending in a Linear "
            "layer: give latent, or a sample to run it on"
        )
    architecture = Architecture(
        "own",
        () if sample is None else tuple(sample.shape[1:]),
        latent or outputs or 0,
        bridge,
        dict(settings or {}),
        value_range=value_range,
        prior=prior,
    )
    between = _bridge(architecture, outputs)
    model = Autoencoder(
        encoder,
        between,
        decoder,
        shift=shift,
        scale=scale,
        prior=prior,
        architecture=architecture,
    )
    place = next(encoder.parameters(), None)
    if place is not None:
        model.to(place)  # bridge and units go where the modules are
    if sample is not None:
        _check_decoder(model, sample)
    return model


def _bridge(architecture: Architecture, outputs: int | None) -> Bridge:
    if architecture.latent < 1:
        raise InputError(f"latent must be at least 1, got {architecture.latent}")
    try:
        bridge = build_bridge(architecture.bridge, architecture.latent, architecture.settings)
    except TypeError:
        raise InputError(
            f"settings {architecture.settings} are not those of the bridge {architecture.bridge!r}"
        ) from None
    if outputs not in (None, bridge.inputs):
        raise InputError(
            f"encoder must have {bridge.inputs} outputs for a bridge {architecture.bridge!r} of "
            f"latent {bridge.latent}, it has {outputs}"
        )
    return bridge


def _scaled(sample: Tensor, shift: Tensor | float, scale: Tensor | float) -> Tensor:
    if sample.ndim < 2 or len(sample) < 1:
        raise InputError(
            f"sample must hold samples along its first axis, got one of shape {_size(sample)}"
        )
    return (as_float(sample) - shift) / scale


def _last_outputs(encoder: nn.Module) -> int | None:
    """Return the number of outputs of a network that for certain ends in a dense layer."""
    if not layers.is_chain(encoder):
        return None
    try:
        _, last = layers.last_linear(encoder)
    except InputError:
        return None
    return last.out_features if isinstance(last, nn.Linear) else None


@torch.no_grad()
def _tried(encoder: nn.Module, scaled: Tensor) -> int:
    """Return the number of outputs of an encoder for samples, which must be one row for each."""
    place = next(encoder.parameters(), scaled)
    try:
        outputs = copy.deepcopy(encoder).eval()(scaled.to(place))
    except RuntimeError as error:
        raise InputError(f"encoder cannot take the sample: {_first_line(error)}") from None
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(scaled):
        given = _size(outputs) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InputError(
            f"encoder must give a row of numbers for each of {len(scaled)} samples, it gives "
            f"{given}: an nn.Flatten() at its end may help"
        )
    return outputs.shape[1]


@torch.no_grad()
def _check_decoder(model: Autoencoder, sample: Tensor) -> None:
    """Check that the decoder gives samples like those the encoder takes."""
    tried = copy.deepcopy(model).eval()
    try:
        made = tried.decode(tried.encode(as_float(sample.to(model.shift.device))))
    except RuntimeError as error:
        raise InputError(
            f"decoder cannot take codes of {model.bridge.latent} dimensions: {_first_line(error)}"
        ) from None
    if made.shape != sample.shape:
        raise InputError(
            f"decoder must give samples of the shape {_size(sample)} that the encoder takes, it "
            f"gives {_size(made)}"
        )


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "no axis"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
