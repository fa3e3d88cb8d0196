r"""Changes to the layers of a network that is already built.

A linear map behind an encoder can be put into its last layer, one before a decoder into its first,
and both can be given other sizes. Which layer that is, is certain in nested `nn.Sequential`s, as
all networks of :mod:`lorae.nn.networks` are. In a module of the user's own it is taken to be the one
that was registered last, or first, and the result is compared with what it must equal on a few
samples.

A decoder whose layers all have spectral norm 1 is 1-Lipschitz for dense layers, and nearly so for
convolutions.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lorae.errors import InputError

Linear = nn.Linear | nn.Conv2d
_Layer = TypeVar("_Layer", bound=nn.Module)
_SILENT = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout)  # which no inference feels


def last_linear(network: nn.Module) -> tuple[str, Linear]:
    """Return the name and the module of the layer in which a network ends.

    Raises:
        InputError: if that is neither a Linear nor a Conv2d layer (before a Flatten).
    """
    for name, module in reversed(list(_leaves(network))):
        if isinstance(module, Linear) and _groups(module) == 1:
            return name, module
        if not isinstance(module, _SILENT):
            break
    raise InputError(
        f"encoder must end in a Linear or Conv2d layer to be folded, it ends in {_told(module)}"
    )


def first_linear(network: nn.Module) -> tuple[str, nn.Linear | nn.ConvTranspose2d]:
    """Return the name and the module of the layer with which a decoder begins.

    Raises:
        InputError: if that is neither a Linear nor a ConvTranspose2d layer (after an Unflatten).
    """
    for name, module in _leaves(network):
        if isinstance(module, nn.Linear | nn.ConvTranspose2d) and _groups(module) == 1:
            return name, module
        if not isinstance(module, _SILENT):
            break
    raise InputError(
        "decoder must begin with a Linear or ConvTranspose2d layer to be cut, it begins with "
        f"{_told(module)}"
    )


def is_chain(network: nn.Module) -> bool:
    """Return whether the layers of a network run one after the other for certain.

    Example:
        >>> is_chain(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU())))
        True
    """
    leaves = {id(module) for _, module in _leaves(network)}
    return all(
        id(module) in leaves or type(module) is nn.Sequential
        for name, module in network.named_modules()
        if ".parametrizations" not in f".{name}"
    )


def _in_chain(network: nn.Module, name: str) -> bool:
    """Return whether all that holds the layer of this name is an `nn.Sequential`.

    Then the layer that stands first or last is run first or last, whatever the others are.
    """
    parts = name.split(".")[:-1] if name else []
    holders = [
        network,
        *(network.get_submodule(".".join(parts[: k + 1])) for k in range(len(parts))),
    ]
    return not name or all(type(holder) is nn.Sequential for holder in holders)


def with_outputs(network: nn.Module, outputs: int, *, bias: bool | None = None) -> nn.Module:
    """Return the network with a fresh last layer of that many outputs; the rest is shared.

    Example:
        >>> with_outputs(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), 6)[-1]
        Linear(in_features=4, out_features=6, bias=True)
    """
    name, layer = last_linear(network)
    fresh = _of_size(layer, outputs, bias=layer.bias is not None if bias is None else bias)
    fresh.reset_parameters()
    return _replaced(network, name, fresh)


@torch.no_grad()
def absorb(
    network: nn.Module,
    matrix: Float[Tensor, "l k"],
    offset: Float[Tensor, " l"],
    samples: Tensor | None = None,
) -> nn.Module:
    """Return the network followed by z = A e + b, as one network; all but the end is shared.

    If the last layer is e = W h + c, the new one is z = (A W) h + (A c + b), computed in float64.

    Args:
        network: in evaluation mode.
        matrix: A.
        offset: b.
        samples: on which to check a network that is not a chain of layers.

    Raises:
        InputError: if the network does not end in a linear layer of k outputs.
    """
    name, layer = last_linear(network)
    if len(layer.weight) != matrix.shape[1]:
        raise InputError(
            f"encoder must end in a layer of {matrix.shape[1]} outputs, one for each input of the "
            f"bridge, to be folded, it has {len(layer.weight)}"
        )
    A, b = matrix.double(), offset.double()
    if _in_chain(network, name):
        return _replaced(network, name, _followed(layer, A, b))
    if samples is None:
        raise InputError(
            "encoder must be an nn.Sequential to be folded, or have been given a sample by "
            f"lorae.wrap, on which to check the result; it is a {type(network).__name__}"
        )
    expected = network(samples).double() @ A.mT + b
    whole = _replaced(network, name, _followed(layer, A, b))
    if not _alike(whole, samples, expected):
        raise InputError(
            f"encoder must give what its last layer {name!r} gives to be folded, and "
            f"{type(network).__name__} does not"
        )
    return whole


@torch.no_grad()
def absorb_input(
    network: nn.Module, matrix: Float[Tensor, "l r"], offset: Float[Tensor, " l"] | None = None
) -> nn.Module:
    """Return z = U y + b followed by the network, as one of r inputs; the rest is shared.

    The first layer, W z + c or a transposed convolution of one pixel, becomes that of W U,
    computed in float64, with the bias W b + c; an `Unflatten` before it takes r channels. Where it
    is not certain that the network begins with it, the result is checked on random codes.

    Raises:
        InputError: if the network does not begin with such a layer of l inputs, or with a
            convolution where there is an offset.
    """
    name, layer = first_linear(network)
    inputs = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    if inputs != len(matrix):
        raise InputError(
            f"decoder must begin with a layer of {len(matrix)} inputs, it has {inputs}"
        )
    U = matrix.double()
    y = torch.randn(4, U.shape[1], generator=torch.Generator().manual_seed(0), dtype=U.dtype)
    y = y.to(U.device)
    z = y @ U.mT if offset is None else y @ U.mT + offset.double()
    expected = None if _in_chain(network, name) else network(z.to(layer.weight))
    first = _of_inputs(layer, U, offset)
    small = _replaced(_unflattened(network, U.shape[1]), name, first)
    if expected is not None and not _alike(small, y.to(layer.weight), expected):
        raise InputError(
            f"decoder must use its codes in its first layer {name!r} alone to be cut, and "
            f"{type(network).__name__} does not"
        )
    return small


def end_like(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Return an encoder whose last layer has the outputs and the bias that a state has for it.

    Folding may have given it others. What the state does not fit at all stays as it is.
    """
    try:
        name, layer = last_linear(network)
    except InputError:  # so it has not been folded
        return network
    weight, bias = (state.get(f"{name}.{part}".lstrip(".")) for part in ("weight", "bias"))
    if weight is None:  # it is parametrized, so it has not been folded
        return network
    same = (len(weight), bias is None) == (len(layer.weight), layer.bias is None)
    if same and not parametrize.is_parametrized(layer):
        return network
    return with_outputs(network, len(weight), bias=bias is not None)


def beginning_like(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Return a decoder whose first layer has the inputs that a state has for it.

    Cutting may have given it fewer. What the state does not fit at all stays as it is.
    """
    try:
        name, layer = first_linear(network)
    except InputError:  # so it has not been cut
        return network
    weight = state.get(f"{name}.weight".lstrip("."))
    axis = 1 if isinstance(layer, nn.Linear) else 0
    if weight is None:
        return network
    same = weight.shape[axis] == layer.weight.shape[axis]
    if same and not parametrize.is_parametrized(layer):
        return network
    U = torch.zeros(layer.weight.shape[axis], weight.shape[axis])
    return _replaced(_unflattened(network, U.shape[1]), name, _of_inputs(layer, U))


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
    other = _plain(layer)
    other.weight = nn.Parameter(layer.weight.new_empty(outputs, *layer.weight.shape[1:]))
    other.bias = nn.Parameter(layer.weight.new_empty(outputs)) if bias else None
    if isinstance(other, nn.Linear):
        other.out_features = outputs
    else:
        other.out_channels = outputs
    return other


def _followed(layer: Linear, A: Float[Tensor, "l k"], b: Float[Tensor, " l"]) -> Linear:
    """Return a layer that gives A e + b where the layer gives e."""
    other = _of_size(layer, len(A), bias=True)
    weight = layer.weight.double()
    other.weight.copy_((A @ weight.flatten(1)).view(len(A), *weight.shape[1:]))
    assert other.bias is not None
    other.bias.copy_(b if layer.bias is None else A @ layer.bias.double() + b)
    return other


def _of_inputs(
    layer: nn.Linear | nn.ConvTranspose2d,
    U: Float[Tensor, "l r"],
    offset: Float[Tensor, " l"] | None = None,
) -> nn.Linear | nn.ConvTranspose2d:
    """Return a copy of a layer that acts on y as the layer does on U y + b."""
    other, weight = _plain(layer), layer.weight.double()
    U = U.double()
    if isinstance(other, nn.Linear):
        other.weight = nn.Parameter((weight @ U).to(layer.weight))
        other.in_features = U.shape[1]
        if offset is not None:
            bias = 0 if layer.bias is None else layer.bias.double()
            other.bias = nn.Parameter((weight @ offset.double() + bias).to(layer.weight))
    elif offset is not None:
        raise InputError("decoder must begin with a Linear layer to take an offset of its codes")
    else:
        other.weight = nn.Parameter(torch.einsum("lr,lohw->rohw", U, weight).to(layer.weight))
        other.in_channels = U.shape[1]
    return other


def _unflattened(network: nn.Module, channels: int) -> nn.Module:
    """Give every `Unflatten` before the first layer that many channels."""
    for name, module in list(_leaves(network)):
        if isinstance(module, nn.Unflatten):
            sizes = (channels, *tuple(module.unflattened_size)[1:])
            network = _replaced(network, name, nn.Unflatten(module.dim, sizes))
        elif not isinstance(module, _SILENT):
            break
    return network


def _leaves(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers, with their names, in the order in which they were registered."""
    # A layer that is used twice has two places.
    for name, module in network.named_modules(remove_duplicate=False):
        inner = ".parametrizations" in f".{name}"
        if not inner and (parametrize.is_parametrized(module) or not any(module.children())):
            yield name, module


def _plain(layer: _Layer) -> _Layer:
    """Return a copy of a layer whose weights are what its parametrizations make of them."""
    if not parametrize.is_parametrized(layer):
        return copy.deepcopy(layer)
    # A copy would share the class that has the parametrized weight.
    kind: Any = parametrize.type_before_parametrizations(layer)
    other: _Layer = kind.__new__(kind)
    other.__dict__.update(copy.deepcopy(layer.__dict__))
    del other.parametrizations
    for name, _ in layer.get_submodule("parametrizations").named_children():
        other.register_parameter(name, nn.Parameter(getattr(layer, name).detach().clone()))
    return other


def _told(layer: nn.Module) -> str:
    groups = f" with {_groups(layer)} groups" if _groups(layer) > 1 else ""
    return type(layer).__name__ + groups


def _groups(layer: nn.Module) -> int:
    return int(getattr(layer, "groups", 1))


def _alike(network: nn.Module, inputs: Tensor, expected: Tensor) -> bool:
    """Return whether a network gives what it should, up to rounding; no if it cannot run."""
    try:
        found = network(inputs)
    except RuntimeError:
        return False
    size = float(expected.abs().max())
    return torch.allclose(found.double(), expected.double(), rtol=1e-3, atol=1e-3 * size)


def _replaced(network: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    if not name:
        return layer
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, layer)
    return network
