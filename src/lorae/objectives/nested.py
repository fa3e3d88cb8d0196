r"""Nested denoising: codes whose first j coordinates are a model of their own, for every j.

For a batch x in scaled units, noise :math:`\varepsilon \sim N(0, I)` and codes
:math:`z = E(x + s \varepsilon)`,

.. math::
    L = e_l + w \sqrt{\bar e_l / \bar e_m} \, e_m, \quad
    e_l = \operatorname{mean} (D_l(z) - x)^2, \quad
    e_m = \operatorname{mean} (D_m(z_1, \dots, z_m, 0, \dots, 0) - x)^2,

where the length m is drawn for each sample, log-uniformly from 1 to l - 1 (in the second term, of
half of the batch, for speed), and :math:`D_m` is the
decoder with a bias :math:`b_m` of its own after its first linear layer. The second term orders the
coordinates as in principal component analysis, and for linear networks its minimum is PCA. Bars
are running means: their ratio, at most 1, keeps the second term from outweighing an error of all
codes that is small. If w is 1 or more, the model is meant for its first codes as much as for all
of them, and the ratio is left out.

The encoder must not depend on the part of a sample that the codes cannot hold. So the standard
deviation s of the noise is the root mean square of the present reconstruction error: it falls
as the model improves, and is close to zero once the samples are reproduced.

Reference:
    Rippel, Gelbart, Adams, Learning ordered representations with nested dropout (ICML 2014);
    Vincent et al., Extracting and composing robust features with denoising autoencoders (ICML
    2008). The bias for each length and the noise of the size of the error are ours.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.errors import InputError
from lorae.nn.autoencoder import Autoencoder
from lorae.objectives.base import Objective, Terms

PREFIX_WEIGHT = 0.1
WEIGHT_DECAY = 0.01
BETAS = 0.9, 0.99
_MOMENTUM = 0.02  # weight of a batch in the running mean of the error
_TINY = 1e-30


def _running_mean(mean: Tensor | None, error: Tensor) -> Tensor:
    return error.detach() if mean is None else mean.lerp(error.detach(), _MOMENTUM)


class NestedDenoising(Objective):
    """The reconstruction of all codes, and of a random number of the first codes.

    Args:
        model: without a bridge, whose decoder begins with a linear layer.
        prefix_weight: w, at least 0.
        noise: factor on the standard deviation of the noise.

    Attributes:
        prefix_biases: b_1 to b_l, l x h.
        error_: the running mean of the squared error; None before the first batch.
        prefix_error_: likewise, of the error of the first codes.

    Example:
        >>> from lorae.nn.autoencoder import Architecture, build
        >>> objective = NestedDenoising(build(Architecture("residual", (6,), 3)))
        >>> sorted(objective(torch.randn(10, 6)))
        ['prefix', 'reconstruction']
    """

    capturable = False

    def __init__(
        self, model: Autoencoder, prefix_weight: float = PREFIX_WEIGHT, noise: float = 1.0
    ) -> None:
        super().__init__(model)
        self.prefix_weight, self.noise = prefix_weight, noise
        first = model.decoder[0] if isinstance(model.decoder, nn.Sequential) else None
        if not isinstance(first, nn.Linear):
            raise InputError(
                f"decoder must begin with a Linear layer, got {type(model.decoder).__name__}"
            )
        self.prefix_biases = nn.Parameter(torch.zeros(first.in_features, first.out_features))
        self.error_: Tensor | None = None
        self.prefix_error_: Tensor | None = None

    def forward(self, x: Float[Tensor, "n *shape"]) -> Terms:
        decoder = self.model.decoder
        assert isinstance(decoder, nn.Sequential)
        target = self.model.scaled(x)
        if self.error_ is None:
            with torch.no_grad():
                self.error_ = self.error(self.model.encoder(target), target)
        noisy = target + self.noise * self.error_.sqrt() * torch.randn_like(target)
        z = self.model.encoder(self.hide(noisy))
        n, latent = z.shape
        if latent == 1 or self.prefix_weight == 0:
            reconstruction = self.error(z, target)
            self.error_ = _running_mean(self.error_, reconstruction)
            return {"reconstruction": reconstruction}
        half = (n + 1) // 2
        length = (latent ** torch.rand(half, device=z.device)).long().clamp(1, latent - 1)
        kept = torch.arange(latent, device=z.device) < length[:, None]
        hidden = decoder[0](torch.cat([z, z[:half] * kept]))
        biases = torch.cat([hidden.new_zeros(n, hidden.shape[1]), self.prefix_biases[length - 1]])
        decoded = decoder[1:](hidden + biases)
        reconstruction = self.mean_error(decoded[:n], target)
        prefix = self.mean_error(decoded[n:], target[:half])
        self.error_ = _running_mean(self.error_, reconstruction)
        self.prefix_error_ = _running_mean(self.prefix_error_, prefix)
        if self.prefix_weight >= 1:
            return {"reconstruction": reconstruction, "prefix": self.prefix_weight * prefix}
        ratio = (self.error_ / self.prefix_error_.clamp(min=_TINY)).clamp(max=1)
        weight = self.prefix_weight * ratio.sqrt()
        return {"reconstruction": reconstruction, "prefix": weight * prefix}

    def prefix_errors(
        self, x: Float[Tensor, "n *shape"], lengths: list[int]
    ) -> Float[Tensor, " q"]:
        """Return the mean squared errors of reconstructions from the first codes, without noise."""
        target, z = self.codes(x)
        decoder, latent = self.model.decoder, z.shape[1]
        assert isinstance(decoder, nn.Sequential)
        errors = []
        for length in lengths:
            kept = torch.arange(latent, device=z.device) < length
            hidden = decoder[0](z * kept)
            if length < latent:
                hidden = hidden + self.prefix_biases[length - 1]
            errors.append(self.mean_error(decoder[1:](hidden), target))
        return torch.stack(errors)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        adam = {"betas": BETAS, "weight_decay": WEIGHT_DECAY, "decoupled_weight_decay": True}
        return [{"params": list(self.parameters()), "lr": learning_rate} | adam]
