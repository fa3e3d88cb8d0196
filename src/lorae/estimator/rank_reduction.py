r"""Rank reduction: from a wide autoencoder to one whose number of codes is given, or chosen.

The models here have no bridge and exactly as many codes as their rank. To lower the rank,

1. :func:`lorae.estimator.coordinates.insert_bridge` inserts a matrix M whose singular values are
   standard deviations in data space;
2. :class:`lorae.objectives.rank_descent.RankDescent` trains on while a threshold on the singular
   values lowers the rank to the target;
3. :meth:`lorae.Autoencoder.cut` removes the dimensions that are zero, which leaves the function of
   the networks unchanged.

Training then continues at the new rank without a penalty. A path repeats this for decreasing ranks,
or increasing lambda, and each of its models starts from the one before.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lorae.estimator.coordinates import (
    TRAINING_FLOOR,
    insert_bridge,
    principal_coordinates,
)
from lorae.nn.autoencoder import Autoencoder, clone
from lorae.nn.inference import squared_errors
from lorae.objectives.base import AE, Objective
from lorae.objectives.rank_descent import RankDescent
from lorae.training.devices import single_process
from lorae.training.loop import LOG_EVERY, Stepper, optimize
from lorae.training.options import OptimizerOptions
from lorae.training.sampler import Sampler
from lorae.utils.samples import as_float, subsample

STAGE = 1 / 12
"""Steps of one stage of a path, as a share of those of a whole training."""
_DESCENT = 0.6  # share of the steps of a stage in which the rank is lowered
_COORDINATE_SAMPLES = 4000  # that the coordinates of a stage are computed from
_METRIC_SAMPLES = 64  # of these, for the metric


@dataclass(frozen=True)
class Point:
    """A model on a path, and its error.

    Attributes:
        weight: lambda, where each step lowers singular values by lambda times the learning rate;
            0 for the unconstrained model.
        rank: the number of codes of the model.
        error: mean squared error over the elements of held-out samples, in scaled units.
        standard_error: of that mean, over the samples.
        seconds: time since the path was started.
        model: the model, without a bridge.
        distance: distance between generated and held-out samples; None if not measured.
    """

    weight: float
    rank: int
    error: float
    standard_error: float
    seconds: float
    model: Autoencoder = field(repr=False, compare=False)
    distance: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, as values that JSON can hold."""
        return {
            "lambda": self.weight,
            "rank": self.rank,
            "error": self.error,
            "standard_error": self.standard_error,
            "distance": self.distance,
            "seconds": round(self.seconds, 3),
        }


class Trainer:
    """Trains models one after the other, in memory, on one stream of batches.

    Args:
        samples: training samples, those to be held out included; bytes are divided by 255.
        batch_size: samples in a step; fewer if there are not as many.
        learning_rate: step size of Adam.
        held_out: number of samples to hold out, on which models are evaluated.
        seed: seed of the batches and of the choice of held-out samples.
        device: auto, cpu, cuda or mps.

    Attributes:
        training_samples: the samples that are trained on, on the device.
        held_out: the samples that are held out.
        history: phase, step, loss and rank every 50 steps.
        step: the number of steps made, over all models.
    """

    def __init__(
        self,
        samples: Tensor,
        *,
        batch_size: int,
        learning_rate: float = 1e-3,
        held_out: int = 0,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.fabric, self.seed = single_process(device), seed
        self.options = OptimizerOptions(learning_rate=learning_rate)
        self.sampler = Sampler(
            samples,
            self.fabric,
            batch_size=min(batch_size, len(samples) - held_out),
            held_out=held_out,
            seed=seed,
        )
        kept, order = self.sampler.samples, self.sampler.order
        self.training_samples = kept[order] if held_out else kept
        self.held_out = self.sampler.held_out[:]
        self.history: list[dict[str, Any]] = []
        self.step = 0
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time since the trainer was made."""
        return time.perf_counter() - self._start

    @property
    def default_steps(self) -> int:
        """Steps of one training: 100 passes over the samples, within 300 and 10,000."""
        return min(max(100 * self.sampler.per_epoch, 300), 10_000)

    def run(self, phase: str, objective: Objective, steps: int, *, cool: bool = False) -> None:
        """Train for a number of steps.

        Args:
            phase: name of this part of training, for the history.
            objective: in evaluation mode afterwards.
            steps: optimizer steps.
            cool: let the learning rate fall linearly to 0.

        Raises:
            Diverged: if the loss or a weight is not finite.
        """
        start, end = self.step, self.step + steps

        def schedule(step: int) -> float:
            return 1 - (step - start) / steps if cool else 1.0

        stepper = Stepper(objective, self.options, self.fabric, start)
        for step in optimize(stepper, self.sampler.batch, end, schedule):
            if step == end or (step - start) % LOG_EVERY == 0:
                line = {"phase": phase, "step": step, "loss": stepper.totals.means()["loss"]}
                self.history.append(line | _rank_of(objective))
                stepper.totals.clear()
        self.step = end
        objective.eval()

    def lower_rank(
        self, model: Autoencoder, rank: int, steps: int, weight: float | None = None
    ) -> tuple[Autoencoder, float]:
        """Return a model of a lower rank, and the lambda that lowered it.

        Args:
            model: without a bridge; it is not changed.
            rank: the target; with a `weight`, the lowest rank that may be reached.
            steps: optimizer steps.
            weight: lambda; by default it is controlled so that the target is reached.
        """
        if rank >= model.bridge.latent:
            return clone(model), 0.0
        samples = subsample(self.training_samples, _COORDINATE_SAMPLES, self.seed)
        coordinates = principal_coordinates(
            model, samples, metric_samples=_METRIC_SAMPLES, floor=TRAINING_FLOOR
        )
        objective = RankDescent(insert_bridge(model, coordinates), rank, steps, weight)
        self.run("descent", objective, steps)
        return objective.model.cut(rank=objective.rank), objective.applied

    def run_stage(
        self, model: Autoencoder, rank: int, steps: int, weight: float | None = None
    ) -> Point:
        """Lower the rank of a model, train on without a penalty, and evaluate the result.

        Args:
            model: without a bridge; it is not changed.
            rank: as of :meth:`lower_rank`.
            steps: optimizer steps; the rank is lowered in three fifths of them.
            weight: as of :meth:`lower_rank`.
        """
        descent = max(1, round(_DESCENT * steps))
        lower, applied = self.lower_rank(model, rank, descent, weight)
        self.run("settling", AE(lower), max(1, steps - descent))
        return self.evaluate(lower, applied if weight is None else weight)

    def evaluate(self, model: Autoencoder, weight: float) -> Point:
        """Return the point of a model, from its error on the held-out samples."""
        errors, _ = squared_errors(model, self.held_out, as_float(self.held_out[0]))
        n = len(errors)
        return Point(
            weight=weight,
            rank=model.bridge.latent,
            error=float(errors.mean()),
            standard_error=float(errors.std() / n**0.5) if n > 1 else 0.0,
            seconds=self.seconds,
            model=model,
        )

    def mean_error(self, model: Autoencoder) -> float:
        """Return the error of the mean training sample on the held-out samples."""
        return float(squared_errors(model, self.held_out, mean_of(self.training_samples))[1].mean())


def _rank_of(objective: Objective) -> dict[str, Any]:
    if isinstance(objective, RankDescent):
        return {"rank": objective.rank, "lambda": objective.weight}
    return {"rank": objective.model.bridge.latent}


def train_at_rank(trainer: Trainer, model: Autoencoder, rank: int, steps: int) -> Autoencoder:
    """Return a model that is trained, lowered to a rank and trained on.

    A tenth of the steps is unconstrained. The rank is lowered in another tenth, but in at least
    100 steps, because a faster descent is not smooth, and in at most three tenths. In the rest the
    learning rate falls to 0.

    Args:
        trainer: the trainer.
        model: without a bridge; it is not changed.
        rank: the rank of the result, if that is less than the number of codes.
        steps: optimizer steps in all.
    """
    model = clone(model)
    if rank < model.bridge.latent:
        wide = max(1, round(0.1 * steps))
        descent = max(1, round(max(0.1 * steps, min(100, 0.3 * steps))))
        trainer.run("training", AE(model), wide)
        model, _ = trainer.lower_rank(model, rank, descent)
        steps = max(1, steps - wide - descent)
    trainer.run("finishing", AE(model), steps, cool=True)
    return model


def ladder(latent: int, ratio: float = 0.8) -> list[int]:
    """Return ranks below a latent size, each about a fifth less than the one before, down to 1.

    Example:
        >>> ladder(16)
        [12, 9, 7, 5, 4, 3, 2, 1]
    """
    ranks, rank = [], latent
    while rank > 1:
        rank = min(rank - 1, int(rank * ratio))
        ranks.append(max(1, rank))
    return ranks


def walk(
    trainer: Trainer,
    model: Autoencoder,
    steps: int,
    *,
    ranks: Iterable[int] = (),
    weights: Sequence[float] | None = None,
) -> Iterator[Point]:
    """Yield the points of a path: the model itself, then one for each rank or weight.

    Args:
        trainer: with held-out samples.
        model: trained without constraint; it is not changed.
        steps: optimizer steps of each stage.
        ranks: ranks to reach, descending.
        weights: instead of ranks, lambda of each stage; the path ends at rank 1.
    """
    point = trainer.evaluate(model, 0.0)
    yield point
    stages: Iterable[tuple[int, float | None]] = (
        ((rank, None) for rank in ranks) if weights is None else ((1, w) for w in weights)
    )
    for rank, weight in stages:
        point = trainer.run_stage(point.model, rank, steps, weight)
        yield point
        if point.rank == 1:
            return


def mean_of(samples: Tensor) -> Tensor:
    """Return the mean of samples in float64; bytes are divided by 255."""
    total = torch.zeros(samples.shape[1:], dtype=torch.float64)
    for part in torch.split(samples, 1000):
        total += as_float(part.cpu()).double().sum(0)
    return total / len(samples)
