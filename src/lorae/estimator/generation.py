"""New samples, interpolations, and the round trip from codes to samples and back."""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from lorae.errors import InputError
from lorae.estimator.inputs import InputFormat
from lorae.estimator.nested import NestedModel
from lorae.estimator.validation import is_integer
from lorae.nn.inference import decode_all, encode_all
from lorae.sampling.interpolation import interpolate
from lorae.sampling.registry import fit_density


class GenerationMixin:
    """What an estimator does with the decoder beyond reconstruction."""

    n_components_: int
    random_state: Any
    density: Any
    codes_: Tensor
    nested_: NestedModel
    input_format_: InputFormat

    @abstractmethod
    def _read(self, X: Any, *, reset: bool = False) -> Tensor:
        """Return samples as floats in the layout of the networks."""

    @abstractmethod
    def _codes(self, codes: Any) -> Tensor:
        """Return the first coordinates as a tensor, not whitened."""

    @abstractmethod
    def _to_samples(self, decoded: Tensor, *, frames: bool = True) -> Any:
        """Return decoded samples in the user's layout and container."""

    @abstractmethod
    def _deviations(self, like: Tensor) -> Tensor:
        """Return the standard deviations of the coordinates."""

    def sample(
        self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> Any:
        """Return new samples, in the container that was fitted.

        Codes are drawn from the `density`, fitted to those of up to 10,000 training samples.

        Args:
            n_samples: number of samples, 1 or more.
            random_state: seed or generator; that of the estimator by default.
        """
        check_is_fitted(self)
        model = self.nested_.model
        if not (is_integer(n_samples) and n_samples >= 1):
            raise InputError(f"n_samples must be an integer of at least 1, got {n_samples!r}")
        state = self.random_state if random_state is None else random_state
        generator = torch.Generator().manual_seed(check_random_state(state).randint(2**31 - 1))
        density = fit_density(model, lambda: self.codes_, self.density)
        codes = density.sample(int(n_samples), generator)
        return self._to_samples(decode_all(model, codes))

    def interpolate(self, starts: Any, ends: Any, steps: int = 10, kind: str = "linear") -> Any:
        """Return samples on paths between samples; both ends are reconstructed.

        Args:
            starts: n samples.
            ends: n samples.
            steps: samples of each path, at least 2.
            kind: "linear" in the coordinates, or "spherical" around their mean.

        Returns:
            n x steps x the shape of a sample; an array for data frames.
        """
        check_is_fitted(self)
        model = self.nested_.model
        a, b = (encode_all(model, self._read(part)) for part in (starts, ends))
        if len(a) != len(b):
            raise InputError(f"starts and ends must have equal length, got {len(a)} and {len(b)}")
        decoded = decode_all(model, interpolate(a, b, steps, kind).flatten(0, 1))
        samples = self._to_samples(decoded, frames=False)
        return samples.reshape(len(a), steps, *samples.shape[1:])

    def round_trip_error(self, codes: Any) -> "np.ndarray[Any, Any]":
        """Return how far the codes of decoded coordinates are from the coordinates, for each row.

        The distance is Euclidean, with each coordinate divided by its standard deviation. It is
        large for coordinates that no sample is near.

        Args:
            codes: n x `n_components_`.
        """
        z = self._codes(codes)
        if z.shape[1] != self.n_components_:
            raise InputError(f"codes must have {self.n_components_} columns, got {z.shape[1]}")
        back = encode_all(self.nested_.model, decode_all(self.nested_.model, z))
        distance = ((back - z) / self._deviations(z)).norm(dim=1)
        return np.asarray(distance)
