"""Changes to the layers of a network that is already built.

The last layer of an encoder is linear (:mod:`lorae.networks`), so a linear map behind it can be
put into it, and it can be given another number of outputs. A decoder whose layers all have
spectral norm 1 is 1-Lipschitz for dense layers, and nearly so for convolutions.
"""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.errors import InputError

Linear = nn.Linear | nn.Conv2d


def last_linear(network: nn.Module) -> tuple[str, Linear]:
    """Return the name and the module of the layer in which a network ends.

    Raises:
        InputError: if that is neither a Linear nor a Conv2d layer (before a Flatten).
    """
    for name, module in reversed(list(network.named_modules())):
        if isinstance(module, Linear):
            return name, module
        if not isinstance(module, nn.Flatten):
            break
    last = type(list(network.modules())[-1]).__name__
    raise InputError(
        f"encoder must end in a Linear or Conv2d layer to be folded, it ends in {last}"
    )


def with_outputs(network: nn.Module, outputs: int) -> nn.Module:
    """Return the network with a fresh last layer of that many outputs; the rest is shared.

    Example:
        >>> with_outputs(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), 6)[-1]
        Linear(in_features=4, out_features=6, bias=True)
    """
    name, layer = last_linear(network)
    fresh = _of_size(layer, outputs, bias=layer.bias is not None)
    fresh.reset_parameters()
    return _replaced(network, name, fresh)


@torch.no_grad()
def absorb(
    network: nn.Module, matrix: Float[Tensor, "l k"], offset: Float[Tensor, " l"]
) -> nn.Module:
    """Return the network followed by z = A e + b, as one network; all but the end is shared.

    If the last layer is e = W h + c, the new one is z = (A W) h + (A c + b), computed in float64.

    Raises:
        InputError: if the network does not end in a linear layer of k outputs.
    """
    name, layer = last_linear(network)
    weight = layer.weight.double()
    if len(weight) != matrix.shape[1]:
        raise InputError(
            f"encoder must end in a layer of {matrix.shape[1]} outputs, one for each input of the "
            f"bridge, to be folded, it has {len(weight)}"
        )
    A, b = matrix.double(), offset.double()
    folded = _of_size(layer, len(A), bias=True)
    folded.weight.copy_((A @ weight.flatten(1)).view(len(A), *weight.shape[1:]))
    assert folded.bias is not None
    folded.bias.copy_(b if layer.bias is None else A @ layer.bias.double() + b)
    return _replaced(network, name, folded)


@torch.no_grad()
def absorb_input(network: nn.Module, matrix: Float[Tensor, "l r"]) -> nn.Module:
    """Return z = U y followed by the network, as one network of r inputs; the rest is shared.

    The first layer, W z + c or a transposed convolution of one pixel, becomes that of W U,
    computed in float64; an `Unflatten` before it takes r channels.

    Raises:
        InputError: if the network does not begin with such a layer of l inputs.
    """
    before: list[tuple[str, nn.Unflatten]] = []
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Unflatten):
            before.append((name, module))
        if isinstance(module, nn.Linear | nn.ConvTranspose2d):
            break
    else:
        raise InputError("decoder must begin with a Linear or ConvTranspose2d layer to be cut")
    inputs = module.in_features if isinstance(module, nn.Linear) else module.in_channels
    if inputs != len(matrix):
        raise InputError(
            f"decoder must begin with a layer of {len(matrix)} inputs, it has {inputs}"
        )
    first, U = copy.deepcopy(module), matrix.double()
    weight = module.weight.double()
    if isinstance(first, nn.Linear):
        first.weight = nn.Parameter((weight @ U).to(module.weight))
        first.in_features = U.shape[1]
    else:
        kept = torch.einsum("lr,lohw->rohw", U, weight)
        first.weight = nn.Parameter(kept.to(module.weight))
        first.in_channels = U.shape[1]
    for other, unflatten in before:
        sizes = (U.shape[1], *tuple(unflatten.unflattened_size)[1:])
        network = _replaced(network, other, nn.Unflatten(unflatten.dim, sizes))
    return _replaced(network, name, first)


def spectrally_normal(network: nn.Module) -> nn.Module:
    """Divide the weight of every layer by its largest singular value, in place, and return it.

    The weight of a convolution is taken as the matrix of its output channels (input channels,
    for a transposed one) by all else. The singular value is followed by one step of the power
    method at each use of the weight in training.

    Reference:
        Miyato et al., Spectral Normalization for Generative Adversarial Networks (ICLR 2018).
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.utils.parametrizations.spectral_norm(module)
    return network


def _of_size(layer: Linear, outputs: int, *, bias: bool) -> Linear:
    """Return a copy of a layer with room for that many outputs, and nothing in it yet."""
    other = copy.deepcopy(layer)
    other.weight = nn.Parameter(layer.weight.new_empty(outputs, *layer.weight.shape[1:]))
    other.bias = nn.Parameter(layer.weight.new_empty(outputs)) if bias else None
    if isinstance(other, nn.Linear):
        other.out_features = outputs
    else:
        other.out_channels = outputs
    return other


def _replaced(network: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    if not name:
        return layer
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, layer)
    return network
