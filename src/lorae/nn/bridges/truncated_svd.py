r"""Bridges that keep the leading singular directions of the encoder outputs.

With the encoder outputs of a (global) batch as the rows of :math:`E = U \Sigma V^\top`, the bridge
projects onto the span of :math:`V_r`, the first r columns of V. In training V comes from the
batch, in evaluation mode from the running average of :math:`E^\top E / n`. The codes have rank r by
construction, and the encoder need not know which r directions these are.

Reference:
    Mounayer et al., Rank Reduction Autoencoders (arXiv 2405.13980). There the directions in
    evaluation mode are computed from all training codes at the end of training.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError
from lorae.linalg import spectral
from lorae.linalg.svd import widen
from lorae.nn.bridges.base import Bridge
from lorae.utils.distributed import gather, shard
from lorae.utils.validation import check_range

RANK = 32
"""The default rank, where the codes have at least as many dimensions."""


class Truncated(Bridge):
    """A bridge onto r directions, with running second moments of the encoder outputs.

    Args:
        latent: the dimension l of the codes.
        rank: the number r of directions kept, 1 to l; min(32, l) by default.
        momentum: the weight of the newest batch in the running average, in (0, 1].
    """

    learns_matrix = True

    moment: Tensor
    kept: Tensor

    def __init__(self, latent: int, rank: int | None = None, momentum: float = 0.1) -> None:
        super().__init__(latent)
        check_range("rank", rank, 1, latent)
        check_range("momentum", momentum, 0, 1, open_low=True)
        rank = min(RANK, latent) if rank is None else rank
        self.momentum = momentum
        self.min_batch_size = rank  # fewer samples do not span r directions
        self.register_buffer("moment", torch.eye(latent))
        self.register_buffer("kept", torch.tensor(rank))  # a buffer, so that it is saved

    @property
    def rank(self) -> int:
        """The number r of directions kept."""
        return int(self.kept)

    def matrix(self) -> Float[Tensor, "l l"]:
        V = self.directions()
        return V @ V.mT

    def directions(self) -> Float[Tensor, "l r"]:
        """Return V_r of the running average, each column with its largest entry positive."""
        ascending = torch.linalg.eigh(self.moment.cpu().double())[1]
        return _leading(ascending, self.rank).to(self.moment)

    def update_moment(self, e: Float[Tensor, "n l"]) -> Float[Tensor, "m l"]:
        """Update the running average, and return the global batch in float32 or wider."""
        batch = gather(widen(e))
        if len(batch) < self.rank:
            raise InputError(
                f"batch must have at least {self.rank} samples, as many as the rank of the "
                f"bridge, got {len(batch)}"
            )
        now = batch.detach().mT @ batch.detach() / len(batch)
        self.moment.lerp_(now.to(self.moment.dtype), self.momentum)
        return batch


class TruncatedSVD(Truncated):
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
        if not self.training:
            return e @ self.matrix()
        with torch.autocast(e.device.type, enabled=False):
            return shard(spectral.truncate(self.update_moment(e), self.rank))


def batch_directions(batch: Float[Tensor, "n l"], rank: int) -> Float[Tensor, "l r"]:
    """Return the first r right singular vectors of a batch as columns, without a gradient."""
    fixed = batch.detach()
    return _leading(torch.linalg.eigh(fixed.mT @ fixed)[1], rank)


def _leading(ascending: Float[Tensor, "l l"], rank: int) -> Float[Tensor, "l r"]:
    """Return the last columns in reverse order, each with its largest entry positive."""
    V = ascending.flip(-1)[:, :rank]
    largest = V.gather(0, V.abs().argmax(0, keepdim=True))
    return torch.where(largest < 0, -V, V)
