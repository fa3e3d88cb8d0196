r"""Model selection: the number of coordinates that data have.

One nested model of many codes (:mod:`lorae.objectives.nested`) is trained on a part of the samples,
and then a few models of fewer codes, to which bisection leads. Over the held-out samples two errors
are measured for k codes, as shares of the variance:

- the *reconstruction* error :math:`e_k`;
- the *prediction* error :math:`p_k`: a fifth of the values of each sample is hidden, the rest is
  encoded, and the hidden values are compared with the decoded ones. Hidden values are first set to
  the mean and then, ten times, to what is decoded. Each value is hidden once.

More codes always reproduce more of the noise in a sample, so e_k falls up to the number of values.
Noise in one value says nothing about the others, so p_k stops falling at the number of coordinates
that the values have in common.

Codes can be too few although both errors are small: two for a sphere, on which the encoder then
cuts it open. So a third quantity is the share of *torn* pairs: for a sample and a neighbour of it,
the decoder at the middle of their codes is further from both reconstructions than the samples are
from each other.

The number of components is the smallest k with at most one torn pair in 5,000 and

.. math::
    e_k \le 0.002 + \min(\mathrm{se}, 0.002) \quad \text{or} \quad
    p_k \le p_* + \max(\mathrm{se}, 0.002, 0.05 \min(p_*, 1 - p_*)),

where the star is the k of the smallest prediction error, and se the standard error of the mean of
:math:`e_k`, or of :math:`p_k - p_*`, over held-out samples. A sample further from the mean than
twice the distance that nine in ten do not exceed counts as if it were there, so that an outlier
does not decide. Prediction is used for samples of 8 or more values, and for k up to half of their
number: fewer values say too little about each other.

Reference:
    Wold, Cross-validatory estimation of the number of components in factor and principal
    components models (Technometrics 1978), for the prediction of hidden values; Breiman et al.,
    Classification and Regression Trees (1984), section 3.4, for the rule of one standard error;
    Satopaa et al., Finding a "Kneedle" in a Haystack (ICDCS workshops 2011), for the knee.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from lorae.estimator.nested import NestedModel
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import (
    decode_all,
    encode_all,
    evaluation_mode,
    predict_by_rounds,
    squared_errors,
)
from lorae.utils.samples import has_gaps

TOLERANCE = 0.002
"""Share of the variance that the number of components may lose."""
RELATIVE = 0.05
"""Share of the smallest prediction error, or of what can be predicted, that it may lose."""
MAX_TORN = 1 / 5000
"""Share of the pairs of neighbours that may be torn."""
_OUTLYING = 4  # squared deviations above this multiple of their 90% quantile are limited
_NEIGHBOURS = 3
_MAX_PAIRED = 2000  # samples
_HIDDEN = 5  # parts of the values, of which one is hidden at a time
_MAX_SAMPLES = 300
_GIVE_UP = 5  # ranks in a row without a smaller prediction error
_DRAWS = 200  # resamples of the interval
_LEAST_VALUES = 8


@dataclass(frozen=True)
class Point:
    """Held-out errors of the first codes of a nested model, as shares of the variance.

    Attributes:
        rank: the number k of codes.
        error: of the reconstruction.
        prediction_error: of hidden values; None if not measured.
        pca_error: of the reconstruction by k principal components.
    """

    rank: int
    error: float
    prediction_error: float | None
    pca_error: float


@dataclass(frozen=True)
class Curve:
    """Held-out errors of each sample for the first k codes.

    Attributes:
        ranks: the numbers of codes, ascending.
        errors: of reconstructions, one row for each rank.
        predictions: of hidden values, one row for each of the ranks up to half the number of
            values; empty if these are too few.
        pca_errors: mean error of principal components, for each rank.
        deviations: squared deviations of the samples from the mean.
        torn: share of the pairs of neighbours that are torn, for each rank; 0 if not measured.
    """

    ranks: tuple[int, ...]
    errors: Float[Tensor, "r n"]
    predictions: Float[Tensor, "q n"]
    pca_errors: Float[Tensor, " r"]
    deviations: Float[Tensor, " n"]
    torn: Float[Tensor, " r"]

    @property
    def points(self) -> list[Point]:
        """The mean errors at each rank, of the model of at most so many codes that loses least."""
        total = self.deviations.mean()
        errors, pca_errors = (self.errors.mean(1) / total).tolist(), self.pca_errors / total
        hidden: list[float | None] = (self.predictions.mean(1) / total).tolist()
        hidden += [None] * (len(self.ranks) - len(hidden))
        best = [min(range(i + 1), key=errors.__getitem__) for i in range(len(errors))]
        rows = [(errors[i], hidden[i]) for i in best]
        return [
            Point(rank, *row, pca_error)
            for rank, row, pca_error in zip(self.ranks, rows, pca_errors.tolist(), strict=True)
        ]

    def select(self, rows: Tensor | None = None) -> int:
        """Return the number of components, 0 if no code predicts a hidden value.

        Args:
            rows: indices of the held-out samples that are used; all by default.
        """
        parts = (self.errors, self.predictions, self.deviations)
        weights = outlier_weights(self.deviations)
        errors, predictions, deviations = (
            part * weights if rows is None else (part * weights)[..., rows] for part in parts
        )
        total = deviations.mean()
        most = TOLERANCE * total
        enough = errors.mean(1) <= most + _standard_error(errors).clamp(max=float(most))
        if len(predictions):
            predicts = _predicts_as_well(torch.cat([deviations[None], predictions]))
            if predicts[0]:
                return 0
            enough[: len(predictions)] |= predicts[1:]
        found = (enough & (self.torn <= MAX_TORN)).nonzero()
        return self.ranks[int(found[0])] if len(found) else self.ranks[-1]

    def replace_row(
        self, rank: int, errors: Tensor, predictions: Tensor | None, torn: float
    ) -> "Curve":
        """Return a curve with other errors at a rank, which is one of its ranks."""
        row = self.ranks.index(rank)
        parts = [self.errors.clone(), self.predictions.clone(), self.torn.clone()]
        parts[0][row], parts[2][row] = errors, torn
        if predictions is not None and row < len(parts[1]):
            parts[1][row] = predictions
        return replace(self, errors=parts[0], predictions=parts[1], torn=parts[2])

    def share(self, share: float) -> int:
        """Return the smallest rank that keeps a share of what the best one explains."""
        explained = self.deviations.mean() - self.errors.mean(1)
        enough = explained >= share * explained.max()
        return self.ranks[int(enough.nonzero()[0])]

    def interval(self, seed: int) -> tuple[int, int]:
        """Return the middle ninety percent of the number over resamples of held-out samples."""
        generator = torch.Generator().manual_seed(seed)
        n = len(self.deviations)
        index = (torch.randint(n, (n,), generator=generator) for _ in range(_DRAWS))
        found = [self.select(rows) for rows in index]
        low, high = np.quantile(found, (0.05, 0.95), method="nearest")
        return int(low), int(high)


def outlier_weights(deviations: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return factors that limit squared deviations to four times their 90% quantile.

    Example:
        >>> outlier_weights(torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 100]))[-2:]
        tensor([1.0000, 0.0400])
    """
    most = _OUTLYING * deviations.quantile(0.9)
    return (most / deviations).where((deviations > most) & (most > 0), 1.0)


def _predicts_as_well(errors: Float[Tensor, "q n"]) -> Tensor:
    """Return for each row whether its errors are as small as those of the best row.

    The first row has the errors of the mean.
    """
    best = errors[errors.mean(1).argmin()]
    total, least = float(errors[0].mean()), float(best.mean())
    allowed = max(TOLERANCE * total, RELATIVE * min(least, total - least))
    more = errors - best
    accepted: Tensor = more.mean(1) <= _standard_error(more).clamp(min=allowed)
    return accepted


def _standard_error(errors: Float[Tensor, "q n"]) -> Float[Tensor, " q"]:
    error: Tensor = errors.std(1, correction=0) / errors.shape[1] ** 0.5
    return error


def levels(largest: int) -> tuple[int, ...]:
    """Return the numbers of codes that are looked at: each to 15, then steps of about a tenth.

    Example:
        >>> levels(24)
        (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 21, 23, 24)
    """
    found = [1]
    while found[-1] < largest:
        found.append(min(largest, found[-1] + max(1, round(found[-1] / 10))))
    return tuple(found)


def measure(
    nested: NestedModel, held_out: Tensor, mean: Tensor, axes: Float[Tensor, "l d"]
) -> Curve:
    """Return the held-out errors of a nested model.

    Args:
        nested: the model, trained without the held-out samples.
        held_out: n of them, at least 1, of which up to 300 are used.
        mean: of the training samples.
        axes: their principal axes in scaled units.
    """
    x, ranks, values = held_out[:_MAX_SAMPLES], levels(nested.latent), mean.numel()
    errors: list[Tensor] = []
    hidden: list[Tensor] = []
    unit = float(nested.model.scale.double().square().mean())
    for rank in ranks:
        model = nested.first(rank)
        errors.append(unit * squared_errors(model, x, mean)[0])
        best = min(range(len(hidden)), key=lambda i: float(hidden[i].mean()), default=0)
        if values >= _LEAST_VALUES and rank <= values // 2 and len(hidden) - best <= _GIVE_UP:
            hidden.append(unit * prediction_errors(model, x))
    centred = (nested.model.scaled(x) - nested.model.scaled(mean[None])).flatten(1).double().cpu()
    if nested.model.gaps is not None:
        centred = nested.model.gaps.factors.fill(centred)
    energy = centred.square().sum(1)
    kept = (centred @ axes.mT).square().mean(0).cumsum(0)
    left = (energy.mean() - kept[torch.tensor(ranks) - 1]).clamp(min=0)
    return Curve(
        ranks=ranks,
        errors=torch.stack(errors),
        predictions=torch.stack(hidden) if hidden else errors[0].new_empty(0, len(x)),
        pca_errors=unit * left / values,
        deviations=unit * energy / values,
        torn=torch.zeros(len(ranks), dtype=torch.float64),
    )


Measured = tuple[Tensor, Tensor | None, float]


def refine(curve: Curve, evaluate: Callable[[int], Measured]) -> Curve:
    """Return a curve with the errors of models of their own near the number of components.

    The first codes of a wide model lose more than a model of so few codes. The search finds the
    smallest rank whose own model is as good as that of about twice the rank. It begins at the knee
    of the curve, goes up by doubling while that gains, and down by one, and then bisects.

    Args:
        curve: of the wide model.
        evaluate: trains a model of a rank and returns its errors of reconstructions and of hidden
            values, and its share of torn pairs.
    """
    ranks = (0, *curve.ranks)
    limit = ranks.index(curve.select())
    found = knee(curve.ranks, [point.error + TOLERANCE for point in curve.points])
    low, high = 0, limit if found is None else min(limit, found + 1)
    if high:
        curve = curve.replace_row(ranks[high], *evaluate(ranks[high]))
    while (top := min(limit, bisect_right(ranks, 2 * ranks[high]) - 1)) > high:
        curve = curve.replace_row(ranks[top], *evaluate(ranks[top]))
        if curve.select() <= ranks[high]:
            break
        low, high = high, top
    middle = high - 1
    while high - low > 1:
        curve = curve.replace_row(ranks[middle], *evaluate(ranks[middle]))
        if curve.select() <= ranks[middle]:
            high = middle
        else:
            low = middle
        middle = (low + high) // 2
    return curve


def knee(ranks: Sequence[int], errors: Sequence[float]) -> int | None:
    r"""Return the index of the knee of a path, where log error bends most over log rank.

    Both logarithms are scaled to [0, 1]; the knee is the point furthest below the chord from the
    smallest rank to the largest. None if no point between them is below it.

    Args:
        ranks: distinct, 1 or more.
        errors: positive, as many.

    Example:
        >>> knee([1, 2, 3, 4, 6, 8, 16], [0.5, 0.3, 0.1, 0.01, 0.0099, 0.0098, 0.0097])
        3
        >>> knee([1, 2, 4], [1.0, 0.9, 0.1]) is None
        True
    """
    x, y = (np.log(np.maximum(values, 1e-300)) for values in (ranks, errors))
    x, y = ((v - v.min()) / max(v.max() - v.min(), 1e-12) for v in (x, y))
    low, high = int(x.argmin()), int(x.argmax())
    below = y[low] + (y[high] - y[low]) * (x - x[low]) - y
    best = int(below.argmax())
    return None if below[best] < 1e-9 or best in (low, high) else best


def evaluate_model(model: Autoencoder, kept: Tensor, held_out: Tensor) -> Measured:
    """Return the errors of a model on held-out samples, in their units, and its torn share.

    Args:
        model: trained without the held-out samples.
        kept: the samples that it was trained on.
        held_out: the others.
    """
    x = held_out[:_MAX_SAMPLES]
    unit = float(model.scale.double().square().mean())
    errors = unit * squared_errors(model, x, x[0])[0]
    values = x[0].numel()
    predicts = values >= _LEAST_VALUES and model.bridge.latent <= values // 2
    hidden = unit * prediction_errors(model, x) if predicts else None
    return errors, hidden, torn_share(model, kept[:_MAX_PAIRED])


@torch.no_grad()
def torn_share(model: Autoencoder, samples: Tensor) -> float:
    r"""Return the share of pairs of neighbours that the codes tear apart.

    With codes z, reconstructions :math:`\hat x` and each of the three nearest neighbours
    :math:`x_j` of :math:`x_i`, the pair is torn if

    .. math::
        \min_{r \in \{i, j\}} \Big\| D\Big(\frac{z_i + z_j}2\Big) - \hat x_r \Big\|
        > 0.9 \max(\| x_i - x_j \|, m / 2),

    where m is the median distance of a sample to its nearest neighbour.

    For a decoder that is linear between the two, the left side is at most half of the right one.
    Samples with gaps have no distances, and a share of 0.
    """
    if has_gaps(samples):
        return 0.0
    z = encode_all(model, samples)
    flat = model.scaled(samples.to(model.shift)).flatten(1).double().cpu()
    count = min(_NEIGHBOURS, len(flat) - 1)
    nearest = NearestNeighbors(n_neighbors=count).fit(flat.numpy())
    lengths, index = map(torch.from_numpy, nearest.kneighbors())
    decoded = decode_all(model, z)
    least = float(lengths[:, 0].median()) / 2
    torn = 0
    for length, j in zip(lengths.mT, index.mT, strict=True):
        middle = decode_all(model, (z + z[j]) / 2)
        ends = torch.stack([middle - decoded, middle - decoded[j]]) / model.scale.cpu()
        away = ends.flatten(2).double().norm(dim=2).amin(0)
        torn += int(((away > 0.9 * length.clamp(min=least)) & (length > 0)).sum())
    return torn / max(1, index.numel())


@torch.no_grad()
def prediction_errors(model: Autoencoder, samples: Tensor) -> Float[Tensor, " n"]:
    """Return the mean squared error of hidden values for each sample, in scaled units.

    Args:
        model: centred: scaled samples have mean 0.
        samples: n of them.
    """
    values = samples[0].numel()
    order = torch.randperm(values, generator=torch.Generator().manual_seed(0))
    total = torch.zeros(len(samples), dtype=torch.float64)
    with evaluation_mode(model):
        target = model.scaled(samples.to(model.shift))
        for part in range(_HIDDEN):
            hidden = torch.zeros(values, dtype=torch.bool)
            hidden[order[part::_HIDDEN]] = True
            mask = hidden.view(samples.shape[1:]).to(target.device)
            if model.gaps is not None:
                decoded = model.decoder(model.encoder(target.masked_fill(mask, torch.nan)))
                error = (decoded - target).nan_to_num(0) * mask
            else:
                error = predict_by_rounds(model, target, mask) - target
            total += error.flatten(1).square().sum(1).double().cpu()
        observed = (~target.isnan()).flatten(1).sum(1).cpu()
    return total / observed
