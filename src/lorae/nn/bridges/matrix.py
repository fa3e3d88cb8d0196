r"""What stands between encoder and decoder.

A bridge maps the encoder's output :math:`e \in R^k` to the latent code :math:`z \in R^l`, where k
is l but for the posteriors (:mod:`lorae.nn.bridges.posteriors`), and at inference it is affine,

.. math:: z = A e + b,

which is what lets :meth:`lorae.Autoencoder.fold` remove it. Its *matrix* :math:`M` is the linear
map whose rank is meant when one speaks of the rank of the bridge. The low-rank methods of the
field differ in which bridge they train and how; adding one costs one class here.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lorae.errors import InputError
from lorae.linalg import spectral
from lorae.utils.distributed import average


class Bridge(nn.Module, ABC):
    """A map from encoder outputs to codes that is affine at inference.

    Args:
        latent: the dimension l of the codes.
        inputs: the number k of the encoder's outputs, l by default.

    Attributes:
        learns_matrix: whether M follows from training, so that its rank tells something.
        least_batch: the number of samples that a batch must have in training.
        least_share: the number of samples that each process must have of it.
    """

    learns_matrix = False
    least_batch = 1
    least_share = 1

    def __init__(self, latent: int, inputs: int | None = None) -> None:
        super().__init__()
        self.latent = latent
        self.inputs = latent if inputs is None else inputs

    @abstractmethod
    def forward(self, e: Float[Tensor, "n k"]) -> Float[Tensor, "n l"]:
        """Return the latent codes of a batch of encoder outputs."""

    @abstractmethod
    def matrix(self) -> Float[Tensor, "l k"]:
        """Return M, the linear map that the method penalises, differentiable."""

    @abstractmethod
    def affine(self) -> tuple[Float[Tensor, "l k"], Float[Tensor, " l"]]:
        """Return A and b of the map z = A e + b that the bridge is in evaluation mode.

        Raises:
            InputError: if it is no such map.
        """

    def directions(self) -> Float[Tensor, "l r"]:
        """Return orthonormal columns whose span holds what a prior of codes gives weight to."""
        return torch.eye(self.latent)


class NoBridge(Bridge):
    """z = e, the plain autoencoder; its matrix is the identity.

    Args:
        latent: the dimension l of the codes.

    Example:
        >>> NoBridge(2).matrix()
        tensor([[1., 0.],
                [0., 1.]])
    """

    one: Tensor  # tells device and type

    def __init__(self, latent: int) -> None:
        super().__init__(latent)
        self.register_buffer("one", torch.ones(()), persistent=False)

    def forward(self, e: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        """Return e."""
        return e

    def matrix(self) -> Float[Tensor, "l l"]:
        """Return the identity."""
        return torch.eye(self.latent, device=self.one.device, dtype=self.one.dtype)

    def affine(self) -> tuple[Float[Tensor, "l l"], Float[Tensor, " l"]]:
        """Return the identity and 0."""
        matrix = self.matrix()
        return matrix, matrix.new_zeros(self.latent)


class LowRank(Bridge):
    """z = M e with one square matrix, as in the Low-Rank Autoencoder.

    Reference:
        Mazumder et al., Learning Low-Rank Latent Spaces with Simple Deterministic Autoencoder
        (WACV 2024), section 3. M has no bias and starts from PyTorch's default for a linear
        layer, as in the authors' code.

    Args:
        latent: the dimension l of the codes.

    Example:
        >>> bridge = LowRank(3)
        >>> e = torch.randn(5, 3)
        >>> torch.equal(bridge(e), e @ bridge.matrix().T)
        True
    """

    learns_matrix = True

    def __init__(self, latent: int) -> None:
        super().__init__(latent)
        self.weight = nn.Parameter(nn.Linear(latent, latent, bias=False).weight.detach())

    def forward(self, e: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        """Return M e."""
        return functional.linear(e, self.weight)

    def matrix(self) -> Float[Tensor, "l l"]:
        """Return M."""
        return self.weight

    @torch.no_grad()
    def shrink(self, threshold: float | Float[Tensor, "*#batch"]) -> None:
        r"""Replace M by its proximal map, in place: every singular value less a threshold, or 0.

        A step of proximal gradient descent on weight * ||M||_* is an optimizer's step without
        the penalty, and then this with the learning rate times the weight for a threshold.

        Args:
            threshold: at least 0, in the units of M; one, or one for each matrix of a stack.

        Example:
            >>> bridge = LowRank(3)
            >>> bridge.shrink(0.5)
            >>> float(torch.linalg.svdvals(bridge.weight)[0].detach()) < 0.7
            True
        """
        self.weight.copy_(spectral.soft_threshold(self.weight, threshold))

    def affine(self) -> tuple[Float[Tensor, "l l"], Float[Tensor, " l"]]:
        """Return M and 0."""
        return self.weight, self.weight.new_zeros(self.weight.shape[0])


class Factored(Bridge):
    r"""z = A B^T e with two factors of r columns, so that the rank of M = A B^T is r at most.

    Half the sum of squares of the factors is never below the nuclear norm of their product, and
    reaches it for some factors of every matrix of rank r or less,

    .. math:: \|M\|_* = \min_{A B^\top = M} \tfrac12 (\|A\|_F^2 + \|B\|_F^2),

    so a penalty on it is one on the norm, without any decomposition. The factors start as such
    ones, :math:`U \sqrt\Sigma` and :math:`V \sqrt\Sigma`, of the matrix that :class:`LowRank`
    would start with, or of its part of rank r.

    Reference:
        Srebro, Rennie and Jaakkola, Maximum-margin matrix factorization (NeurIPS 2004), lemma 1.

    Args:
        latent: the dimension l of the codes.
        inner: the number r of columns, 1 to l; l by default.

    Example:
        >>> bridge = Factored(5, inner=2)
        >>> spectral.rank(spectral.singular_values(bridge.matrix()), 1e-4)
        tensor(2)
    """

    learns_matrix = True

    def __init__(self, latent: int, inner: int | None = None) -> None:
        super().__init__(latent)
        inner = latent if inner is None else inner
        if not 1 <= inner <= latent:
            raise InputError(f"inner must be 1 to {latent}, the latent dimension, got {inner}")
        start = nn.Linear(latent, latent, bias=False).weight.detach()
        U, sigma, Vh = torch.linalg.svd(start)
        self.left = nn.Parameter(U[:, :inner] * sigma[:inner].sqrt())
        self.right = nn.Parameter(Vh.mT[:, :inner] * sigma[:inner].sqrt())

    def forward(self, e: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        """Return A B^T e."""
        return functional.linear(e @ self.right, self.left)

    def matrix(self) -> Float[Tensor, "l l"]:
        """Return A B^T."""
        return self.left @ self.right.mT

    def affine(self) -> tuple[Float[Tensor, "l l"], Float[Tensor, " l"]]:
        """Return A B^T and 0."""
        matrix = self.matrix()
        return matrix, matrix.new_zeros(self.latent)

    def penalty(self) -> Float[Tensor, ""]:
        """Return half the sum of squares of the factors."""
        return (self.left.square().sum() + self.right.square().sum()) / 2

    @torch.no_grad()
    def shrink(self, threshold: float | Float[Tensor, "*#batch"]) -> None:
        r"""Take the threshold from every singular value of M, as far as there is so much.

        With M = U diag(sigma) V^T and :math:`g^2 = \max(1 - t / \sigma, 0)` the factors become
        U g U^T A and V g V^T B, which moves them as little as it can. U and V follow from the QR
        decompositions of the factors and an SVD of r x r, so this costs l r^2.
        """
        (left, L), (right, R) = torch.linalg.qr(self.left), torch.linalg.qr(self.right)
        U, sigma, Vh = torch.linalg.svd(L @ R.mT)
        t = torch.as_tensor(threshold, dtype=sigma.dtype, device=sigma.device).unsqueeze(-1)
        kept = sigma > t
        gain = (1 - t / sigma.where(kept, 1.0)).where(kept, 0.0).sqrt().unsqueeze(-2)
        self.left.copy_(left @ (U * gain @ (U.mT @ L)))
        self.right.copy_(right @ (Vh.mT * gain @ (Vh @ R)))


class LinearChain(Bridge):
    """z = M_k ... M_1 e, the implicit rank minimisation of IRMAE.

    Gradient descent on a product of matrices favours products of low rank, so the plain
    autoencoder objective over this bridge is the whole method.

    Reference:
        Jing, Zbontar and LeCun, Implicit Rank-Minimizing Autoencoder (NeurIPS 2020).

    Args:
        latent: the dimension l of the codes.
        depth: the number k of matrices, at least 1 (in the paper 8 for MNIST, 4 for CelebA, 2 for
            Shapes).

    Raises:
        InputError: if the depth is below 1.

    Example:
        >>> bridge = LinearChain(3, depth=2)
        >>> first, second = (layer.weight for layer in bridge.layers)
        >>> torch.allclose(bridge.matrix(), second @ first)
        True
    """

    learns_matrix = True

    def __init__(self, latent: int, depth: int = 4) -> None:
        super().__init__(latent)
        if depth < 1:
            raise InputError(f"depth must be at least 1, got {depth}")
        self.layers = nn.ModuleList(nn.Linear(latent, latent, bias=False) for _ in range(depth))

    def forward(self, e: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        """Return M_k ... M_1 e."""
        for layer in self.layers:
            e = layer(e)
        return e

    def matrix(self) -> Float[Tensor, "l l"]:
        """Return the product M_k ... M_1."""
        product = self._weight(0)
        for k in range(1, len(self.layers)):
            product = self._weight(k) @ product
        return product

    def affine(self) -> tuple[Float[Tensor, "l l"], Float[Tensor, " l"]]:
        """Return the product and 0."""
        matrix = self.matrix()
        return matrix, matrix.new_zeros(matrix.shape[0])

    def _weight(self, k: int) -> Tensor:
        return self.layers[k].get_parameter("weight")


class ScaleFree(Bridge):
    r"""z = M n(e) / ||M||_F, where n standardises every coordinate over the batch.

    The paper's penalty can be made as small as one likes without any change of the network's
    function, by shrinking M and growing the encoder. Here neither the scale of e nor that of M
    reaches z, so a penalty on :math:`||M||_* / ||M||_F` measures the shape of the spectrum alone.
    It kills directions for good; among those that live it still rewards one large singular value
    beside small ones, so a rank at a high threshold can fall as training goes on.

    In training mode n uses the mean and variance of the (global) batch, and running averages
    follow them; in evaluation mode it uses these averages. It needs a batch of at least two.

    Args:
        latent: the dimension l of the codes.
        momentum: the weight of the newest batch in the running averages, in (0, 1].
        epsilon: added to the variances, at least 0.

    Raises:
        InputError: if a number is out of range.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> bridge = ScaleFree(3)
        >>> e = torch.randn(8, 3)
        >>> torch.allclose(bridge(e), bridge(100 * e + 7), atol=1e-4)
        True
    """

    learns_matrix = True
    least_batch = least_share = 2

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, latent: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__(latent)
        if not 0 < momentum <= 1:
            raise InputError(f"momentum must be above 0 and at most 1, got {momentum:g}")
        if not 0 <= epsilon < float("inf"):
            raise InputError(f"epsilon must be a finite number of at least 0, got {epsilon:g}")
        self.momentum = momentum
        self.epsilon = epsilon
        self.weight = nn.Parameter(nn.Linear(latent, latent, bias=False).weight.detach())
        self.register_buffer("running_mean", torch.zeros(latent))
        self.register_buffer("running_variance", torch.ones(latent))

    def forward(self, e: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        """Return M n(e) / ||M||_F."""
        return functional.linear(self._standardised(e), self.matrix())

    def matrix(self) -> Float[Tensor, "l l"]:
        """Return M / ||M||_F, in float32 or wider."""
        weight = self.weight.float() if self.weight.dtype.itemsize < 4 else self.weight
        norm: Tensor = torch.linalg.matrix_norm(weight, keepdim=True)
        return weight / norm

    def affine(self) -> tuple[Float[Tensor, "l l"], Float[Tensor, " l"]]:
        """Return A = M / (||M||_F s) and b = -A m, with the running mean m and deviation s."""
        matrix = self.matrix() / (self.running_variance + self.epsilon).sqrt()
        return matrix, -matrix @ self.running_mean

    def _standardised(self, e: Tensor) -> Tensor:
        if not self.training:
            return (e - self.running_mean) / (self.running_variance + self.epsilon).sqrt()
        if e.shape[0] < 2:
            raise InputError("the scale-free bridge needs a batch of at least 2 samples, got 1")
        with torch.autocast(e.device.type, enabled=False):
            e = e.float() if e.dtype.itemsize < 4 else e
            mean = average(e.mean(0))
            variance = average((e - mean).square().mean(0))
            self._follow(mean.detach(), variance.detach())
            return (e - mean) / (variance + self.epsilon).sqrt()

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        # lerp_ does the same, and has no rule for vmap.
        self.running_mean.add_(mean - self.running_mean, alpha=self.momentum)
        self.running_variance.add_(variance - self.running_variance, alpha=self.momentum)
