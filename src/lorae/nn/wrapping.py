r"""Autoencoders of the user's own modules.

Any encoder :math:`R^{n \times s} \to R^{n \times k}` and decoder
:math:`R^{n \times l} \to R^{n \times s}` with a bridge between them make an
:class:`lorae.Autoencoder`, which the rest of the package trains, evaluates, folds and saves like
any other.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from lorae.errors import InputError
from lorae.nn import folding
from lorae.nn.autoencoder import Architecture, Autoencoder
from lorae.nn.bridges.base import Bridge
from lorae.nn.bridges.registry import build_bridge
from lorae.utils.samples import as_float
from lorae.utils.validation import check_range


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
    """Return an autoencoder of your own modules, with a bridge between them.

    The modules become parts of it, not copies. `save` keeps the weights of all three, and
    :func:`lorae.load` rebuilds the model if it is given modules like these.

    Args:
        encoder: maps scaled samples to n x k.
        decoder: maps n x l to scaled samples.
        latent: the dimension l of the codes; by default the number k of the encoder's outputs,
            found by running it on `sample` or, without one, from its last layer.
        bridge: a name in `lorae.nn.bridges.registry.BRIDGES`: none, low-rank, data-space, ...
        settings: arguments of the bridge, such as `{"rank": 8}` for "truncated".
        sample: one or more samples in the units of the data, with a batch axis. With it, encoder
            and decoder are checked and the shape of a sample is known, which exporting needs, and
            folding if the encoder is not an `nn.Sequential`.
        shift: subtracted from a sample, broadcast over it.
        scale: divides a sample, broadcast over it; never 0.
        value_range: the range of the scaled data, None if unbounded.
        prior: whether training makes the codes follow N(0, I), so that samples are drawn from it.

    Raises:
        InputError: if the number of the encoder's outputs is unknown or does not fit the bridge,
            or the modules do not fit the sample.

    Example:
        >>> encoder = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> decoder = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6))
        >>> model = wrap(encoder, decoder)
        >>> model.bridge, model(torch.rand(5, 6)).shape
        (LowRank(), torch.Size([5, 6]))
    """
    if sample is None:
        scaled, outputs = None, _last_outputs(encoder)
    else:
        if sample.ndim < 2 or len(sample) < 1:
            raise InputError(f"sample must have shape (n, ...), got {_size(sample)}")
        scaled = (as_float(sample) - shift) / scale
        outputs = probe_encoder(encoder, scaled)
    if latent is None and outputs is None:
        raise InputError(
            "latent must be given, or a sample to run the encoder on, unless the encoder is an "
            "nn.Sequential that ends in a Linear layer"
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
    between = _build_bridge(architecture, outputs)
    if scaled is not None:
        probe_decoder(decoder, between.latent, scaled)
    model = Autoencoder(
        encoder,
        between,
        decoder,
        shift=shift,
        scale=scale,
        prior=prior,
        architecture=architecture,
    )
    weight = next(encoder.parameters(), None)
    return model if weight is None else model.to(weight)  # moves the bridge and the units


@torch.no_grad()
def probe_encoder(encoder: nn.Module, samples: Float[Tensor, "n *shape"]) -> int:
    """Return the number k of outputs of an encoder, by running a copy of it.

    The samples, at least 1, are in the units of the networks.
    """
    codes = _run("encoder", encoder, samples, f"samples of shape {_size(samples[0])}")
    if codes.ndim != 2 or len(codes) != len(samples):
        raise InputError(
            f"encoder must map {len(samples)} samples to {len(samples)} x k codes, got "
            f"{_size(codes)}: an nn.Flatten() at its end may help"
        )
    return codes.shape[1]


@torch.no_grad()
def probe_decoder(decoder: nn.Module, latent: int, samples: Float[Tensor, "n *shape"]) -> None:
    """Check that a decoder maps codes to outputs of the shape of samples, by running a copy."""
    codes = torch.zeros(len(samples), latent)
    output = _run("decoder", decoder, codes, f"codes of {latent} dimensions")
    if output.shape != samples.shape:
        raise InputError(
            f"decoder must output samples of shape {_size(samples[0])}, as the encoder takes, got "
            f"{_size(output[0])}"
        )


def _run(name: str, network: nn.Module, inputs: Tensor, what: str) -> Tensor:
    """Return the outputs of a copy of a network in evaluation mode."""
    try:
        outputs = copy.deepcopy(network).eval()(inputs.to(next(network.parameters(), inputs)))
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{name} must take {what}, and failed: {reason}") from None
    if not isinstance(outputs, Tensor):
        raise InputError(f"{name} must output one tensor, got {type(outputs).__name__}")
    return outputs


def _build_bridge(architecture: Architecture, outputs: int | None) -> Bridge:
    a = architecture
    check_range("latent", a.latent, 1)
    try:
        bridge = build_bridge(a.bridge, a.latent, a.settings)
    except TypeError:
        raise InputError(
            f"settings must be those of the bridge {a.bridge!r}, got {a.settings}"
        ) from None
    if outputs not in (None, bridge.inputs):
        raise InputError(
            f"encoder must have {bridge.inputs} outputs for a bridge {a.bridge!r} of latent "
            f"{bridge.latent}, got {outputs}"
        )
    return bridge


def _last_outputs(encoder: nn.Module) -> int | None:
    """Return the number of outputs of a network that certainly ends in a dense layer."""
    try:
        name, last = folding.output_layer(encoder)
    except InputError:
        return None
    certain = folding.in_sequence(encoder, name) and isinstance(last, nn.Linear)
    return len(last.weight) if certain else None


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "()"
