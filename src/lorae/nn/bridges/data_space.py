r"""A bridge whose matrix is measured in data space.

Encoder outputs e have a covariance :math:`\Sigma`, and the decoder D has the mean pull-back metric
:math:`G = E[J^\top J]`, where J is the derivative of D at a code. Any invertible linear map between
encoder and decoder, with its inverse on the other side, changes both without changing the function
of the autoencoder. With :math:`W = \Sigma^{-1/2}`, :math:`T = G^{-1/2}` and the mean m of e,

.. math:: z = c + T M W (e - m),

the inputs W (e - m) of M are white, and a unit step of its output moves the decoded sample by 1 in
root mean square. So the singular values of M are the standard deviations, in data space and to
first order, that the directions of the code carry. They belong to the function: the eigenvalues of
:math:`\Sigma A^\top G A` with A = T M W are their squares, and no change of basis alters these.

As the networks learn, :math:`\Sigma` and G change. :meth:`DataSpace.regauge` enters new ones and
changes M and c so that z stays the same function of e; :meth:`DataSpace.change_inputs` takes e in
another basis.

A direction in which M is 0 has no gradient in the encoder or the decoder, so it could never carry
anything again. In training, M + P takes the place of M, where P gives these directions a small
standard deviation (:meth:`DataSpace.set_deviations`). In evaluation they carry nothing.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lorae.nn.bridges.base import Bridge

_FLOOR = 1e-5  # eigenvalues below this share of the largest are raised to it


class DataSpace(Bridge):
    r"""z = c + T M W (e - m) with a trained M; T, W, m and c are statistics.

    It starts as the identity, with M = T = W = I.

    Example:
        >>> bridge = DataSpace(2)
        >>> e = torch.randn(5, 2)
        >>> torch.equal(bridge(e), e)
        True
    """

    learns_matrix = True

    probe: Tensor  # P
    whiten: Tensor
    scale: Tensor
    mean: Tensor
    offset: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__(latent)
        self.weight = nn.Parameter(torch.eye(latent))
        self.register_buffer("probe", torch.zeros(latent, latent))
        self.register_buffer("whiten", torch.eye(latent))
        self.register_buffer("scale", torch.eye(latent))
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("offset", torch.zeros(latent))

    def forward(self, e: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        with torch.autocast(e.device.type, enabled=False):
            M = self.training_matrix() if self.training else self.weight
            y = functional.linear(e.to(M.dtype) - self.mean, self.whiten)
            return functional.linear(functional.linear(y, M), self.scale, self.offset)

    def matrix(self) -> Float[Tensor, "l l"]:
        return self.weight

    def training_matrix(self) -> Float[Tensor, "l l"]:
        """Return M + P."""
        return self.weight + self.probe

    def affine(self) -> tuple[Float[Tensor, "l l"], Float[Tensor, " l"]]:
        A = self.scale @ self.weight @ self.whiten
        return A, self.offset - A @ self.mean

    def code_basis(self) -> tuple[Float[Tensor, "l l"], Float[Tensor, " l"]]:
        return self.scale, self.offset

    @torch.no_grad()
    def regauge(
        self,
        mean: Float[Tensor, " l"],
        covariance: Float[Tensor, "l l"],
        metric: Float[Tensor, "l l"],
        gradient: Float[Tensor, "l l"],
    ) -> Float[Tensor, "l l"]:
        """Enter new statistics without changing z, and return the gradient by the new M.

        Args:
            mean: of the encoder outputs.
            covariance: of the encoder outputs.
            metric: E[J^T J] of the decoder, in the units of z.
            gradient: of a function by the present M.
        """
        weight, scale, whiten = (_wide(part) for part in (self.weight, self.scale, self.whiten))
        root, inverse_root = _roots(_wide(covariance))
        stretch, new_scale = _roots(_wide(metric))
        left, right = stretch @ scale, whiten @ root
        shift = scale @ weight @ whiten @ (_wide(mean) - _wide(self.mean))
        self.offset.add_(shift.to(self.offset))
        self.mean.copy_(mean)
        self.scale.copy_(new_scale)
        self.whiten.copy_(inverse_root)
        self.weight.copy_(left @ weight @ right)
        self.probe.copy_(left @ _wide(self.probe) @ right)
        moved: Tensor = torch.linalg.inv(left).mT @ _wide(gradient) @ torch.linalg.inv(right).mT
        return moved

    @torch.no_grad()
    def change_inputs(self, A: Float[Tensor, "l l"]) -> None:
        """Take A e in the place of e from now on, without changing z."""
        A = _wide(A)
        self.mean.copy_(A @ _wide(self.mean))
        self.whiten.copy_(torch.linalg.solve(A, _wide(self.whiten), left=False))

    @torch.no_grad()
    def set_deviations(
        self,
        U: Float[Tensor, "l l"],
        sigma: Float[Tensor, " l"],
        Vh: Float[Tensor, "l l"],
        floor: float,
    ) -> None:
        """Set M + P to U diag(sigma) Vh: M to the directions above a floor, and P to the others.

        Args:
            U: orthonormal columns.
            sigma: standard deviations in data space, at least 0.
            Vh: orthonormal rows.
            floor: of the standard deviations of M.
        """
        kept = sigma > floor
        self.weight.copy_((U * sigma.where(kept, 0.0)) @ Vh)
        self.probe.copy_((U * sigma.where(~kept, 0.0)) @ Vh)


def _roots(
    matrix: Float[Tensor, "l l"],
) -> tuple[Float[Tensor, "l l"], Float[Tensor, "l l"]]:
    """Return the symmetric square root of a covariance, and the inverse of it."""
    values, V = torch.linalg.eigh(matrix)
    root = values.clamp(min=max(_FLOOR * float(values[-1]), 1e-20)).sqrt()
    return V * root @ V.mT, V / root @ V.mT


def _wide(x: Tensor) -> Tensor:
    return x.detach().cpu().double()
