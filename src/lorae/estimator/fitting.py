"""Training for a given number of components, a share of the variance, or "auto"."""

import dataclasses
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from lorae.estimator.model_selection import Curve, Point, evaluate_model, measure, refine
from lorae.estimator.nested import NestedModel
from lorae.estimator.networks import mean_sample
from lorae.estimator.training import Setting, Trained, split, train
from lorae.estimator.validation import is_integer
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.residual import principal_axes

Build = Callable[..., Autoencoder]
"""Returns an untrained model for training samples and a number of codes, `latent`."""


def fit_components(
    n_components: Any,
    largest: int,
    *,
    build: Build,
    samples: Tensor,
    setting: Setting,
    start: NestedModel | None = None,
) -> tuple[Trained, tuple[int, int], list[Point]]:
    """Return a trained model, the interval of its number of components, and the path to it.

    Args:
        n_components: the number, a share or "auto".
        largest: the largest number that is considered, if it is to be chosen.
        build: returns an untrained model.
        samples: of training, as floats.
        setting: of training.
        start: a model to start from, if it has the right number of codes.

    Warns:
        ConvergenceWarning: if no number predicts hidden values, or the largest is chosen.
    """
    known: dict[int, Trained] = {}

    def train_rank(rank: int, *, refit: bool) -> Trained:
        first = start if start is not None and start.latent == rank else None
        known[rank] = train(
            partial(build, latent=rank),
            samples,
            setting,
            first,
            found=known.get(rank),
            refit=refit,
        )
        return known[rank]

    if is_integer(n_components):
        count = int(n_components)
        return train_rank(count, refit=True), (count, count), []
    curve = _wide_curve(largest, build, samples, setting)
    if n_components == "auto":
        parts = split(samples, setting)
        curve = refine(
            curve, lambda rank: evaluate_model(train_rank(rank, refit=False).model, *parts)
        )
        count, interval = curve.select(), curve.interval(setting.seed)
    else:
        count = curve.share(float(n_components))
        interval = count, count
    _warn_about(count, largest, samples[0].numel())
    return train_rank(max(1, count), refit=True), interval, curve.points


def _wide_curve(largest: int, build: Build, samples: Tensor, setting: Setting) -> Curve:
    """Return the held-out errors of one nested model of many codes, of half the steps."""
    kept, held_out = split(samples, setting)
    wide = dataclasses.replace(setting, prefix_weight=1.0, steps=max(1, setting.steps // 2))
    trained = train(partial(build, latent=largest), samples, wide, refit=False)
    mean = mean_sample(kept)
    centred = ((kept - mean) / trained.model.scale.cpu()).flatten(1)
    if trained.model.gaps is not None:
        centred = trained.model.gaps.factors.fill(centred)
    axes, _ = principal_axes(centred, largest)
    return measure(NestedModel.from_objective(trained.objective), held_out, mean, axes)


def _warn_about(count: int, largest: int, values: int) -> None:
    if count == 0:
        message = (
            "no component predicts hidden values of held-out samples better than their mean: X "
            "looks like noise, n_components_ is 1"
        )
    elif count == largest < values:
        message = (
            f"the number of components is the largest that is considered, {largest}: no low "
            "dimension was found in X"
        )
    else:
        return
    warnings.warn(message, ConvergenceWarning, stacklevel=4)
