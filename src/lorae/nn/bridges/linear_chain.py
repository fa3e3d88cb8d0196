r"""Implicit rank minimisation: a product of matrices in the place of one.

.. math:: z = M_k \cdots M_1 e

Gradient descent on such a product favours products of low rank, so the plain reconstruction error
over this bridge is the whole method.
"""

from functools import reduce

from jaxtyping import Float
from torch import Tensor, nn

from lorae.nn.bridges.base import Bridge
from lorae.utils.validation import check_range


class LinearChain(Bridge):
    """z = M_k ... M_1 e, the bridge of IRMAE.

    Reference:
        Jing, Zbontar and LeCun, Implicit Rank-Minimizing Autoencoder (NeurIPS 2020).

    Args:
        latent: the dimension l of the codes.
        depth: the number k of matrices, at least 1 (in the paper 8 for MNIST, 4 for CelebA, 2 for
            Shapes).

    Example:
        >>> import torch
        >>> bridge = LinearChain(3, depth=2)
        >>> first, second = (layer.weight for layer in bridge.layers)
        >>> torch.allclose(bridge.matrix(), second @ first)
        True
    """

    learns_matrix = True

    def __init__(self, latent: int, depth: int = 4) -> None:
        super().__init__(latent)
        check_range("depth", depth, 1)
        self.layers = nn.ModuleList(nn.Linear(latent, latent, bias=False) for _ in range(depth))

    def forward(self, e: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        for layer in self.layers:
            e = layer(e)
        return e

    def matrix(self) -> Float[Tensor, "l l"]:
        weights: list[Tensor] = [layer.get_parameter("weight") for layer in self.layers]
        return reduce(lambda product, weight: weight @ product, weights)
