"""Building blocks of the networks, and the checks that they share.

`width` multiplies every hidden number of channels or units (rounded, at least 1).
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from lorae.utils.validation import check_range

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


def dense(*units: int) -> list[nn.Module]:
    """Return linear layers between consecutive numbers of units, with a ReLU between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise(units):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return layers[:-1]


def downsampling(inputs: int, channels: Sequence[int]) -> list[nn.Module]:
    """Return, for each number of channels, a convolution that halves the sides and a ReLU."""
    layers: list[nn.Module] = []
    for a, b in pairwise([inputs, *channels]):
        layers += [nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()]
    return layers


def upsample(inputs: int, outputs: int, size: tuple[int, int] = (0, 0)) -> nn.ConvTranspose2d:
    """Return a transposed convolution from floor(H/2) x floor(W/2) to the size H x W.

    Odd sides get one row or column of output padding.
    """
    padding = (size[0] % 2, size[1] % 2)
    return nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, output_padding=padding)


def upsampling(
    channels: Sequence[int], sizes: Sequence[tuple[int, int]] | None = None
) -> list[nn.Module]:
    """Return :func:`upsample` and a ReLU for each step between channels.

    Args:
        channels: the number of channels before and after each step.
        sizes: the size H x W after each step; even by default.
    """
    steps = list(pairwise(channels))
    layers: list[nn.Module] = []
    for (a, b), size in zip(steps, sizes or [(0, 0)] * len(steps), strict=True):
        layers += [upsample(a, b, size), nn.ReLU()]
    return layers


def check_sizes(latent: int, width: float) -> None:
    """Check the latent dimension and the width of networks.

    Raises:
        InputError: if one is out of range.
    """
    check_range("latent", latent, 1)
    check_range("width", width, 0, open_low=True)


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
    """

    v: Tensor

    def __init__(self, layer: nn.Module, size: Sequence[int]) -> None:
        super().__init__()
        weight = layer.get_parameter("weight").detach()
        self._map = _linear_map(layer)
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


def _linear_map(layer: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the map of a layer without its bias, as a function of input and weight."""
    if isinstance(layer, nn.Linear):
        return functional.linear
    names = ["stride", "padding", "dilation", "groups"]
    kind = type(layer).__name__  # such as ConvTranspose2d
    if "Transpose" in kind:
        names.append("output_padding")
    function = getattr(functional, kind.lower().replace("transpose", "_transpose"))
    return partial(function, bias=None, **{name: getattr(layer, name) for name in names})


@torch.no_grad()
def add_spectral_norm(network: nn.Module, x: Tensor) -> nn.Module:
    """Divide the weight of every layer by the layer's operator norm, in place.

    A chain of such layers and of activations that are 1-Lipschitz is 1-Lipschitz, up to the error
    of the power method (:class:`OperatorNorm`).

    Args:
        network: linear layers and convolutions with zero padding.
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
    sizes: dict[nn.Module, Sequence[int]] = {}
    layers = [module for module in network.modules() if isinstance(module, _LAYERS)]
    hooks = [
        layer.register_forward_pre_hook(
            lambda layer, inputs: sizes.setdefault(layer, inputs[0].shape[1:]) and None
        )
        for layer in layers
    ]
    training = network.training
    network.eval()(x)
    network.train(training)
    for hook in hooks:
        hook.remove()
    for layer, size in sizes.items():
        parametrize.register_parametrization(layer, "weight", OperatorNorm(layer, size))
    return network
