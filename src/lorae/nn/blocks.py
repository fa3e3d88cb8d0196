"""Building blocks of the networks.

`width` multiplies every hidden number of channels or units (rounded, at least 1).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

Shape = tuple[int, ...]
ValueRange = tuple[float, float] | None

_LAYERS = (
    nn.Linear,
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


class Pair(NamedTuple):
    """An encoder n x s -> n x l and its decoder n x l -> n x s."""

    encoder: nn.Sequential
    decoder: nn.Sequential


def scale_widths(channels: Sequence[int], width: float) -> list[int]:
    """Return numbers of channels times the width, each at least 1."""
    return [max(1, round(width * c)) for c in channels]


def dense(*units: int, activation: type[nn.Module] = nn.ReLU) -> list[nn.Module]:
    """Return linear layers between consecutive numbers of units, with activations between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise(units):
        layers += [nn.Linear(a, b), activation()]
    return layers[:-1]


class Step(NamedTuple):
    """Kernel, stride and padding of a convolution along one axis of a grid."""

    kernel: int
    stride: int
    padding: int


HALVE, KEEP, POINT = Step(4, 2, 1), Step(3, 1, 1), Step(1, 1, 0)
"""A side is halved (rounding down), or kept; a side of 1 has no neighbours to look at."""

_Kinds = dict[int, Callable[..., nn.Module]]  # by the number of dimensions
_CONVOLUTIONS: _Kinds = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: _Kinds = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_CIRCULAR: _Kinds = {1: nn.CircularPad1d, 2: nn.CircularPad2d, 3: nn.CircularPad3d}
_PLANE = (HALVE, HALVE)


def downsampling(
    inputs: int,
    channels: Sequence[int],
    steps: Sequence[Sequence[Step]] | None = None,
    *,
    circular: bool = False,
) -> list[nn.Module]:
    """Return, for each number of channels, a convolution and a ReLU.

    There are steps of each convolution along each axis; by default both sides of an image are
    halved. A circular grid is periodic along every axis, instead of surrounded by zeros.
    """
    layers: list[nn.Module] = []
    sizes = pairwise([inputs, *channels])
    for (a, b), axes in zip(sizes, steps or [_PLANE] * len(channels), strict=True):
        kernel, stride, padding = zip(*axes, strict=True)
        if circular:
            layers.append(_circular_padding(padding))
            padding = (0,) * len(axes)
        layers += [_CONVOLUTIONS[len(axes)](a, b, kernel, stride, padding), nn.ReLU()]
    return layers


def upsampling(
    channels: Sequence[int],
    steps: Sequence[Sequence[Step]] | None = None,
    sizes: Sequence[Shape] | None = None,
    *,
    circular: bool = False,
) -> list[nn.Module]:
    """Return, for each step between channels, a transposed convolution and a ReLU.

    Each inverts the shapes of a convolution of :func:`downsampling`: a halved side that was odd
    gets one value of output padding. On a periodic grid, the side is continued by one value at both
    ends, and the transposed convolution cuts off what these add beyond the grid. The sizes are
    those of the grid after each step, even by default.
    """
    pairs = list(pairwise(channels))
    steps = steps or [_PLANE] * len(pairs)
    layers: list[nn.Module] = []
    for k, ((a, b), axes) in enumerate(zip(pairs, steps, strict=True)):
        kernel, stride, padding = zip(*axes, strict=True)
        size = sizes[k] if sizes else (0,) * len(axes)
        odd = tuple(side % one.stride for side, one in zip(size, axes, strict=True))
        if circular:
            layers.append(_circular_padding(padding))
            padding = tuple(one.padding * (1 + one.stride) for one in axes)
        layer = _TRANSPOSED[len(axes)](a, b, kernel, stride, padding, output_padding=odd)
        layers += [layer, nn.ReLU()]
    return layers


def _circular_padding(padding: Sequence[int]) -> nn.Module:
    """Return the layer that continues a periodic grid; PyTorch counts from the last axis."""
    ends = tuple(side for side in reversed(padding) for _ in range(2))
    return _CIRCULAR[len(padding)](ends)


class OperatorNorm(nn.Module):
    r"""Parametrization of a layer's weight that divides it by the operator norm of the layer.

    For the linear map A of the layer, on inputs of one size and without its bias, the norm

    .. math:: \|A\| = \max_v \|A v\| / \|v\|

    is estimated from below by the power method :math:`v \leftarrow A^\top A v / \|A^\top A v\|`,
    with a step at each use of the weight in training. Stride and padding are part of A. The largest
    singular value of the reshaped kernel, which `torch.nn.utils.parametrizations.spectral_norm`
    divides by, is another number for a convolution.

    Args:
        layer: a linear layer, a convolution or a transposed convolution.
        size: the size of one of its inputs, without the batch.
        before: what precedes it and belongs to the map, such as padding.
    """

    v: Tensor

    def __init__(
        self, layer: nn.Module, size: Sequence[int], before: nn.Module | None = None
    ) -> None:
        super().__init__()
        weight = layer.get_parameter("weight").detach()
        self._map = _linear_map(layer, before or nn.Identity())
        noise = torch.randn(1, *size, generator=torch.Generator().manual_seed(0))
        self.register_buffer("v", noise.to(weight))
        for _ in range(20):
            self._step(weight)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight divided by the estimate."""
        with torch.autocast(weight.device.type, enabled=False):
            if self.training:
                self._step(weight.detach())
            norm = self._map(self.v.clone(), weight).norm()
        normalized: Tensor = weight / norm
        return normalized

    def _step(self, weight: Tensor) -> None:
        """Make one step: the gradient of half of ||A v||^2 is A^T A v."""
        with torch.enable_grad():
            v = self.v.clone().requires_grad_()
            (image,) = torch.autograd.grad(self._map(v, weight).square().sum() / 2, v)
        self.v.copy_(image / image.norm())


def _linear_map(layer: nn.Module, before: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the map of a layer without its bias, as a function of input and weight."""
    if isinstance(layer, nn.Linear):
        return functional.linear
    names = ["stride", "padding", "dilation", "groups"]
    kind = type(layer).__name__  # such as ConvTranspose2d
    if "Transpose" in kind:
        names.append("output_padding")
    function = getattr(functional, kind.lower().replace("transpose", "_transpose"))
    settings = {name: getattr(layer, name) for name in names}
    return lambda v, weight: function(before(v), weight, None, **settings)


@torch.no_grad()
def add_spectral_norm(network: nn.Module, x: Tensor) -> nn.Module:
    """Divide the weight of every layer by the layer's operator norm, in place.

    A chain of such layers and of activations that are 1-Lipschitz is 1-Lipschitz, up to the error
    of the power method (:class:`OperatorNorm`).

    Args:
        network: linear layers and convolutions; circular padding is part of the layer after it.
        x: one or more inputs; the norm of a convolution depends on the size of its input.

    Returns:
        The network.

    Reference:
        Miyato et al., Spectral Normalization for Generative Adversarial Networks (ICLR 2018), who
        divide by the norm of the reshaped kernel; Gouk et al., Regularisation of Neural Networks
        by Enforcing Lipschitz Continuity (Machine Learning 2021), for that of the convolution.

    Example:
        >>> layer = add_spectral_norm(nn.Linear(3, 3), torch.zeros(1, 3)).eval()
        >>> torch.linalg.matrix_norm(layer.weight, 2).item() <= 1.01
        True
    """
    modules = list(network.modules())
    padding = {
        b: a for a, b in pairwise(modules) if type(a) in _CIRCULAR.values()
    }  # by the layer after it
    sizes: dict[nn.Module, Sequence[int]] = {}
    hooks = [
        padding.get(layer, layer).register_forward_pre_hook(
            lambda _, inputs, layer=layer: sizes.setdefault(layer, inputs[0].shape[1:]) and None
        )
        for layer in modules
        if isinstance(layer, _LAYERS)
    ]
    training = network.training
    network.eval()(x)
    network.train(training)
    for hook in hooks:
        hook.remove()
    for layer, size in sizes.items():
        norm = OperatorNorm(layer, size, padding.get(layer))
        parametrize.register_parametrization(layer, "weight", norm)
    return network
