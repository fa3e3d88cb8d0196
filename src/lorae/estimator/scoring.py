"""Scores of reconstructions: explained variance, accuracy of categories, and errors."""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from lorae.errors import InputError
from lorae.estimator.inputs import InputFormat
from lorae.estimator.statistics import TINY
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import decode_all, encode_all, squared_errors


class ScoringMixin:
    """Scores of an estimator with a model and a mean."""

    input_format_: InputFormat
    mean_: np.ndarray[Any, Any]
    unit_: float

    @property
    @abstractmethod
    def model_(self) -> Autoencoder:
        """The autoencoder."""

    @property
    @abstractmethod
    def _offset(self) -> Tensor: ...

    @abstractmethod
    def _read(self, X: Any, *, reset: bool = False) -> Tensor: ...

    def score(self, X: Any, y: object = None) -> float:  # noqa: ARG002
        """Return the share of the variance of samples around the training mean that is explained.

        The best value is 1; reconstructing every sample by the training mean gives 0, and worse
        reconstructions give negative values. Of a frame with categories, it is that of its numbers,
        if it has any.
        """
        check_is_fitted(self)
        errors, deviations = self._squared_errors(X, self.input_format_.scored_values)
        return 1 - float(errors.sum() / deviations.sum().clamp(min=TINY))

    def accuracy(self, X: Any) -> dict[str, float]:
        """Return for each column of categories the share that is reconstructed right.

        Only observed categories count.
        """
        check_is_fitted(self)
        samples, model = self._read(X), self.model_
        schema = self.input_format_.schema
        if model.categories is None or schema is None:
            raise InputError("X must have columns of categories to be scored by accuracy")
        decoded, target = (
            model.scaled(part.to(model.shift))
            for part in (decode_all(model, encode_all(model, samples)), samples)
        )
        right, counts = model.categories.hits(decoded, target)
        names = [column.name for column in schema.categorical]
        return {n: r / max(c, 1) for n, r, c in zip(names, right, counts, strict=True)}

    def residuals(self, X: Any) -> Tensor:
        """Return the scaled difference of reconstructions and samples, in float64."""
        check_is_fitted(self)
        samples = self._read(X)
        decoded = decode_all(self.model_, encode_all(self.model_, samples))
        return (decoded.double() - samples) / self.model_.scale.cpu()

    def scaled(self, X: Any) -> Tensor:
        """Return samples in the units of errors: bytes divided by 255, columns standardized."""
        check_is_fitted(self)
        scaled: Tensor = self.model_.scaled(self._read(X)).cpu() * self.unit_
        return scaled

    def squared_errors(self, X: Any) -> tuple[Tensor, Tensor]:
        """Return the squared error and the squared deviation from the training mean of samples.

        Both are means over the values of a sample, in float64.
        """
        return self._squared_errors(X)

    def _squared_errors(self, X: Any, values: int | None = None) -> tuple[Tensor, Tensor]:
        """Return both of the first values of samples; by default of all."""
        check_is_fitted(self)
        samples = self._read(X)
        mean = torch.from_numpy(self.mean_).view(samples.shape[1:]) - self._offset
        errors, deviations = squared_errors(self.model_, samples, mean, values=values)
        return errors * self.unit_**2, deviations * self.unit_**2
