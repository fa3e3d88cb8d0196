r"""Affine maps of the codes, folded into the networks.

An encoder that ends in the layer :math:`e = W h + c`, followed by :math:`z = A e + b`, is one with
the last layer

.. math:: z = (A W) h + (A c + b),

and a decoder that begins with :math:`W z + c`, preceded by :math:`z = U y + d`, is one with the
first layer :math:`(W U) y + (W d + c)`. Both are computed in float64.

Which layer runs last or first is certain in nested `nn.Sequential` modules, which all networks of
:mod:`lorae.nn.networks` are. In other modules it is assumed to be the one registered last or
first, and the result is compared with the expected one on a few samples.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lorae.errors import InputError

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
OutputLayer = nn.Linear | Convolution
InputLayer = nn.Linear | Transposed
_TRANSPARENT = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout)  # in evaluation mode


def output_layer(network: nn.Module) -> tuple[str, OutputLayer]:
    """Return the name and the module of the layer in which a network ends."""
    message = "encoder must end in a Linear layer or a convolution to be folded, got"
    leaves = reversed(list(_leaves(network)))
    found: tuple[str, OutputLayer] = _first_layer(leaves, OutputLayer, message)
    return found


def input_layer(network: nn.Module) -> tuple[str, InputLayer]:
    """Return the name and the module of the layer with which a decoder begins."""
    message = "decoder must begin with a Linear layer or a transposed convolution to be cut, got"
    found: tuple[str, InputLayer] = _first_layer(_leaves(network), InputLayer, message)
    return found


def _first_layer(leaves: Iterator[tuple[str, nn.Module]], kind: Any, message: str) -> Any:
    """Return the first of the layers that is not transparent, if it is one of a kind."""
    for name, module in leaves:
        groups = getattr(module, "groups", 1)
        if isinstance(module, kind) and groups == 1:
            return name, module
        if not isinstance(module, _TRANSPARENT):
            break
    found = type(module).__name__ + (f" with {groups} groups" if groups > 1 else "")
    raise InputError(f"{message} {found}")


def in_sequence(network: nn.Module, name: str) -> bool:
    """Return whether the layer of this name is inside nested `nn.Sequential` modules only.

    The layer registered last (first) is then certain to run last (first).
    """
    parts = name.split(".")
    holders = [network.get_submodule(".".join(parts[:k])) for k in range(len(parts))]
    return not name or all(type(holder) is nn.Sequential for holder in holders)


def replace_output_layer(
    network: nn.Module, outputs: int, *, bias: bool | None = None
) -> nn.Module:
    """Replace the last layer by a fresh one, in place, and return the network.

    By default it has a bias if the old one has.
    """
    name, layer = output_layer(network)
    weight = layer.weight.new_empty(outputs, *layer.weight.shape[1:])
    has_bias = layer.bias is not None if bias is None else bias
    fresh = replace_weight(layer, weight, weight.new_empty(outputs) if has_bias else None)
    fresh.reset_parameters()
    return _replace(network, name, fresh)


@torch.no_grad()
def fold_output(
    network: nn.Module,
    A: Float[Tensor, "l k"],
    b: Float[Tensor, " l"],
    samples: Float[Tensor, "n *shape"] | None = None,
) -> nn.Module:
    """Fold z = A e + b into the last layer of an encoder, in place, and return the encoder.

    The encoder is in evaluation mode; where its last layer is uncertain, it is checked on samples.
    """
    name, layer = output_layer(network)
    if len(layer.weight) != A.shape[1]:
        raise InputError(
            f"encoder must end in a layer of {A.shape[1]} outputs, one for each input of the "
            f"bridge, to be folded, got {len(layer.weight)}"
        )
    certain = in_sequence(network, name)
    if not certain and samples is None:
        raise InputError(
            "encoder must be an nn.Sequential to be folded, or have been given a sample by "
            f"lorae.wrap to check the result on, got a {type(network).__name__}"
        )
    A, b = A.double(), b.double()
    expected = None if certain else network(samples).double() @ A.mT + b
    weight = layer.weight.double()
    folded = replace_weight(
        layer,
        (A @ weight.flatten(1)).view(len(A), *weight.shape[1:]).to(layer.weight),
        (b if layer.bias is None else A @ layer.bias.double() + b).to(layer.weight),
    )
    network = _replace(network, name, folded)
    if expected is not None and not _agree(network, samples, expected):
        raise InputError(
            f"encoder must output what its last layer {name!r} outputs to be folded, and "
            f"{type(network).__name__} does not"
        )
    return network


@torch.no_grad()
def whiten_output(
    network: nn.Module, covariance: Float[Tensor, "l l"], ridge: float
) -> Float[Tensor, "l l"] | None:
    r"""Multiply the outputs e of an encoder by a matrix that makes them nearly white, in place.

    With the last weights W it is :math:`(\text{cov}(e) + \rho W W^\top)^{-1/2}`, as if every input
    of the last layer had an additional variance of :math:`\rho`: no weight grows beyond
    :math:`1 / \sqrt \rho` where the inputs do not vary.

    Args:
        network: the encoder; its last weights are changed, in the same parameters.
        covariance: of its outputs.
        ridge: rho, above 0.

    Returns:
        The matrix, in float64 on the CPU; None, with nothing changed, unless the encoder certainly
        ends in a layer whose weights are plain parameters.
    """
    try:
        name, layer = output_layer(network)
    except InputError:
        return None
    if not in_sequence(network, name) or parametrize.is_parametrized(layer):
        return None
    weight = layer.weight.cpu().double().flatten(1)
    squares, U = torch.linalg.eigh(weight @ weight.mT)
    used = squares > 1e-10 * squares[-1]  # the weights of other directions are rounding
    U, squares = U[:, used], squares[used]
    values, V = torch.linalg.eigh(U.mT @ covariance.to(U) @ U + torch.diag(ridge * squares))
    stretch = values.clamp(min=max(1e-6 * float(values[-1]), 1e-20)) ** -0.5
    V = U @ V
    A: Tensor = torch.eye(len(weight)).to(V) + V * (stretch - 1) @ V.mT
    layer.weight.copy_((A @ weight).view_as(layer.weight))
    if layer.bias is not None:
        layer.bias.copy_(A @ layer.bias.cpu().double())
    return A


@torch.no_grad()
def fold_input(
    network: nn.Module, U: Float[Tensor, "l r"], d: Float[Tensor, " l"] | None = None
) -> nn.Module:
    """Fold z = U y + d into the first layer of a decoder, in place, and return the decoder.

    A decoder that begins with an `Unflatten` to one pixel and a transposed convolution takes r
    channels instead. Where the first layer is uncertain, the result is checked on random codes.
    """
    name, layer = input_layer(network)
    if _inputs(layer) != len(U):
        raise InputError(
            f"decoder must begin with a layer of {len(U)} inputs, got {_inputs(layer)}"
        )
    U = U.double()
    d = None if d is None else d.double()
    y = torch.randn(4, U.shape[1], generator=torch.Generator().manual_seed(0)).to(U)
    z = y @ U.mT if d is None else y @ U.mT + d
    expected = None if in_sequence(network, name) else network(z.to(layer.weight))
    network = _replace_input(network, name, _precede(layer, U, d))
    if expected is not None and not _agree(network, y.to(layer.weight), expected):
        raise InputError(
            f"decoder must use its codes in its first layer {name!r} alone to be cut, and "
            f"{type(network).__name__} does not"
        )
    return network


def match_output(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Give the last layer of an encoder the outputs and the bias it has in a state, in place.

    Folding may have changed them. A network that cannot have been folded is returned as it is.
    """
    try:
        name, layer = output_layer(network)
    except InputError:
        return network
    weight, bias = (state.get(f"{name}.{part}".lstrip(".")) for part in ("weight", "bias"))
    if weight is None:  # the layer is parametrized in the state, so it was not folded
        return network
    same = (len(weight), bias is None) == (len(layer.weight), layer.bias is None)
    if same and not parametrize.is_parametrized(layer):
        return network
    return replace_output_layer(network, len(weight), bias=bias is not None)


def match_input(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Give the first layer of a decoder the inputs it has in a state, in place.

    Cutting may have changed them. A network that cannot have been cut is returned as it is.
    """
    try:
        name, layer = input_layer(network)
    except InputError:
        return network
    weight = state.get(f"{name}.weight".lstrip("."))
    if weight is None:
        return network
    rank = weight.shape[1 if isinstance(layer, nn.Linear) else 0]
    if rank == _inputs(layer) and not parametrize.is_parametrized(layer):
        return network
    return _replace_input(network, name, _precede(layer, torch.zeros(_inputs(layer), rank), None))


def _precede(layer: InputLayer, U: Float[Tensor, "l r"], d: Float[Tensor, " l"] | None) -> Any:
    """Return a layer that acts on y as this one does on U y + d."""
    weight, U, bias = layer.weight.double(), U.double(), layer.bias
    if isinstance(layer, nn.Linear):
        if d is not None:
            bias = (weight @ d + (0 if bias is None else bias.double())).to(layer.weight)
        return replace_weight(layer, (weight @ U).to(layer.weight), bias)
    if d is not None:
        raise InputError("decoder must begin with a Linear layer to absorb an offset of its codes")
    return replace_weight(layer, torch.einsum("lr,lo...->ro...", U, weight).to(layer.weight), bias)


def replace_weight(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> Any:
    """Return a copy of a layer with another weight and bias, and without parametrizations."""
    kind: Any = parametrize.type_before_parametrizations(layer)
    other = kind.__new__(kind)  # a deepcopy would share the class of the parametrized layer
    other.__dict__.update(copy.deepcopy(layer.__dict__))
    if parametrize.is_parametrized(layer):
        del other.parametrizations
    other.register_parameter("weight", nn.Parameter(weight.detach().clone()))
    other.register_parameter("bias", None if bias is None else nn.Parameter(bias.detach().clone()))
    if isinstance(other, nn.Linear):
        other.out_features, other.in_features = weight.shape
    elif isinstance(other, Convolution):
        other.out_channels, other.in_channels = weight.shape[:2]
    else:
        other.in_channels, other.out_channels = weight.shape[:2]
    return other


def _replace(network: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    if not name:
        return layer
    network.set_submodule(name, layer)
    return network


def _replace_input(network: nn.Module, name: str, layer: InputLayer) -> nn.Module:
    """Replace the first layer, and `Unflatten` modules before it by ones of as many channels."""
    for before, module in list(_leaves(network)):
        if before == name:
            break
        if isinstance(module, nn.Unflatten):
            sizes = (_inputs(layer), *tuple(module.unflattened_size)[1:])
            network = _replace(network, before, nn.Unflatten(module.dim, sizes))
    return _replace(network, name, layer)


def _leaves(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers with their names, in the order in which they were registered."""
    # A layer that is used twice is in two places.
    for name, module in network.named_modules(remove_duplicate=False):
        inner = ".parametrizations" in f".{name}"
        if not inner and (parametrize.is_parametrized(module) or not any(module.children())):
            yield name, module


def _inputs(layer: InputLayer) -> int:
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def _agree(network: nn.Module, inputs: Tensor | None, expected: Tensor) -> bool:
    """Return whether a network runs and outputs what is expected, up to rounding."""
    try:
        found = network(inputs)
    except RuntimeError:
        return False
    size = float(expected.abs().max())
    return torch.allclose(found.double(), expected.double(), rtol=1e-3, atol=1e-3 * size)
