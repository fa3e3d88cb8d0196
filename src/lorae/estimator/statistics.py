"""Statistics of a trained model over its training samples: variances, components, error and ranks.

They are computed after the codes of the model were changed to coordinates
(:mod:`lorae.estimator.coordinates`).
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorae.estimator.coordinates import align, principal_coordinates
from lorae.estimator.rank_reduction import mean_of
from lorae.linalg import spectral
from lorae.linalg.moments import Moments
from lorae.nn.autoencoder import Autoencoder
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
        unit: factor from the scaled units of the model to those of the statistics; their squared
            errors have its square.
        codes: the codes of up to `MAX_CODES` training samples.
    """

    model: Autoencoder = field(repr=False)
    unit: float
    explained_variance: Array
    explained_variance_ratio: Array
    singular_values: Array
    components: Array
    mean: Array
    reconstruction_error: float
    ranks: dict[str, dict[float, int]]
    codes: Tensor = field(repr=False)


def fit_statistics(model: Autoencoder, samples: Tensor, unit: float = 1.0) -> FittedModel:
    """Return a trained model with coordinates for codes, and its statistics.

    Args:
        model: without a bridge; it is left in evaluation mode, and unchanged otherwise.
        samples: training samples, at least 2.
        unit: factor from the scaled units of the model to those of the statistics.
    """
    coordinates, n = principal_coordinates(model.eval(), samples), len(samples)
    mean = mean_of(samples)
    errors, deviations = squared_errors(model, samples, mean)
    total, unexplained = (
        float(part.sum()) * mean.numel() / (n - 1) for part in (deviations, errors)
    )
    # A model that is no better than the mean has coordinates, too, of next to no variance.
    explained = max(total - unexplained, 1e-6 * total)
    factor = math.sqrt(explained / float(coordinates.variances.sum())) if explained else 1.0
    model = align(model, coordinates, factor * unit).eval()
    codes = encode_all(model, samples)
    moments = Moments(codes.shape[1]).update(codes)
    variances = moments.covariance.diagonal().numpy()
    return FittedModel(
        model=model,
        unit=unit,
        explained_variance=variances,
        explained_variance_ratio=variances / max(total * unit**2, TINY),
        singular_values=np.sqrt((n - 1) * variances),
        components=(coordinates.directions / factor).numpy(),
        mean=mean.flatten().numpy(),
        reconstruction_error=float(errors.mean()) * unit**2,
        ranks=code_ranks(moments),
        codes=subsample(codes, MAX_CODES),
    )


def code_ranks(moments: Moments) -> dict[str, dict[float, int]]:
    """Return the ranks of the covariance of codes, whitened and as they are, by threshold."""
    covariance = moments.covariance.cpu()
    deviations = covariance.diagonal().sqrt().clamp(min=TINY)
    whitened = torch.linalg.svdvals(covariance / deviations / deviations[:, None])
    return {
        "whitened": spectral.rank_profile(whitened),
        "coordinates": spectral.rank_profile(moments.spectrum().cpu()),
    }
