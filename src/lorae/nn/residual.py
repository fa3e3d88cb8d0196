r"""Fully connected networks with a linear path beside the layers, for vectors.

.. math::
    E(x) = W x + V f(x) + c, \qquad D(z) = A z + g(B z + b) + a,

with f and g of two layers with ReLU, whose sizes are those of
:func:`lorae.nn.networks.fully_connected`. With V and the last layer of g at 0 the pair is linear, so
it can start from principal components (:func:`start_from_components`) and go on from there: what
training then adds, it adds because it lowers the error. On tables, where a sample has few values
and there are few samples, that is most of the way.

The encoder ends in one linear layer, over x and f(x) together, and the decoder begins with one, so
both absorb a linear map of the codes exactly.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.errors import InputError
from lorae.nn.blocks import dense


class Beside(nn.Module):
    """x -> (x, f(x)).

    Example:
        >>> Beside(nn.Linear(3, 5))(torch.zeros(2, 3)).shape
        torch.Size([2, 8])
    """

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Return samples with their features beside them."""
        return torch.cat([x, self.features(x)], 1)


class Added(nn.Module):
    """(u, v) -> u + g(v), where u has d values.

    Example:
        >>> Added(3, nn.Linear(5, 3))(torch.zeros(2, 8)).shape
        torch.Size([2, 3])
    """

    def __init__(self, values: int, correction: nn.Module) -> None:
        super().__init__()
        self.values = values
        self.correction = correction

    def forward(self, both: Float[Tensor, "n k"]) -> Float[Tensor, "n d"]:
        """Return the linear part with its correction."""
        corrected: Tensor = both[:, : self.values] + self.correction(both[:, self.values :])
        return corrected


def encoder(values: int, hidden: tuple[int, int], latent: int) -> nn.Sequential:
    """Return the encoder of a vector, with PyTorch's default initialization."""
    features = nn.Sequential(*dense(values, *hidden), nn.ReLU())
    return nn.Sequential(Beside(features), nn.Linear(values + hidden[1], latent))


def decoder(latent: int, hidden: tuple[int, int], values: int) -> nn.Sequential:
    """Return the decoder of a vector, with PyTorch's default initialization."""
    correction = nn.Sequential(nn.ReLU(), *dense(hidden[1], hidden[0], values))
    return nn.Sequential(nn.Linear(latent, values + hidden[1]), Added(values, correction))


@torch.no_grad()
def start_from_components(
    encoder: nn.Sequential, decoder: nn.Sequential, samples: Float[Tensor, "n d"]
) -> None:
    """Make the pair, in place, the projection on the principal components of scaled samples.

    Args:
        encoder: of :func:`encoder`.
        decoder: of :func:`decoder`; of the latent size of the encoder.
        samples: n of them, at least 1.

    Raises:
        InputError: if the networks are others.

    Example:
        >>> pair = encoder(3, (8, 8), 2), decoder(2, (8, 8), 3)
        >>> x = torch.randn(9, 2) @ torch.randn(2, 3)
        >>> start_from_components(*pair, x)
        >>> torch.allclose(pair[1](pair[0](x)), x, atol=1e-5)
        True
    """
    last, first, added = encoder[-1], decoder[0], decoder[1]
    if not (
        isinstance(last, nn.Linear) and isinstance(first, nn.Linear) and isinstance(added, Added)
    ):
        raise InputError("only networks with a linear path can start from principal components")
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
    """Return the principal axes as rows, and where the samples have too few, others beside them.

    The triangle R of X = Q R has the axes of X, and never more than d rows.
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
