r"""Nested models: an autoencoder whose first j coordinates are the coordinates of a smaller one.

Training gives codes z whose first j, with a bias of their own in the decoder, are a model of j
codes (:mod:`lorae.objectives.nested`). With the mean :math:`\mu` and the covariance
:math:`\Sigma = L L^\top` of the codes, L lower triangular, the coordinates are

.. math::  t = \operatorname{diag}(d) \, L^{-1} (z - \mu), \qquad d_j^2 = e_{j-1} - e_j,

where :math:`e_j` is the squared error that is left by the first j coordinates, summed over the
values of a sample and averaged over samples; :math:`e_0` is the variance of the samples. They are
centred and uncorrelated, the first j of them depend on the first j codes alone, and the variance of
each is the variance of the samples that it adds to the explained one. Encoder and decoder absorb
the change, so reconstructions stay the same. For linear networks these are the coordinates of PCA.
"""

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.estimator.coordinates import mean_jacobian, row_signs
from lorae.linalg.moments import Moments
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import encode_all, evaluation_mode, squared_errors
from lorae.objectives.nested import NestedDenoising
from lorae.utils.samples import subsample

_MAX_SAMPLES = 2000  # over which the variances that coordinates add are computed
_TINY = 1e-12  # share of the variance that every coordinate has at least


@dataclass(frozen=True)
class NestedModel:
    """An autoencoder of l codes, and what its decoder needs for the first j of them.

    Attributes:
        model: the autoencoder of all codes.
        weight: of the first layer of the decoder before the change of codes, h x l.
        biases: of that layer for j = 1 to l codes, l x h.
        mean: that the change of codes subtracts.
        inverse: from coordinates to the codes before the change, lower triangular.
    """

    model: Autoencoder
    weight: Float[Tensor, "h l"] = field(repr=False)
    biases: Float[Tensor, "l h"] = field(repr=False)
    mean: Float[Tensor, " l"] = field(repr=False)
    inverse: Float[Tensor, "l l"] = field(repr=False)

    @classmethod
    @torch.no_grad()
    def from_objective(cls, objective: NestedDenoising) -> Self:
        """Return the model of an objective, without a change of its codes."""
        first = _first_layer(objective.model)
        biases = objective.prefix_biases.detach().double().cpu()
        biases[-1] = 0
        latent = first.in_features
        return cls(
            model=objective.model,
            weight=first.weight.detach().double().cpu(),
            biases=biases + first.bias.detach().double().cpu(),
            mean=torch.zeros(latent, dtype=torch.float64),
            inverse=torch.eye(latent, dtype=torch.float64),
        )

    @property
    def latent(self) -> int:
        """The number l of codes."""
        return len(self.mean)

    @torch.no_grad()
    def first(self, count: int) -> Autoencoder:
        """Return the autoencoder of the first codes.

        Args:
            count: their number, 1 to l.
        """
        if count == self.latent:
            return self.model
        select = torch.eye(self.latent, dtype=torch.float64)[:count]
        zero = select.new_zeros(count)
        small = self.model.change_codes(select, zero, select.mT)
        layer = _first_layer(small)
        weight, block = self.weight[:, :count], self.inverse[:count, :count]
        layer.weight.copy_(weight @ block)
        layer.bias.copy_(self.biases[count - 1] + weight @ self.mean[:count])
        return small

    def errors(self, samples: Tensor, mean: Tensor) -> Float[Tensor, "m n"]:
        """Return the squared errors of samples for the first 0 to l codes.

        Args:
            samples: n of them, in the units of the data.
            mean: the reconstruction from no codes.

        Returns:
            Mean squares over values, in scaled units, in float64.
        """
        found = [squared_errors(self.first(j), samples, mean) for j in range(1, self.latent + 1)]
        return torch.stack([found[0][1], *(errors for errors, _ in found)])

    @torch.no_grad()
    def to_objective(self) -> NestedDenoising:
        """Return the objective that continues training, over a copy of the model.

        Its codes are those before the change to coordinates.
        """
        back = torch.linalg.inv(self.inverse)
        model = self.model.change_codes(self.inverse, self.mean, back, -back @ self.mean)
        first = _first_layer(model)
        first.weight.copy_(self.weight)
        first.bias.copy_(self.biases[-1])
        objective = NestedDenoising(model)
        objective.prefix_biases.copy_(self.biases - self.biases[-1])
        return objective


@torch.no_grad()
def to_coordinates(
    nested: NestedModel, samples: Tensor, mean: Tensor, unit: float
) -> tuple[NestedModel, Float[Tensor, "l d"]]:
    """Return the nested model whose codes are the coordinates over training samples.

    The sign of a coordinate makes the largest entry of its mean effect positive, as in
    scikit-learn's PCA.

    Args:
        nested: its codes have not been changed; its model is not changed either.
        samples: n of them, at least 2.
        mean: their mean.
        unit: factor from the scaled units of the model to those of the coordinates.

    Returns:
        The model, and the mean derivative of the reconstruction by each coordinate.
    """
    values, n = mean.numel(), len(samples)
    factor = values * unit**2 * n / (n - 1)
    errors, deviations = squared_errors(nested.model, samples, mean)
    total, explained = (factor * float(part.mean()) for part in (deviations, deviations - errors))
    added = -nested.errors(subsample(samples, _MAX_SAMPLES), mean).mean(1).diff()
    added = added.clamp(min=_TINY * float(deviations.mean()))
    floor = max(_TINY * total, _TINY**2)
    variances = (added * max(explained, 0) / added.sum().clamp(min=_TINY**2)).clamp(min=floor)
    codes = encode_all(nested.model, samples)
    moments = Moments(codes.shape[1]).update(codes)
    covariance, center = moments.covariance.cpu(), moments.mean.cpu()
    jitter = max(_TINY * float(covariance.diagonal().max()), _TINY**2)
    root = torch.linalg.cholesky(covariance + jitter * torch.eye(len(covariance)))
    inverse = root / variances.sqrt()
    slope = _mean_effect(nested.model, codes) * unit
    sign = row_signs(inverse.mT @ slope)
    inverse = inverse * sign
    transform = torch.linalg.inv(inverse)
    model = nested.model.change_codes(transform, -transform @ center, inverse, center)
    changed = replace(nested, model=model.eval(), mean=center, inverse=inverse)
    return changed, inverse.mT @ slope


def _mean_effect(model: Autoencoder, codes: Tensor) -> Float[Tensor, "l d"]:
    """Return the mean derivative of the scaled reconstruction by each code."""
    with evaluation_mode(model):
        probe = codes[torch.linspace(0, len(codes) - 1, min(256, len(codes))).round().long()]
        return mean_jacobian(model.decoder, probe.to(model.shift))[1]


def _first_layer(model: Autoencoder) -> nn.Linear:
    layer = model.decoder[0] if isinstance(model.decoder, nn.Sequential) else None
    assert isinstance(layer, nn.Linear)
    return layer
