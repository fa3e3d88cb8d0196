"""Anomalies: the reconstruction error of samples, its calibration and the values that cause it."""

from abc import abstractmethod
from typing import Any

import numpy as np
from torch import Tensor

from lorae.estimator.statistics import TINY

Array = np.ndarray[Any, Any]


class AnomalyMixin:
    """Scores of an estimator with held-out errors `calibration_`."""

    calibration_: Array

    @abstractmethod
    def squared_errors(self, X: Any) -> tuple[Tensor, Tensor]:
        """Return the squared error and the squared deviation of each sample."""

    @abstractmethod
    def residuals(self, X: Any) -> Tensor:
        """Return the scaled difference of reconstructions and samples."""

    def score_samples(self, X: Any) -> Array:
        """Return minus the squared reconstruction error of each sample, averaged over its values.

        As in scikit-learn's outlier detectors, a higher score is more normal.
        """
        negative: Array = -self.squared_errors(X)[0].numpy()
        return negative

    def anomaly_score(self, X: Any) -> Array:
        r"""Return one minus the conformal p-value of the reconstruction error of each sample.

        With the errors :math:`c_1, \dots, c_m` of held-out training samples, it is
        :math:`\frac{1}{m + 1} \#\{i : c_i < e\}`. Of samples like those in training, a share of at
        most alpha, on average, has a score of 1 - alpha or more; so samples with a score of 0.95
        or more are anomalies at a false alarm rate of 5%. (Where all samples are trained on anew,
        the held-out errors are those of the model before.)

        Reference:
            Laxhammar and Falkman, Conformal prediction for distribution-independent anomaly
            detection in streaming vessel data (2010).
        """
        errors = self.squared_errors(X)[0].numpy()
        below = np.searchsorted(np.sort(self.calibration_), errors)
        return np.asarray(below / (len(self.calibration_) + 1))

    def anomaly_contributions(self, X: Any) -> Array:
        """Return the share of each value in the squared error of each sample, n x n_features."""
        squares = self.residuals(X).flatten(1).square().nan_to_num(0)
        shares: Array = (squares / squares.sum(1, keepdim=True).clamp(min=TINY)).numpy()
        return shares
