"""The attributes of a fitted estimator: what is known of a model and its training samples."""

import math
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from lorae.estimator.estimator import LowRankAutoencoder

_CODES = 10_000  # training codes that a density of them is fitted to
TINY = 1e-300
"""What a division by zero divides by."""


def set_attributes(estimator: "LowRankAutoencoder", model: Autoencoder, samples: Tensor) -> None:
    """Make the codes of a model coordinates, and set on its estimator all that is fitted.

    Args:
        estimator: whose `container_` is known.
        model: trained; it is not changed but for its mode.
        samples: that it was trained on, at least 2.
    """
    model.eval()
    at, n = principal_coordinates(model, samples), len(samples)
    mean = mean_of(samples)
    errors, apart = squared_errors(model, samples, mean)
    total = float(apart.sum()) * estimator.container_.values / (n - 1)
    left = float(errors.sum()) * estimator.container_.values / (n - 1)
    # A model that is no better than the mean still has coordinates, of next to no variance.
    explained = max(total - left, 1e-6 * total)
    factor = math.sqrt(explained / float(at.variances.sum())) if explained else 1.0
    plain = estimator.standardize or estimator.container_.is_image
    estimator.unit_ = 1.0 if plain else float(model.scale.flatten()[0])
    estimator.model_ = align(model, at, factor * estimator.unit_).eval()
    codes = encode_all(estimator.model_, samples)
    moments = Moments(codes.shape[1]).update(codes)
    estimator.explained_variance_ = moments.covariance.diagonal().numpy()
    estimator.n_components_ = len(estimator.explained_variance_)
    estimator.explained_variance_ratio_ = estimator.explained_variance_ / max(
        total * estimator.unit_**2, TINY
    )
    estimator.singular_values_ = np.sqrt((n - 1) * estimator.explained_variance_)
    estimator.components_ = (at.directions / factor).numpy()
    estimator.mean_ = mean.flatten().numpy()
    estimator.reconstruction_error_ = float(errors.mean()) * estimator.unit_**2
    estimator.ranks_ = ranks(moments)
    estimator.codes_ = subsample(codes, _CODES)


def ranks(moments: Moments) -> dict[str, dict[float, int]]:
    """Return the ranks of the covariance of coordinates, whitened and as they are."""
    covariance = moments.covariance.cpu()
    deviations = covariance.diagonal().sqrt().clamp(min=TINY)
    whitened = torch.linalg.svdvals(covariance / deviations / deviations[:, None])
    return {
        "whitened": spectral.rank_profile(whitened),
        "coordinates": spectral.rank_profile(moments.spectrum().cpu()),
    }
