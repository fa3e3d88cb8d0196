"""The latent space of a model in standardized coordinates, ordered by the variance they carry."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.estimator.coordinates import Coordinates, mean_jacobian, principal_coordinates
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import decode_all, encode_all, evaluation_mode, squared_errors
from lorae.utils.samples import subsample

_JACOBIANS = 2**24  # numbers in all derivatives of the decoder, about
_COORDINATES = 64  # coordinates that are kept, at most
_FLOOR = 1e-6  # coordinates with less than this share of the largest variance are left out
_SEED = 0


@dataclass(frozen=True)
class CodeSpace:
    """The coordinates of a page: u = T (z - mean) / deviations, and codes z = B u + mean."""

    model: Autoencoder
    mean: Float[Tensor, " l"]  # the code of u = 0
    T: Float[Tensor, "k l"]
    B: Float[Tensor, "l k"]
    deviations: Float[Tensor, " k"]
    shares: Float[Tensor, " k"]  # of the variance of the data that each coordinate carries

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        model: Autoencoder,
        samples: Tensor,
        fitted: Tensor,
        codes: Tensor,
        *,
        coordinates: Coordinates | None,
        shares: Sequence[float] | None,
    ) -> "CodeSpace":
        """Return the space of a model, from the codes of the samples that it is fitted to.

        Args:
            model: an autoencoder whose decoder inverts its encoder.
            samples: for the share of the variance that is explained, unless shares are given.
            fitted: samples that the statistics are of.
            codes: their codes.
            coordinates: the coordinates; by default the codes, centred.
            shares: the share of the variance that each coordinate carries, if known; the
                coordinates then keep their order.
        """
        codes = codes.double()
        T = inverse = torch.eye(codes.shape[1], dtype=torch.float64)
        mean = codes.mean(0)
        if coordinates is not None:
            T, inverse, mean = coordinates.transform, coordinates.inverse, coordinates.mean
        deviations = ((codes - mean) @ T.mT).std(0)
        if shares is None:
            carried = deviations.square()
            if coordinates is None:  # how far steps of the codes move decoded samples
                probe = subsample(codes, metric_samples(model, samples), _SEED)
                with evaluation_mode(model):
                    carried = (
                        carried * mean_jacobian(model.decoder, probe.to(model.scale))[0].diag()
                    )
            errors, spread = squared_errors(model, samples, fitted.nanmean(0))
            explained = max(1 - float(errors.sum() / spread.sum().clamp(min=1e-300)), 1e-6)
            found = carried / carried.sum().clamp(min=1e-300) * explained
        else:
            found = torch.as_tensor(shares, dtype=torch.float64)
        order = torch.arange(len(found))
        if shares is None:
            order = found.argsort(descending=True, stable=True)
        order = order[:_COORDINATES]
        order = order[found[order] >= _FLOOR * found.max()]
        deviations = deviations[order].clamp(min=1e-30)
        return cls(model, mean, T[order], inverse[:, order] * deviations, deviations, found[order])

    def standardize(self, codes: Float[Tensor, "n l"]) -> Float[Tensor, "n k"]:
        """Return the coordinates u of codes of the model."""
        return ((codes.double() - self.mean) @ self.T.mT / self.deviations).float()

    def encode(self, samples: Tensor) -> Float[Tensor, "n k"]:
        """Return the coordinates u of samples."""
        return self.standardize(encode_all(self.model, samples))

    def decode(self, u: Float[Tensor, "n k"]) -> Tensor:
        """Return the samples, in the units of the data, of coordinates u."""
        return decode_all(self.model, (u.double() @ self.B.mT + self.mean).float())


def metric_samples(model: Autoencoder, samples: Tensor) -> int:
    """Return over how many samples the derivative of the decoder is averaged."""
    return max(8, min(64, _JACOBIANS // (model.bridge.latent * samples[0].numel())))


def principal_space(model: Autoencoder, samples: Tensor, fitted: Tensor) -> CodeSpace:
    """Return the principal coordinates of a model.

    Args:
        model: an autoencoder whose decoder inverts its encoder.
        samples: held-out samples, for the share of the variance that is explained.
        fitted: training samples, over which the coordinates are computed.
    """
    coordinates = principal_coordinates(model, fitted, metric_samples=metric_samples(model, fitted))
    return CodeSpace.of(
        model, samples, fitted, encode_all(model, fitted), coordinates=coordinates, shares=None
    )
