"""Statistics of a trained model over its training samples: variances, components and ranks."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from lorae.estimator.nested import NestedModel, to_coordinates
from lorae.estimator.networks import mean_sample
from lorae.linalg import spectral
from lorae.linalg.moments import Moments
from lorae.nn.inference import encode_all, squared_errors
from lorae.utils.samples import subsample

Array = np.ndarray[Any, Any]

MAX_CODES = 10_000
"""The largest number of training codes that are kept, to fit a density to."""
TINY = 1e-300
"""The least number to divide by, so that 0 / 0 is 0."""


@dataclass(frozen=True)
class FittedModel:
    """A model whose codes are coordinates, with its statistics over n training samples.

    Its fields are documented at :class:`lorae.LowRankAutoencoder`, which has attributes of the
    same names with an underscore, except for these.

    Attributes:
        nested: the model and those of the first codes.
        unit: factor from the scaled units of the model to those of the statistics; their squared
            errors have its square.
        codes: the codes of up to `MAX_CODES` training samples.
    """

    nested: NestedModel = field(repr=False)
    unit: float
    explained_variance: Array
    explained_variance_ratio: Array
    singular_values: Array
    components: Array
    mean: Array
    reconstruction_error: float
    ranks: dict[float, int]
    codes: Tensor = field(repr=False)


def fit_statistics(nested: NestedModel, samples: Tensor, deviations: Tensor | None) -> FittedModel:
    """Return a trained model with coordinates for codes, and its statistics.

    Args:
        nested: the model, before its codes are changed.
        samples: training samples as floats, at least 2.
        deviations: that samples are divided by in the units of the statistics; None for the units
            of the samples.
    """
    scale, n = nested.model.scale.double().cpu(), len(samples)
    ratio = scale if deviations is None else scale / deviations
    unit = float(ratio.flatten()[0])
    mean = mean_sample(samples)
    nested, effect = to_coordinates(nested, samples, mean, unit)
    errors, spread = squared_errors(nested.model, samples, mean)
    total = float(spread.sum()) * mean.numel() * unit**2 / (n - 1)
    codes = encode_all(nested.model, samples)
    variances = Moments(codes.shape[1]).update(codes).covariance.diagonal().cpu()
    if deviations is not None:
        effect = effect * deviations.flatten()
    return FittedModel(
        nested=nested,
        unit=unit,
        explained_variance=variances.numpy(),
        explained_variance_ratio=(variances / max(total, TINY)).numpy(),
        singular_values=((n - 1) * variances).sqrt().numpy(),
        components=effect.numpy(),
        mean=mean.flatten().numpy(),
        reconstruction_error=float(errors.mean()) * unit**2,
        ranks=spectral.rank_profile(variances.sort(descending=True).values),
        codes=subsample(codes, MAX_CODES),
    )
