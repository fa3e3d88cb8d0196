r"""Imputation: gaps in samples, predicted from their observed values.

Two models predict a gap: the low-rank Gaussian g that fills the input of the encoder
(:mod:`lorae.linalg.incomplete`), and the autoencoder f, whose codes need not hold what is peculiar
to one value. The prediction of value j is

.. math:: (1 - a_j) \, g_j(x) + a_j f_j(x), \qquad 0 \le a_j \le 1,

with the weights that predict best the values of held-out samples that were hidden from both.
"""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from lorae.estimator.inputs import InputFormat, fill_container
from lorae.estimator.nested import NestedModel
from lorae.linalg.incomplete import hide_like_others
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import complete, decode_all, encode_all, evaluation_mode

_ROUNDS = 10
_PRIOR = 50  # hidden values that count for the common weight of all columns


@torch.no_grad()
def fit_weights(model: Autoencoder, held_out: Tensor) -> Float[Tensor, " d"]:
    """Return the weights a of the autoencoder; 1 for one that takes no gaps.

    Args:
        model: trained without the held-out samples.
        held_out: n samples, from which values are hidden that another one lacks.
    """
    values = held_out[0].numel()
    if model.gaps is None:
        return torch.ones(values)
    generator = torch.Generator().manual_seed(0)
    cross = squares = count = torch.zeros(values, dtype=torch.float64)
    with evaluation_mode(model):
        target = model.scaled(held_out.to(model.shift))
        for _ in range(_ROUNDS):
            hidden = hide_like_others(target.isnan(), generator)
            seen = target.masked_fill(hidden, torch.nan)
            expected = model.gaps.factors.expect(seen.flatten(1)).view_as(seen)
            change = model.decoder(model.bridge(model.encoder(seen))) - expected
            wanted = (target - expected).nan_to_num(0)
            cross, squares, count = (
                total + (part * hidden).flatten(1).sum(0).double().cpu()
                for total, part in (
                    (cross, change * wanted),
                    (squares, change.square()),
                    (count, torch.ones_like(target)),
                )
            )
    common = (cross.sum() / squares.sum().clamp(min=1e-30)).clamp(0, 1)
    ridge = _PRIOR * squares.sum() / count.sum().clamp(min=1)
    return ((cross + ridge * common) / (squares + ridge).clamp(min=1e-30)).clamp(0, 1).float()


class ImputationMixin:
    """What an estimator does with gaps in samples."""

    nested_: NestedModel
    fill_weight_: "np.ndarray[Any, Any]"
    input_format_: InputFormat

    @abstractmethod
    def _read(self, X: Any, *, reset: bool = False) -> Tensor:
        """Return samples as floats in the layout of the networks."""

    @abstractmethod
    def _to_samples(self, decoded: Tensor, *, frames: bool = True) -> Any:
        """Return decoded samples in the user's layout and container."""

    def impute(self, X: Any) -> Any:
        """Return samples with their gaps filled; observed values are not changed.

        A gap is predicted by the autoencoder and by a Gaussian factor model, with weights that were
        fitted to held-out samples (:mod:`lorae.estimator.imputation`). After a fit to complete
        samples, the autoencoder predicts alone: gaps are set to the mean, and ten times to what is
        decoded.

        Returns:
            The container, dtype, index and columns of `X`.
        """
        check_is_fitted(self)
        samples, model = self._read(X), self.nested_.model
        decoded = decode_all(model, encode_all(model, samples)).to(samples)
        if model.gaps is not None:
            scale, shift = model.scale.to(samples), model.shift.to(samples)
            scaled = ((samples - shift) / scale).flatten(1)
            expected = model.gaps.factors.expect(scaled).view_as(samples) * scale + shift
            weight = torch.from_numpy(self.fill_weight_).view(samples.shape[1:])
            decoded = expected + weight.to(samples) * (decoded - expected)
        else:
            decoded = complete(model.to(samples.dtype), samples)
        is_mixed = self.input_format_.schema is not None
        return fill_container(X, self._to_samples(decoded, frames=is_mixed))
