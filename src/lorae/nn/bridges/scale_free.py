r"""A bridge through which no scale reaches the code.

The penalty :math:`\|M\|_*` can be made as small as one likes without changing the function of the
autoencoder, by shrinking M and growing the encoder. With :math:`n(e)`, each coordinate of e
standardised over the batch,

.. math:: z = \frac{M}{\|M\|_F} \, n(e)

depends neither on the scale of e nor on that of M, and :math:`\|M\|_* / \|M\|_F` measures only the
shape of the spectrum.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lorae.errors import InputError
from lorae.nn.bridges.base import Bridge
from lorae.nn.bridges.low_rank import initial_matrix
from lorae.utils.distributed import average
from lorae.utils.validation import check_range


class ScaleFree(Bridge):
    r"""z = M n(e) / ||M||_F, where n standardises each coordinate over the batch.

    A penalty on :math:`||M||_* / ||M||_F` removes directions for good. Among those that remain it
    favours one large singular value over several of the same size, so the rank at a high threshold
    can fall as training goes on.

    In training mode n uses the mean and variance of the (global) batch and updates their running
    averages, which it uses in evaluation mode.

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
    min_batch_size = min_process_batch_size = 2

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, latent: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__(latent)
        check_range("momentum", momentum, 0, 1, open_low=True)
        check_range("epsilon", epsilon, 0)
        self.momentum = momentum
        self.epsilon = epsilon
        self.weight = nn.Parameter(initial_matrix(latent))
        self.register_buffer("running_mean", torch.zeros(latent))
        self.register_buffer("running_variance", torch.ones(latent))

    def forward(self, e: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        """Return M n(e) / ||M||_F."""
        return functional.linear(self._standardize(e), self.matrix())

    def matrix(self) -> Float[Tensor, "l l"]:
        """Return M / ||M||_F, in float32 or wider."""
        weight = self.weight.float() if self.weight.dtype.itemsize < 4 else self.weight
        norm: Tensor = torch.linalg.matrix_norm(weight, keepdim=True)
        return weight / norm

    def affine(self) -> tuple[Float[Tensor, "l l"], Float[Tensor, " l"]]:
        """Return A = M / (||M||_F s) and b = -A m, with the running mean m and deviation s."""
        matrix = self.matrix() / (self.running_variance + self.epsilon).sqrt()
        return matrix, -matrix @ self.running_mean

    def _standardize(self, e: Tensor) -> Tensor:
        if not self.training:
            return (e - self.running_mean) / (self.running_variance + self.epsilon).sqrt()
        if len(e) < 2:
            raise InputError(f"batch must have at least 2 samples, got {len(e)}")
        with torch.autocast(e.device.type, enabled=False):
            e = e.float() if e.dtype.itemsize < 4 else e
            mean = average(e.mean(0))
            variance = average((e - mean).square().mean(0))
            self._update(mean.detach(), variance.detach())
            return (e - mean) / (variance + self.epsilon).sqrt()

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor) -> None:
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_variance.lerp_(variance.to(self.running_variance.dtype), self.momentum)
