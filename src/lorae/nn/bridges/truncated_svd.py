r"""Bridges that keep the leading singular directions of the codes themselves.

With the encoder's outputs of a (global) batch as the rows of :math:`E = U \Sigma V^\top`, the
bridge keeps the span of :math:`V_r`, the first r columns of V: in training that of the batch, at
inference that of the running average of :math:`E^\top E / n`. So the rank of the codes is r by
construction, and the encoder need not know which r directions they are.

Reference:
    Mounayer et al., Rank Reduction Autoencoders (arXiv 2405.13980), which takes the directions at
    inference from all training codes once training has ended.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError
from lorae.linalg import spectral
from lorae.nn.bridges.matrix import Bridge
from lorae.utils.distributed import gathered, share

RANK = 32
"""The rank by default, where the codes have as many dimensions."""


class Directions(Bridge):
    """The part that the bridges of this module share: a rank, and running second moments.

    Args:
        latent: the dimension l of the codes.
        rank: the number r of directions kept, 1 to l; 32 by default, or l where that is less.
        momentum: the weight of the newest batch in the running average, in (0, 1].
    """

    learns_matrix = True

    moment: Tensor
    kept: Tensor

    def __init__(self, latent: int, rank: int | None = None, momentum: float = 0.1) -> None:
        super().__init__(latent)
        rank = min(RANK, latent) if rank is None else rank
        if not 1 <= rank <= latent:
            raise InputError(f"rank must be 1 to {latent}, the latent dimension, got {rank}")
        if not 0 < momentum <= 1:
            raise InputError(f"momentum must be above 0 and at most 1, got {momentum:g}")
        self.momentum = momentum
        self.least_batch = rank  # fewer samples have no r directions
        self.register_buffer("moment", torch.eye(latent))
        self.register_buffer("kept", torch.tensor(rank))  # a tensor, so that it is saved

    @property
    def rank(self) -> int:
        """The number r of directions kept."""
        return int(self.kept)

    def directions(self) -> Float[Tensor, "l r"]:
        """Return the leading directions of the running average, largest first.

        The sign is such that the entry of largest size in each is positive.
        """
        ascending = torch.linalg.eigh(self.moment.cpu().double())[1]
        return _leading(ascending, self.rank).to(self.moment)

    def _followed(self, e: Tensor) -> Tensor:
        """Return the global batch in float32 or wider, having moved the average towards it."""
        batch = gathered(e.float() if e.dtype.itemsize < 4 else e)
        if len(batch) < self.rank:
            raise InputError(
                f"rank must not exceed the number of samples in a batch, got {self.rank} for "
                f"{len(batch)}"
            )
        now = batch.detach().mT @ batch.detach() / len(batch)
        self.moment.lerp_(now.to(self.moment.dtype), self.momentum)
        return batch


class TruncatedSVD(Directions):
    r"""z = V_r V_r^T e, the bridge of the Rank Reduction Autoencoder.

    In training the codes are the truncated singular value decomposition
    :math:`U_r \Sigma_r V_r^\top` of the batch's encoder outputs, without centring, and the
    gradient goes through the decomposition.

    Example:
        >>> bridge = TruncatedSVD(5, rank=2)
        >>> int(torch.linalg.matrix_rank(bridge(torch.randn(20, 5))))
        2
    """

    def forward(self, e: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        """Return the codes, of rank at most r."""
        if not self.training:
            return e @ self.matrix()
        with torch.autocast(e.device.type, enabled=False):
            return share(spectral.truncate(self._followed(e), self.rank))

    def matrix(self) -> Float[Tensor, "l l"]:
        """Return the projection V_r V_r^T onto the running directions."""
        V = self.directions()
        return V @ V.mT

    def affine(self) -> tuple[Float[Tensor, "l l"], Float[Tensor, " l"]]:
        """Return the projection and 0."""
        return self.matrix(), self.moment.new_zeros(self.latent)


def batch_directions(batch: Float[Tensor, "n l"], rank: int) -> Float[Tensor, "l r"]:
    """Return the first r right singular vectors of a batch as columns, without a gradient."""
    fixed = batch.detach()
    return _leading(torch.linalg.eigh(fixed.mT @ fixed)[1], rank)


def _leading(ascending: Tensor, rank: int) -> Tensor:
    """Return the last columns in reverse, each with its entry of largest size positive."""
    V = ascending.flip(-1)[:, :rank]
    largest = V.gather(0, V.abs().argmax(0, keepdim=True))
    return torch.where(largest < 0, -V, V)
