r"""Model selection: the rank of a path by its held-out errors, and the knee of a path.

With the held-out error :math:`e_j` of the model of rank :math:`r_j`, the error :math:`e_\mu` of
the training mean, and the explained variance :math:`v_j = e_\mu - e_j`, the rules are

- a share s: the smallest rank with :math:`v_j \ge s \max_i v_i`;
- "auto", the one-standard-error rule: the smallest rank with
  :math:`e_j \le e_* + \max(\mathrm{se}_*, 0.01\, v_*)`, where the star marks the model of least
  error and se is the standard error of its mean over the held-out samples. The hundredth is there
  because with many samples and little noise any difference is significant: it must matter, too.

A path skips ranks. :func:`select_rank` closes the gap below the smallest rank that passes by
bisection.

Reference:
    Breiman, Friedman, Olshen and Stone, Classification and Regression Trees (1984), section 3.4,
    for the one-standard-error rule.
"""

import math
import numbers
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from sklearn.exceptions import ConvergenceWarning

from lorae.errors import InputError
from lorae.estimator.rank_reduction import (
    STAGE,
    Point,
    Trainer,
    ladder,
    mean_of,
    train_at_rank,
    walk,
)
from lorae.nn.autoencoder import Autoencoder, clone
from lorae.nn.inference import squared_errors
from lorae.objectives.base import AE
from lorae.utils.samples import subsample

_MATTERS = 0.01  # share of the explained variance that "auto" may lose
_PATIENCE = 2  # points in a row that fail the rule, after which a path is abandoned
_SAMPLES = 4000  # training samples that a model is evaluated on if none are held out
_LEAST_EXPLAINED = 0.01  # share of the variance below which a model is warned about

Rule = Callable[[Point, Sequence[Point], float], bool]
"""Whether a point passes among others, given the error of the mean."""


def explains(share: float) -> Rule:
    """Return the rule that a model explains at least a share of what the best one explains.

    Example:
        >>> from lorae.nn.autoencoder import Architecture, build
        >>> model = build(Architecture("mlp", (2,), 1))
        >>> wide, narrow = (Point(0, r, e, 0.0, 0, model) for r, e in ((9, 0.0), (2, 0.3)))
        >>> explains(0.6)(narrow, [wide, narrow], 1.0), explains(0.9)(narrow, [wide, narrow], 1.0)
        (True, False)
    """

    def rule(point: Point, points: Sequence[Point], mean_error: float) -> bool:
        best = min(one.error for one in points)
        return point.error <= best + (1 - share) * max(0.0, mean_error - best)

    return rule


def one_standard_error(point: Point, points: Sequence[Point], mean_error: float) -> bool:
    """Return whether a point is as good as the best, up to one standard error or a hundredth."""
    best = min(points, key=lambda one: one.error)
    allowed = max(best.standard_error, _MATTERS * (mean_error - best.error), 0.0)
    return point.error <= best.error + allowed


def rule_for(n_components: object) -> Rule:
    """Return the rule for a share or "auto".

    Raises:
        InputError: if it is neither.
    """
    if n_components == "auto":
        return one_standard_error
    if isinstance(n_components, float) and 0 < n_components < 1:
        return explains(n_components)
    raise InputError(
        f'n_components must be an integer of at least 1, a share in (0, 1) or "auto", got '
        f"{n_components!r}"
    )


def select_rank(
    trainer: Trainer, path: Iterable[Point], rule: Rule, mean_error: float, steps: int
) -> tuple[Point, list[Point]]:
    """Return the point of the smallest rank that passes a rule, and all points by descending rank.

    Args:
        trainer: the trainer of the path.
        path: points by descending rank; it is followed only as far as necessary.
        rule: the rule.
        mean_error: held-out error of the training mean.
        steps: optimizer steps of each stage that closes a gap.
    """
    points: list[Point] = []
    failed = 0
    for point in path:
        points.append(point)
        failed = 0 if rule(point, points, mean_error) else failed + 1
        if failed == _PATIENCE:
            break
    while True:
        best = min((p for p in points if rule(p, points, mean_error)), key=lambda p: p.rank)
        below = max((p.rank for p in points if p.rank < best.rank), default=0)
        if best.rank - below <= 1:
            return best, sorted(points, key=lambda p: -p.rank)
        points.append(trainer.run_stage(best.model, (best.rank + below) // 2, steps))


def train_and_select(
    trainer: Trainer, model: Autoencoder, n_components: Any, steps: int
) -> tuple[Autoencoder, list[Point]]:
    """Return a trained model with a number of components, and the points of the path to it.

    Args:
        trainer: with held-out samples, unless `n_components` is an integer.
        model: the model to start from, without a bridge.
        n_components: a rank, a share or "auto".
        steps: optimizer steps of one training; to choose a rank takes about 2.5 times as many.

    Raises:
        InputError: if the rank is above the number of codes of the model.
        Diverged: if the loss is not finite.

    Warns:
        ConvergenceWarning: if the model explains next to nothing.
    """
    if isinstance(n_components, numbers.Integral):
        rank, latent = int(n_components), model.bridge.latent
        if rank > latent:
            raise InputError(f"n_components must be at most the latent size, {latent}, got {rank}")
        model = train_at_rank(trainer, model, rank, steps)
        warn_if_no_better_than_mean(trainer, model)
        return model, []
    trainer.run("training", AE(model), max(1, round(0.6 * steps)))
    warn_if_no_better_than_mean(trainer, model)
    stage, mean_error = max(1, round(STAGE * steps)), trainer.mean_error(model)
    path = walk(trainer, model, stage, ranks=ladder(model.bridge.latent))
    best, points = select_rank(trainer, path, rule_for(n_components), mean_error, stage)
    model = clone(best.model)
    trainer.run("finishing", AE(model), max(1, round(0.4 * steps)), cool=True)
    return model, points


def warn_if_no_better_than_mean(trainer: Trainer, model: Autoencoder) -> None:
    """Warn if a model explains less than a hundredth of the variance of samples that do vary.

    The samples are the held-out ones or, if there are none, some of the training samples.

    Warns:
        ConvergenceWarning: of scikit-learn, with the share that is explained.
    """
    mean, kind, samples = mean_of(trainer.training_samples), "held-out", trainer.held_out
    if not len(samples):
        kind, samples = "training", subsample(trainer.training_samples, _SAMPLES, trainer.seed)
    errors, distances = squared_errors(model, samples, mean)
    share = 1 - float(errors.sum() / distances.sum()) if distances.any() else 1.0
    if share < _LEAST_EXPLAINED:
        warnings.warn(
            f"the autoencoder of {model.bridge.latent} codes explains {share:.1%} of the variance "
            f"of {kind} samples, next to nothing: try more steps, a lower learning_rate or more "
            "samples",
            ConvergenceWarning,
            stacklevel=3,
        )


def knee(ranks: Sequence[int], errors: Sequence[float]) -> int:
    r"""Return the index of the knee of a path, where log error bends most over log rank.

    Both logarithms are scaled to [0, 1]; the knee is the point furthest below the chord from the
    smallest rank to the largest.

    Reference:
        Satopaa et al., Finding a "Kneedle" in a Haystack (ICDCS workshops 2011).

    Args:
        ranks: distinct, 1 or more.
        errors: positive, as many.

    Example:
        >>> knee([1, 2, 3, 4, 6, 8, 16], [0.5, 0.3, 0.1, 0.01, 0.0099, 0.0098, 0.0097])
        3
    """
    if len(ranks) < 3:
        return len(ranks) - 1
    x, y = (
        torch.tensor([math.log(max(v, 1e-300)) for v in values], dtype=torch.float64)
        for values in (ranks, errors)
    )
    x, y = ((v - v.min()) / (v.max() - v.min()).clamp(min=1e-12) for v in (x, y))
    low, high = int(x.argmin()), int(x.argmax())
    chord = y[low] + (y[high] - y[low]) * (x - x[low])
    return int((chord - y).argmax())
