r"""How many dimensions: rules over the held-out errors of a path, and its knee.

With the held-out error :math:`e_j` of the model of rank :math:`r_j`, the error :math:`e_\mu` of
the training mean, and the explained variance :math:`v_j = e_\mu - e_j`:

- a share s: the smallest rank with :math:`v_j \ge s \max_i v_i`;
- "auto", the one-standard-error rule: the smallest rank with
  :math:`e_j \le e_* + \max(\mathrm{se}_*, 0.01\, v_*)`, where the star is the model of least error.
  The standard error is that of its mean over the held-out samples. The hundredth is there because
  many samples without noise make any difference significant: it must matter, too.

A path has gaps between its ranks. :func:`chosen` closes the one that matters by bisection: from
the last model that passed, others are narrowed to ranks in between.

Reference:
    Breiman, Friedman, Olshen and Stone, Classification and Regression Trees (1984), section 3.4,
    for the one-standard-error rule.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence

import torch
from sklearn.exceptions import ConvergenceWarning

from lorae.errors import InputError
from lorae.estimator.rank_reduction import Point, Trainer, mean_of
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import squared_errors
from lorae.objectives.base import AE
from lorae.training.sampler import subsample

MATTERS = 0.01
"""The share of the explained variance that "auto" is ready to lose."""
_SOME = 4000  # samples at most that a model is judged by where none are held out
_PATIENCE = 2  # points in a row that fail the rule, after which a walk ends

_IDLE = 0.01  # share of the variance below which a model explains next to nothing

Rule = Callable[[Point, Sequence[Point], float], bool]
"""Whether a point passes among others, given the error of the mean."""


def holds(share: float) -> Rule:
    """Return the rule that a share of the explained variance is held.

    Example:
        >>> from lorae.nn.autoencoder import Architecture, build
        >>> model = build(Architecture("mlp", (2,), 1))
        >>> wide, narrow = (Point(0, r, e, 0.0, 0, model) for r, e in ((9, 0.0), (2, 0.3)))
        >>> holds(0.6)(narrow, [wide, narrow], 1.0), holds(0.9)(narrow, [wide, narrow], 1.0)
        (True, False)
    """

    def rule(point: Point, points: Sequence[Point], mean_error: float) -> bool:
        best = min(one.error for one in points)
        return point.error <= best + (1 - share) * max(0.0, mean_error - best)

    return rule


def one_standard_error(point: Point, points: Sequence[Point], mean_error: float) -> bool:
    """Return whether a point is as good as the best, to one standard error or a hundredth."""
    best = min(points, key=lambda one: one.error)
    allowed = max(best.deviation, MATTERS * (mean_error - best.error), 0.0)
    return point.error <= best.error + allowed


def rule_for(n_components: object) -> Rule:
    """Return the rule for a share, or for "auto".

    Raises:
        InputError: if it is neither.
    """
    if n_components == "auto":
        return one_standard_error
    if isinstance(n_components, float) and 0 < n_components < 1:
        return holds(n_components)
    raise InputError(
        f'n_components must be a whole number of 1 or more, a share in (0, 1) or "auto", got '
        f"{n_components!r}"
    )


def chosen(
    trainer: Trainer, walked: Iterable[Point], rule: Rule, mean_error: float, steps: int
) -> tuple[Point, list[Point]]:
    """Return the point of the smallest rank that passes, and all points, by descending rank.

    Args:
        trainer: that walks.
        walked: the points of a walk, the widest first; no more are asked for than it takes.
        rule: that a point must pass.
        mean_error: held-out error of the training mean.
        steps: of each stage that closes a gap.
    """
    points: list[Point] = []
    failed = 0
    for point in walked:
        points.append(point)
        failed = 0 if rule(point, points, mean_error) else failed + 1
        if failed == _PATIENCE:
            break
    while True:
        best = min((p for p in points if rule(p, points, mean_error)), key=lambda p: p.rank)
        below = max((p.rank for p in points if p.rank < best.rank), default=0)
        if best.rank - below <= 1:
            return best, sorted(points, key=lambda p: -p.rank)
        down = max(1, round(0.6 * steps))
        model, weight = trainer.narrow(best.model, (best.rank + below) // 2, down)
        trainer.run("settling", AE(model), max(1, steps - down))
        points.append(trainer.judged(model, weight))


def warn_if_idle(trainer: Trainer, model: Autoencoder) -> None:
    """Warn where a model explains less than a hundredth of the variance of samples that do vary.

    Of held-out samples, or of some that are trained on where none are held out.

    Args:
        trainer: of the model.
        model: trained.

    Warns:
        ConvergenceWarning: of scikit-learn's, which says what share is explained.
    """
    held = len(trainer.held_out) > 0
    seen = trainer.training_samples
    samples = trainer.held_out if held else subsample(seen, _SOME, trainer.seed)
    errors, apart = squared_errors(model, samples, mean_of(seen))
    share = 1 - float(errors.sum() / apart.sum()) if apart.any() else 1.0
    if share < _IDLE:
        what = "held-out" if held else "training"
        warnings.warn(
            f"the autoencoder of {model.bridge.latent} codes explains {share:.1%} of the variance "
            f"of {what} samples, next to nothing: try more steps, a lower learning_rate or more "
            "samples",
            ConvergenceWarning,
            stacklevel=3,
        )


def knee(ranks: Sequence[int], errors: Sequence[float]) -> int:
    r"""Return the place of the knee of a path: where log error bends most against log rank.

    The points are scaled to the unit square, in the logarithms of both; the knee is the one that
    lies furthest below the chord from the first to the last.

    Reference:
        Satopaa et al., Finding a "Kneedle" in a Haystack (ICDCS workshops 2011), whose measure
        this is.

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
