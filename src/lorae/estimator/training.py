r"""Training of one model of a given number of codes, as long as held-out samples gain from it.

1. The model starts as principal component analysis (:mod:`lorae.estimator.networks`), or, if
   two or three coordinates of a manifold are enough where as many principal components are not, as
   Isomap (:mod:`lorae.estimator.unfolding`): a quarter of the steps goes into that, and training is
   then without noise.
2. It is trained on a part of the samples by :class:`lorae.objectives.nested.NestedDenoising`, with
   one cycle of the learning rate. Every 25 steps its error on the rest is measured, and the
   weights of the smallest error are kept, which may be the first ones. Training stops when it has
   not improved for two fifths of the steps.
3. If that model came late, and loses hardly more on held-out samples than on its own, it is trained
   on with all samples, for as many steps in a second cycle. Otherwise a new one is trained with
   all samples, in a cycle that ends at the step of the best model: none if that was the first one.
   If this model reproduces all samples worse than the one that step 3 began with, it is dropped.
4. If it reproduces them worse than principal component analysis, which a few samples far from the
   others can cause, the result is that.

So the amount of nonlinearity follows the data, down to none. All training is in the space that the
samples span (:mod:`lorae.estimator.span`).
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor

from lorae.estimator.imputation import fit_weights
from lorae.estimator.nested import NestedModel
from lorae.estimator.span import Span
from lorae.estimator.unfolding import start_unfolded
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import evaluation_mode, squared_errors
from lorae.objectives.base import Objective
from lorae.objectives.nested import PREFIX_WEIGHT, NestedDenoising
from lorae.training.loop import Stepper, optimize
from lorae.training.options import OptimizerOptions
from lorae.training.sampler import Sampler

EVALUATE_EVERY = 25
PATIENCE = 0.4
"""Share of the steps without improvement after which training stops."""
EXACT = 0.01
"""Share of the variance below which samples count as reproduced by a model of many codes."""
LATE = 0.5
"""Share of the steps after which the best model is one that could be trained for longer."""
GAP = 1.2
"""Ratio of the errors of held-out and of training samples above which it could not."""
_SMALL = 0.001  # share of the variance that is added to both errors: less is no overfitting
UNFOLD = 0.25
"""Steps in which coordinates of Isomap are learned, as a share of those of training."""
_MAX_HELD_OUT = 1000
_RISE = 0.3  # share of a cycle

Build = Callable[[Tensor], Autoencoder]
"""Returns an untrained model for training samples."""


@dataclass(frozen=True)
class Setting:
    """How a model is trained.

    Attributes:
        steps: optimizer steps, at most.
        batch_size: samples in a step, at most.
        learning_rate: the largest one of the cycle.
        held_out: share of the samples that is held out.
        seed: of the batches and of the choice of held-out samples.
        fabric: the device.
        prefix_weight: weight of the reconstruction from the first codes.
        report: called with a line of the history from time to time.
    """

    steps: int
    batch_size: int
    learning_rate: float
    held_out: float
    seed: int
    fabric: Fabric
    prefix_weight: float = PREFIX_WEIGHT
    report: Callable[[dict[str, Any]], None] = field(default=lambda _: None, repr=False)


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        objective: the model with its biases of the first codes.
        best_step: the step of the smallest held-out error; 0 if the model is the start.
        unsaturated: whether it came late and without overfitting.
        errors: held-out error by step, of the training with held-out samples.
        held_out_errors: squared error of each held-out sample, by a model that did not see it, in
            that model's scaled units.
        fill_weight: that model's weights in the prediction of gaps
            (:mod:`lorae.estimator.imputation`).
        scale: that model's.
    """

    objective: NestedDenoising
    best_step: int
    unsaturated: bool
    errors: dict[int, float]
    held_out_errors: Float[Tensor, " n"]
    fill_weight: Float[Tensor, " d"]
    scale: Float[Tensor, "*shape"]

    @property
    def model(self) -> Autoencoder:
        """The model."""
        return self.objective.model


def split(samples: Tensor, setting: Setting) -> tuple[Tensor, Tensor]:
    """Return the samples to train on and those that are held out, at least one of each."""
    n = len(samples)
    count = min(max(1, round(setting.held_out * n)), _MAX_HELD_OUT)
    generator = torch.Generator().manual_seed(setting.seed)
    order = torch.randperm(n, generator=generator)
    return samples[order[count:]], samples[order[:count]]


def train(
    build: Build,
    samples: Tensor,
    setting: Setting,
    start: NestedModel | None = None,
    *,
    found: Trained | None = None,
    refit: bool = True,
) -> Trained:
    """Return a model that is trained as long as held-out samples gain from it.

    Args:
        build: returns the model to start from.
        samples: n of them, at least 2.
        setting: see there.
        start: a model to start from instead.
        found: the result without step 3, if it is known; its model may be trained on.
        refit: whether step 3 is made; otherwise the best model is the result.

    Raises:
        Diverged: if the loss is not finite.
    """

    def begin(part: Tensor) -> tuple[NestedDenoising, Span]:
        """Return an untrained objective in the space of the samples."""
        objective = NestedDenoising(build(part)) if start is None else start.to_objective()
        objective.prefix_weight = setting.prefix_weight
        span = Span.of(objective.model, samples)
        objective = span.narrow(objective)
        steps = round(UNFOLD * setting.steps)
        if start is None and start_unfolded(objective.model, span.project(part), steps):
            objective.noise = 0
        return objective, span

    if found is None:
        found = _search(begin, samples, setting)
    if not refit:
        return found
    if found.unsaturated:
        span, steps = Span.of(found.model, samples), setting.steps
        objective = span.narrow(found.objective)
    else:
        (objective, span), steps = begin(samples), found.best_step
    # without noise it began as Isomap
    from_pca = start is None and not found.unsaturated and objective.noise > 0
    inside = span.project(samples)
    first, best_step = copy.deepcopy(objective.state_dict()), found.best_step
    before = held_out_error(objective, inside)
    for _ in _steps(objective, inside, setting, steps=steps, phase="all samples"):
        pass
    if held_out_error(objective, inside) > before:
        objective.load_state_dict(first)
        best_step = best_step if found.unsaturated else 0
    objective = span.widen(objective).eval()
    if start is None and best_step and not from_pca:
        linear = NestedDenoising(build(samples)).eval()
        linear.prefix_weight = setting.prefix_weight
        if held_out_error(linear, samples) < held_out_error(objective, samples):
            objective, best_step = linear, 0
    return replace(found, objective=objective, best_step=best_step)


def _search(
    begin: Callable[[Tensor], tuple[NestedDenoising, Span]], samples: Tensor, setting: Setting
) -> Trained:
    """Return the model of the smallest held-out error."""
    parts = split(samples, setting)
    objective, span = begin(parts[0])
    kept, held_out = map(span.project, parts)
    errors = {0: held_out_error(objective, held_out)}
    best = copy.deepcopy(objective.state_dict())
    best_step, steps = 0, setting.steps
    for step in _steps(objective, kept, setting, steps=steps, phase="training"):
        if step % EVALUATE_EVERY and step != steps:
            continue
        errors[step] = held_out_error(objective, held_out)
        if errors[step] < errors[best_step]:
            best, best_step = copy.deepcopy(objective.state_dict()), step
        if step - best_step > PATIENCE * steps:
            break
    objective.load_state_dict(best)
    own = held_out_error(objective, kept[:_MAX_HELD_OUT])
    errors_by_sample = squared_errors(objective.eval().model, held_out, held_out[0])[0]
    objective = span.widen(objective).eval()
    model = objective.model
    return Trained(
        objective=objective,
        best_step=best_step,
        unsaturated=best_step >= LATE * steps and errors[best_step] + _SMALL < GAP * (own + _SMALL),
        errors=errors,
        held_out_errors=errors_by_sample,
        fill_weight=fit_weights(model, parts[1]),
        scale=model.scale,
    )


def one_pass(objective: NestedDenoising, samples: Tensor, setting: Setting) -> None:
    """Train in one pass over samples, at a tenth of the learning rate."""
    steps = max(1, len(samples) // setting.batch_size)
    for _ in _steps(objective, samples, setting, steps=steps, phase="partial fit", constant=0.1):
        pass
    objective.eval()


def _steps(
    objective: Objective,
    samples: Tensor,
    setting: Setting,
    *,
    steps: int,
    phase: str,
    constant: float | None = None,
) -> Iterator[int]:
    """Train for a number of steps, in one cycle or at a constant rate, and yield after each."""
    options = OptimizerOptions(learning_rate=setting.learning_rate)
    size = min(setting.batch_size, len(samples))
    sampler = Sampler(samples, setting.fabric, batch_size=size, seed=setting.seed)
    stepper = Stepper(objective, options, setting.fabric)
    schedule = partial(one_cycle, steps=steps) if constant is None else lambda _: constant
    for step in optimize(stepper, sampler.batch, steps, schedule):
        yield step
        if step % 50 == 0 or step == steps:
            means = stepper.totals.means()
            setting.report({"phase": phase, "step": step, "steps": steps, "loss": means["loss"]})
            stepper.totals.clear()


def one_cycle(step: int, steps: int) -> float:
    """Return the factor on the learning rate, which rises from 1/25 to 1 and falls to 0.

    Both parts are half waves of a cosine.

    Reference:
        Smith and Topin, Super-convergence (2019).

    Example:
        >>> [round(one_cycle(k, 100), 3) for k in (0, 15, 30, 65, 100)]
        [0.04, 0.52, 1.0, 0.5, 0.0]
    """
    progress = step / steps
    if progress < _RISE:
        return 0.52 - 0.48 * math.cos(math.pi * progress / _RISE)
    return 0.5 + 0.5 * math.cos(math.pi * (progress - _RISE) / (1 - _RISE))


@torch.no_grad()
def held_out_error(objective: NestedDenoising, samples: Tensor) -> float:
    """Return the mean squared error over samples and values, in scaled units.

    If the first codes count as much as all of them, it is the geometric mean over their numbers
    1, 2, 4, ..., so that each of these errors counts in proportion to itself. There an error of a
    hundredth of the variance counts as none. If samples have gaps, the encoder does not see the
    values that the sample before lacks, as in training, and categories have their cross-entropy.
    """
    model = objective.model
    if objective.prefix_weight < 1 and (model.gaps is not None or model.categories is not None):
        with evaluation_mode(model):
            target = model.scaled(samples.to(model.shift))
            missing = target.isnan()
            seen = target.masked_fill(missing.roll(1, 0), torch.nan)
            return float(objective.error(model.encoder(seen), target))
    if objective.prefix_weight < 1:
        return float(squared_errors(model, samples, samples[0])[0].mean())
    latent = model.bridge.latent
    lengths = [2**i for i in range(latent.bit_length()) if 2**i < latent] or [latent]
    samples = samples.to(model.shift)
    errors = objective.eval().prefix_errors(samples, lengths)
    objective.train()
    return float((errors + EXACT * model.scaled(samples).square().mean()).log().mean().exp())
