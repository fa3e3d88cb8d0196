"""Bridges with a trained matrix whose nuclear norm is penalised."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lorae.linalg import spectral
from lorae.nn.bridges.base import Bridge
from lorae.utils.validation import check_range


class LowRank(Bridge):
    """z = M e with one square matrix, the bridge of the Low-Rank Autoencoder.

    Reference:
        Mazumder et al., Learning Low-Rank Latent Spaces with Simple Deterministic Autoencoder
        (WACV 2024), section 3. As in the authors' code, M has no bias and is initialised like the
        weight of `nn.Linear`.

    Example:
        >>> bridge = LowRank(3)
        >>> e = torch.randn(5, 3)
        >>> torch.equal(bridge(e), e @ bridge.matrix().T)
        True
    """

    learns_matrix = True

    def __init__(self, latent: int) -> None:
        super().__init__(latent)
        self.weight = nn.Parameter(initial_matrix(latent))

    def forward(self, e: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        return functional.linear(e, self.weight)

    def matrix(self) -> Float[Tensor, "l l"]:
        return self.weight

    @torch.no_grad()
    def shrink(self, threshold: float) -> None:
        r"""Replace M by its proximal map, in place: every singular value becomes max(sigma - t, 0).

        A step of proximal gradient descent on weight * ||M||_* is a step of plain gradient descent
        without the penalty, followed by this with t = learning rate * weight. (After a step of
        Adam it is not: :class:`lorae.objectives.lorae.ProximalStep`.)
        """
        self.weight.copy_(spectral.soft_threshold(self.weight, threshold))


class Factored(Bridge):
    r"""z = A B^T e with two factors of r columns, so that M = A B^T has a rank of at most r.

    For every matrix of rank r or less,

    .. math:: \|M\|_* = \min_{A B^\top = M} \tfrac12 (\|A\|_F^2 + \|B\|_F^2),

    so a penalty on the squares of the factors is one on the nuclear norm, without a decomposition.
    The factors start balanced, as :math:`U \sqrt\Sigma` and :math:`V \sqrt\Sigma` of the best
    approximation of rank r to the initial matrix of :class:`LowRank`.

    Reference:
        Srebro, Rennie and Jaakkola, Maximum-margin matrix factorization (NeurIPS 2004), lemma 1.

    Args:
        latent: the dimension l of the codes.
        inner: the number r of columns, 1 to l; l by default.

    Example:
        >>> bridge = Factored(5, inner=2)
        >>> int(torch.linalg.matrix_rank(bridge.matrix()))
        2
    """

    learns_matrix = True

    def __init__(self, latent: int, inner: int | None = None) -> None:
        super().__init__(latent)
        check_range("inner", inner, 1, latent)
        U, sigma, Vh = torch.linalg.svd(initial_matrix(latent))
        self.left = nn.Parameter(U[:, :inner] * sigma[:inner].sqrt())
        self.right = nn.Parameter(Vh.mT[:, :inner] * sigma[:inner].sqrt())

    def forward(self, e: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        return functional.linear(e @ self.right, self.left)

    def matrix(self) -> Float[Tensor, "l l"]:
        return self.left @ self.right.mT

    def penalty(self) -> Float[Tensor, ""]:
        """Return half the sum of squares of the factors."""
        return (self.left.square().sum() + self.right.square().sum()) / 2

    @torch.no_grad()
    def shrink(self, threshold: float) -> None:
        r"""Replace M by its proximal map, in place, with the smallest change of the factors.

        The map lowers every singular value by t, to no less than 0. With M = U diag(sigma) V^T and
        :math:`g^2 = \max(1 - t / \sigma, 0)` the factors become U g U^T A and V g V^T B. QR
        decompositions of the factors and an SVD of r x r give U and V, at a cost of l r^2.
        """
        (left, L), (right, R) = torch.linalg.qr(self.left), torch.linalg.qr(self.right)
        U, sigma, Vh = torch.linalg.svd(L @ R.mT)
        kept = sigma > threshold
        gain = (1 - threshold / sigma.where(kept, 1.0)).where(kept, 0.0).sqrt()
        self.left.copy_(left @ (U * gain @ (U.mT @ L)))
        self.right.copy_(right @ (Vh.mT * gain @ (Vh @ R)))


def initial_matrix(latent: int) -> Float[Tensor, "l l"]:
    """Return PyTorch's default initial weight of a square linear layer."""
    return nn.Linear(latent, latent, bias=False).weight.detach()
