"""A decoder as layers that the explorer's JavaScript runs, and their weights as text.

:func:`simplify` turns a decoder, with an affine map of its codes before it, into a flat sequence of
supported layers; :func:`pack` describes the sequence for `templates/decoder.js`, which computes in
float64, and large products in float32, from weights in float16 or float32. (The smallest
WebAssembly of onnxruntime-web 1.30.0 alone would add 14 MB to every page.)
"""

import base64
import copy
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lorae.nn.categories import RARE, TINY, Categories
from lorae.nn.folding import Convolution, Transposed, replace_weight
from lorae.nn.inference import evaluation_mode
from lorae.nn.residual import AddCorrection

MAX_WEIGHTS = 4_000_000
"""The largest number of weights of a decoder that a page holds."""
MAX_PRODUCTS = 500_000_000
"""The largest number of products in one decoding, about a quarter of a second in a browser."""

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_RESHAPING = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout)  # in evaluation mode
_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.ELU: "elu",
    nn.SiLU: "silu",
    nn.GELU: "gelu",
    nn.Softplus: "softplus",
}


class Unsupported(Exception):
    """The browser cannot run a layer; the message names it."""


@torch.no_grad()
def simplify(
    decoder: nn.Module, B: Float[Tensor, "l k"], mean: Float[Tensor, " l"]
) -> nn.Sequential:
    """Return plain layers that map u to decoder(B u + mean), in float32 on the CPU.

    Nested sequences are flattened, parametrizations (spectral norms) are computed, and adjacent
    linear maps become one, in float64.

    Args:
        decoder: the decoder, which stays unchanged.
        B: the matrix.
        mean: the offset.

    Raises:
        Unsupported: if the decoder has a layer that the browser does not know.

    Example:
        >>> simplify(nn.Sequential(nn.Linear(4, 6), nn.Tanh()), torch.eye(4)[:, :2], torch.ones(4))
        Sequential(
          (0): Linear(in_features=2, out_features=6, bias=True)
          (1): Tanh()
        )
    """
    merged: list[nn.Module] = [_linear(B.double(), mean.double())]
    with evaluation_mode(decoder):
        leaves = [leaf.cpu().double() for leaf in _leaves(decoder)]
    for layer in leaves:
        last = merged[-1]
        if isinstance(layer, nn.Linear) and isinstance(last, nn.Linear):
            offset = _bias(layer, layer.out_features).double()
            merged[-1] = _linear(layer.weight @ last.weight, layer.weight @ last.bias + offset)
        else:
            merged.append(layer)
    return nn.Sequential(*merged).float().eval().requires_grad_(requires_grad=False)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], len(weight), dtype=torch.float64, device="meta")
    layer.weight, layer.bias = nn.Parameter(weight.cpu()), nn.Parameter(bias.cpu())
    return layer


def _leaves(network: nn.Module) -> list[nn.Module]:
    """Return copies of the layers, without parametrizations, in the order in which they run."""
    if type(network) is nn.Sequential:
        return [leaf for part in network for leaf in _leaves(part)]
    if type(network) is AddCorrection:
        inner = nn.Sequential(*_leaves(network.correction))
        return [AddCorrection(network.values, inner, float(network.scale))]
    if parametrize.is_parametrized(network):
        plain: Any = network
        network = replace_weight(plain, plain.weight, plain.bias)
    _check_supported(network)
    return [copy.deepcopy(network).eval()]


def _check_supported(layer: nn.Module) -> None:
    known = (
        nn.Linear,
        *Convolution.__args__,
        *Transposed.__args__,
        *_NORMS,
        AddCorrection,
        Categories,
    )
    if type(layer) not in (*known, *_RESHAPING, *_ACTIVATIONS):
        raise Unsupported(f"a layer {type(layer).__name__}")
    if layer._forward_hooks or layer._forward_pre_hooks:  # noqa: SLF001 - no public way to ask
        raise Unsupported(f"hooks on a layer {type(layer).__name__}")
    if isinstance(layer, Convolution | Transposed) and (
        layer.groups != 1 or isinstance(layer.padding, str) or layer.padding_mode != "zeros"
    ):
        raise Unsupported("a convolution with groups or a special padding")
    if isinstance(layer, _NORMS) and layer.running_mean is None:
        raise Unsupported("a batch norm without running statistics")
    if isinstance(layer, nn.Softplus) and (layer.beta, layer.threshold) != (1, 20):
        raise Unsupported("a Softplus with its own constants")


def round_to_half(layers: nn.Sequential) -> nn.Sequential:
    """Return a copy of layers whose weights are rounded to float16."""
    rounded = copy.deepcopy(layers)
    for tensor in rounded.state_dict().values():
        tensor.copy_(tensor.half().float() if tensor.is_floating_point() else tensor)
    return rounded


@dataclass
class Packing:
    """Layers as JavaScript reads them, and all their weights.

    Attributes:
        layers: one dictionary for each layer.
        tensors: the weights, in the order of their offsets.
        products: the number of products of one decoding.
    """

    layers: list[dict[str, Any]] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    products: int = 0

    @property
    def weights(self) -> int:
        """The number of weights."""
        return sum(tensor.numel() for tensor in self.tensors)

    def encode(self, dtype: torch.dtype) -> str:
        """Return the weights in base64, little-endian."""
        flat = torch.cat([tensor.flatten().to(dtype) for tensor in self.tensors])
        return encode_floats(flat)

    def store(self, tensor: Tensor) -> int:
        """Add a tensor and return its offset."""
        offset = self.weights
        self.tensors.append(tensor.detach().float())
        return offset


def encode_floats(values: Tensor) -> str:
    """Return floats in base64, little-endian: float16 as it is, all others as float32."""
    values = values if values.dtype == torch.float16 else values.float()
    array = values.detach().contiguous().numpy()
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()


@torch.no_grad()
def pack(layers: nn.Sequential) -> Packing:
    """Describe simplified layers for the browser.

    Args:
        layers: as :func:`simplify` returns them.

    Raises:
        Unsupported: if they hold too many weights, or take too long, for a page.

    Example:
        >>> packing = pack(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
        >>> [layer["kind"] for layer in packing.layers], packing.weights
        (['linear', 'relu'], 9)
    """
    first = layers[0]
    assert isinstance(first, nn.Linear)
    packing = Packing()
    packing.layers = _pack(layers, torch.zeros(1, first.in_features), packing)
    if packing.weights > MAX_WEIGHTS or packing.products > MAX_PRODUCTS:
        raise Unsupported(
            f"{packing.weights / 1e6:.1f} million weights and {packing.products / 1e6:,.0f} "
            "million products for each sample"
        )
    return packing


def _pack(layers: nn.Module, x: Tensor, packing: Packing) -> list[dict[str, Any]]:
    """Return descriptions of layers, whose sizes follow from one input."""
    packed = []
    for layer in layers.children():
        y = layer(x)
        if isinstance(layer, Categories):
            packed += _pack_categories(layer, y.shape[1], packing)
        elif not isinstance(layer, _RESHAPING):
            packed.append(_pack_layer(layer, x, y, packing))
        x = y
    return packed


def _pack_layer(layer: nn.Module, x: Tensor, y: Tensor, packing: Packing) -> dict[str, Any]:
    if isinstance(layer, nn.Linear):
        if x.ndim != 2:
            raise Unsupported("a linear layer over the last of several axes")
        packing.products += layer.weight.numel()
        return {
            "kind": "linear",
            "inputs": layer.in_features,
            "outputs": layer.out_features,
            "weight": packing.store(layer.weight),
            "bias": packing.store(_bias(layer, layer.out_features)),
        }
    if isinstance(layer, Convolution | Transposed):
        return _pack_convolution(layer, x, y, packing)
    if isinstance(layer, _NORMS):
        factor, offset = _norm(layer)
        values = y.numel() // len(factor)
        return pack_affine(factor, offset, values, packing)
    if isinstance(layer, AddCorrection):
        v = x[:, layer.values :]
        divide = pack_affine(1 / layer.scale[None], torch.zeros(1), v.shape[1], packing)
        inner = [divide, *_pack(layer.correction, v / layer.scale, packing)]
        return {"kind": "correction", "values": layer.values, "layers": inner}
    slope = getattr(layer, "negative_slope", getattr(layer, "alpha", 0.0))
    return {"kind": _ACTIVATIONS[type(layer)], "slope": slope}


def _pack_convolution(
    layer: Convolution | Transposed, x: Tensor, y: Tensor, packing: Packing
) -> dict[str, Any]:
    transposed = isinstance(layer, Transposed)
    positions = math.prod((x if transposed else y).shape[2:])
    packing.products += positions * layer.weight.numel()
    # A transposed convolution is a product with one row for each output channel and kernel
    # position, then a sum over overlaps; a convolution, a product over gathered patches.
    matrix = layer.weight.flatten(1).mT if transposed else layer.weight.flatten(1)
    return {
        "kind": "transposed" if transposed else "convolution",
        "inputs": layer.in_channels,
        "outputs": layer.out_channels,
        "size": _three(x.shape[2:], 1),
        "outputSize": _three(y.shape[2:], 1),
        "kernel": _three(layer.kernel_size, 1),
        "stride": _three(layer.stride, 1),
        "padding": _three(layer.padding, 0),
        "dilation": _three(layer.dilation, 1),
        "weight": packing.store(matrix),
        "bias": packing.store(_bias(layer, layer.out_channels)),
    }


def _pack_categories(layer: Categories, values: int, packing: Packing) -> list[dict[str, Any]]:
    """Describe logits, softmax and scaled probabilities, with numbers left as they are."""
    numbers, p = values - layer.count, layer.frequencies
    scale = layer.scale.expand(layer.count)
    one, zero = torch.ones(numbers), torch.zeros(numbers)

    def affine(factor: Tensor, offset: Tensor) -> dict[str, Any]:
        return pack_affine(torch.cat([one, factor]), torch.cat([zero, offset]), 1, packing)

    return [
        affine(scale / p.clamp(min=RARE), p.clamp(min=TINY).log()),
        {"kind": "softmax", "start": numbers, "sizes": layer.sizes},
        affine(1 / scale, -p / scale),
    ]


def pack_affine(
    factor: Float[Tensor, " c"], offset: Float[Tensor, " c"], values: int, packing: Packing
) -> dict[str, Any]:
    """Describe a map of c channels, each of so many values, to factor x + offset."""
    return {
        "kind": "affine",
        "channels": len(factor),
        "values": values,
        "weight": packing.store(factor),
        "bias": packing.store(offset),
    }


def _bias(layer: Any, outputs: int) -> Tensor:
    bias: Tensor | None = layer.bias
    return torch.zeros(outputs) if bias is None else bias


def _norm(layer: Any) -> tuple[Tensor, Tensor]:
    """Return factor and offset of a batch norm in evaluation mode."""
    factor = (layer.running_var.double() + layer.eps).rsqrt()
    offset = -layer.running_mean.double() * factor
    if layer.affine:
        factor, offset = factor * layer.weight, offset * layer.weight + layer.bias
    return factor.float(), offset.float()


def _three(values: Any, filler: int) -> list[int]:
    return [filler] * (3 - len(values)) + [int(value) for value in values]
