r"""Fully connected networks with a linear path beside the layers, for vectors.

.. math::
    E(x) = W x + V f(x) + c, \qquad D(z) = A z + g(B z + b) + a,

with f and g of two layers with ReLU, of the sizes of :func:`lorae.nn.networks.fully_connected`.
With V and the last layer of g at 0 the pair is linear, so training can start from principal
components (:func:`start_from_components`) and adds to them what lowers the error. On tables with
few columns and few samples these are already close to the best.

The encoder ends in one linear layer, over x and f(x) together, and the decoder begins with one, so
both absorb a linear map of the codes exactly.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.errors import InputError
from lorae.nn.blocks import dense


class AppendFeatures(nn.Module):
    """x -> (x, f(x)).

    Example:
        >>> AppendFeatures(nn.Linear(3, 5))(torch.zeros(2, 3)).shape
        torch.Size([2, 8])
    """

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Return (x, f(x))."""
        return torch.cat([x, self.features(x)], 1)


class AddCorrection(nn.Module):
    """(u, v) -> u + g(v), where u has d values.

    Example:
        >>> AddCorrection(3, nn.Linear(5, 3))(torch.zeros(2, 8)).shape
        torch.Size([2, 3])
    """

    def __init__(self, values: int, correction: nn.Module) -> None:
        super().__init__()
        self.values = values
        self.correction = correction

    def forward(self, both: Float[Tensor, "n k"]) -> Float[Tensor, "n d"]:
        """Return u + g(v)."""
        corrected: Tensor = both[:, : self.values] + self.correction(both[:, self.values :])
        return corrected


def encoder(values: int, hidden: tuple[int, int], latent: int) -> nn.Sequential:
    """Return the encoder of a vector, with PyTorch's default initialization."""
    features = nn.Sequential(*dense(values, *hidden), nn.ReLU())
    return nn.Sequential(AppendFeatures(features), nn.Linear(values + hidden[1], latent))


def decoder(latent: int, hidden: tuple[int, int], values: int) -> nn.Sequential:
    """Return the decoder of a vector, with PyTorch's default initialization."""
    correction = nn.Sequential(nn.ReLU(), *dense(hidden[1], hidden[0], values))
    return nn.Sequential(nn.Linear(latent, values + hidden[1]), AddCorrection(values, correction))


@torch.no_grad()
def start_from_components(
    encoder: nn.Sequential, decoder: nn.Sequential, samples: Float[Tensor, "n d"]
) -> None:
    """Make the pair, in place, the projection on the principal components of scaled samples.

    Args:
        encoder: made by :func:`encoder`.
        decoder: made by :func:`decoder`, of the same latent dimension.
        samples: n of them, at least 1.

    Raises:
        InputError: if the networks have no linear path.

    Example:
        >>> pair = encoder(3, (8, 8), 2), decoder(2, (8, 8), 3)
        >>> x = torch.randn(9, 2) @ torch.randn(2, 3)
        >>> start_from_components(*pair, x)
        >>> torch.allclose(pair[1](pair[0](x)), x, atol=1e-5)
        True
    """
    last, first, added = encoder[-1], decoder[0], decoder[1]
    if not (
        isinstance(last, nn.Linear)
        and isinstance(first, nn.Linear)
        and isinstance(added, AddCorrection)
    ):
        raise InputError("encoder and decoder must have a linear path to start from components")
    x = samples.double()
    mean = x.mean(0)
    axes = _axes(x - mean, last.out_features)
    values = added.values
    last.weight.zero_()
    last.weight[:, :values] = axes.to(last.weight)
    last.bias.copy_(-axes @ mean)
    first.weight[:values] = axes.mT.to(first.weight)
    first.bias[:values] = mean.to(first.bias)
    end = [layer for layer in added.correction.modules() if isinstance(layer, nn.Linear)][-1]
    end.weight.zero_()
    end.bias.zero_()


def _axes(centred: Float[Tensor, "n d"], count: int) -> Float[Tensor, "l d"]:
    """Return the principal axes as rows, completed by random ones if the samples have too few.

    R of the decomposition X = Q R has the same axes as X, and at most d rows.
    """
    R = torch.linalg.qr(centred, mode="r").R
    axes: Tensor = torch.linalg.svd(R, full_matrices=False).Vh[:count]
    missing = count - len(axes)
    if missing:
        generator = torch.Generator().manual_seed(0)
        others = torch.randn(missing, centred.shape[1], generator=generator, dtype=axes.dtype)
        others -= others @ axes.mT @ axes
        axes = torch.cat([axes, torch.linalg.qr(others.mT).Q.mT])
    return axes
