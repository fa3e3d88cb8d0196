r"""The contract of a bridge, the map between encoder and decoder.

A bridge maps the encoder's output :math:`e \in R^k` to the latent code :math:`z \in R^l`. Here
k = l except for the posteriors (:mod:`lorae.nn.bridges.posteriors`), whose encoders output the
parameters of a distribution. In evaluation mode a bridge is affine,

.. math:: z = A e + b,

so that :meth:`lorae.Autoencoder.fold` can absorb it into the encoder. Its *matrix* M is the linear
map that is meant by "the rank of the bridge". The low-rank methods of the field differ in the
bridge and in how it is trained; a new one takes one class.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Bridge(nn.Module, ABC):
    """A map from encoder outputs to codes that is affine in evaluation mode.

    Args:
        latent: the dimension l of the codes.
        inputs: the number k of encoder outputs, l by default.

    Attributes:
        learns_matrix: whether training determines M, so that its rank is meaningful.
        min_batch_size: the smallest (global) batch that the bridge can be trained on.
    """

    learns_matrix = False
    min_batch_size = 1

    def __init__(self, latent: int, inputs: int | None = None) -> None:
        super().__init__()
        self.latent = latent
        self.inputs = latent if inputs is None else inputs

    @abstractmethod
    def forward(self, e: Float[Tensor, "n k"]) -> Float[Tensor, "n l"]:
        """Return the codes of a batch of encoder outputs."""

    @abstractmethod
    def matrix(self) -> Float[Tensor, "l k"]:
        """Return M, differentiable."""

    def affine(self) -> tuple[Float[Tensor, "l k"], Float[Tensor, " l"]]:
        """Return A and b of the map in evaluation mode; M and 0 for most bridges."""
        matrix = self.matrix()
        return matrix, matrix.new_zeros(self.latent)

    def code_basis(self) -> tuple[Float[Tensor, "l l"], Float[Tensor, " l"]] | None:
        """Return T and c if the range of the map is c + T range(M); None for range(M) itself."""
        return None

    def directions(self) -> Float[Tensor, "l r"]:
        """Return orthonormal columns that span the support of the prior over codes."""
        return torch.eye(self.latent)


class NoBridge(Bridge):
    """z = e, the plain autoencoder; M is the identity.

    Example:
        >>> NoBridge(2).matrix()
        tensor([[1., 0.],
                [0., 1.]])
    """

    identity: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__(latent)
        self.register_buffer("identity", torch.eye(latent), persistent=False)

    def forward(self, e: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        return e

    def matrix(self) -> Float[Tensor, "l l"]:
        return self.identity
