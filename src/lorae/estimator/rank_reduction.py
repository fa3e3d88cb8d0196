r"""From a wide autoencoder to one of a rank that is given, or chosen, in memory.

Every model here has no bridge and emits as many codes as its rank. One is narrowed by

1. :func:`lorae.estimator.coordinates.gauged`: an M is put in whose singular values are standard deviations
   in data space;
2. :class:`lorae.objectives.rank_descent.RankDescent`: while training goes on, a threshold on them takes the rank
   down to the target;
3. :func:`lorae.estimator.coordinates.reduced`: the dimensions that are zero leave the networks, which
   changes nothing of what they do;

and then trains on at its new rank, without any penalty. A walk repeats this down a ladder of
ranks, or along a sequence of lambda, each model starting from the one before.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lorae.estimator.coordinates import ROUGH, gauged, principal, reduced
from lorae.nn.autoencoder import Autoencoder, clone
from lorae.nn.inference import squared_errors
from lorae.objectives.base import AE, Objective
from lorae.objectives.rank_descent import RankDescent
from lorae.training.devices import single_process
from lorae.training.loop import LOG_EVERY, Stepper, optimize
from lorae.training.options import OptimizerOptions
from lorae.training.sampler import Sampler, subsample
from lorae.utils.samples import as_float

STAGE = 1 / 12
"""Steps of one stage of a walk, as a share of a whole training."""
_WIDE, _DOWN = 0.1, 0.1  # of a training, without constraint and on the way down
_GENTLE, _MOST_DOWN = 100, 0.3  # steps that the way down takes at least, if they are no more
_GAUGE_SAMPLES = 4000  # that the coordinates of a stage are computed from
_GAUGE_PROBE = 64  # of these, for the metric


@dataclass(frozen=True)
class Point:
    """A model on a path, and what it is worth.

    Attributes:
        weight: lambda, in units in which the threshold is lambda times the learning rate a step;
            0 for the unconstrained model.
        rank: of M, exactly: the number of codes of the model.
        error: mean squared error of held-out samples, over all elements, in scaled units.
        deviation: standard error of that mean.
        seconds: since the walk began.
        model: of that rank, without a bridge.
        distance: from generated samples to held-out ones, where it was asked for.
    """

    weight: float
    rank: int
    error: float
    deviation: float
    seconds: float
    model: Autoencoder = field(repr=False, compare=False)
    distance: float | None = None

    def about(self) -> dict[str, Any]:
        """Return the figures, as values that JSON can hold."""
        return {
            "lambda": self.weight,
            "rank": self.rank,
            "error": self.error,
            "standard_error": self.deviation,
            "distance": self.distance,
            "seconds": round(self.seconds, 3),
        }


class Trainer:
    """Trains models one after the other, in memory, on one stream of batches.

    Args:
        samples: for training, in the units of the user.
        batch_size: samples in a step, at most.
        learning_rate: step size of Adam.
        held_out: number of samples that are not trained on, to judge models by.
        seed: seed of the batches and of what is held out.
        device: auto, cpu, cuda or mps.

    Attributes:
        training_samples: the samples that are trained on.
        held_out: the samples that are not.
        history: a line for every few steps: phase, step, loss and rank.
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

    def run(self, phase: str, objective: Objective, steps: int, *, cool: float = 0.0) -> None:
        """Train for a number of steps.

        Args:
            phase: its name, for the history.
            objective: what is minimised; its model is in evaluation mode afterwards.
            steps: optimizer steps.
            cool: share of the steps, the last ones, over which the learning rate falls to 0.

        Raises:
            Diverged: if the loss or a weight is not finite.
        """
        start, end = self.step, self.step + steps

        def schedule(step: int) -> float:
            return min(1.0, (1 - (step - start) / steps) / cool) if cool else 1.0

        stepper = Stepper(objective, self.options, self.fabric, start)
        for step in optimize(stepper, self.sampler.batch, end, schedule):
            if step == end or (step - start) % LOG_EVERY == 0:
                line = {"phase": phase, "step": step, "loss": stepper.totals.means()["loss"]}
                self.history.append(line | _rank_of(objective))
                stepper.totals.clear()
        self.step = end
        objective.eval()

    def narrow(
        self, model: Autoencoder, rank: int, steps: int, weight: float | None = None
    ) -> tuple[Autoencoder, float]:
        """Return the model at a lower rank, and the lambda that took it there.

        Args:
            model: without a bridge; it is not changed.
            rank: to reach, or with a `weight` the least that may be reached.
            steps: in which to reach it.
            weight: lambda, controlled by default.
        """
        if rank >= model.bridge.latent:
            return model, 0.0
        objective = self.descent(model, rank, steps, weight)
        self.run("descent", objective, steps)
        return reduced(objective.model, objective.rank), objective.applied

    def descent(
        self, model: Autoencoder, rank: int, steps: int, weight: float | None = None
    ) -> RankDescent:
        """Return what takes a model down to a rank, as :meth:`narrow` trains it."""
        some = subsample(self.training_samples, _GAUGE_SAMPLES, self.seed)
        gauge = gauged(model, principal(model, some, probe=_GAUGE_PROBE, least=ROUGH))
        return RankDescent(gauge, rank, steps, weight)

    def mean_error(self, model: Autoencoder) -> float:
        """Return the held-out error of the mean of the samples that are trained on."""
        return float(squared_errors(model, self.held_out, mean_of(self.training_samples))[1].mean())

    def judged(self, model: Autoencoder, weight: float) -> Point:
        """Return the point of a model, by the held-out samples."""
        errors, _ = squared_errors(model, self.held_out, as_float(self.held_out[0]))
        n = len(errors)
        return Point(
            weight=weight,
            rank=model.bridge.latent,
            error=float(errors.mean()),
            deviation=float(errors.std() / n**0.5) if n > 1 else 0.0,
            seconds=self.seconds,
            model=model,
        )


def _rank_of(objective: Objective) -> dict[str, Any]:
    if isinstance(objective, RankDescent):
        return {"rank": objective.rank, "lambda": objective.weight}
    return {"rank": objective.model.bridge.latent}


def compressed(trainer: Trainer, model: Autoencoder, rank: int, steps: int) -> Autoencoder:
    """Return a model trained, narrowed to a rank and trained on, in so many steps in all.

    A tenth without constraint, a tenth on the way down (100 steps at least, for a shorter way is
    hardly smooth, but at most three tenths), and the rest at the new rank, while the learning rate
    falls to 0.
    """
    model = clone(model)
    if rank < model.bridge.latent:
        wide = max(1, round(_WIDE * steps))
        down = max(1, round(max(_DOWN * steps, min(_GENTLE, _MOST_DOWN * steps))))
        trainer.run("training", AE(model), wide)
        model, _ = trainer.narrow(model, rank, down)
        steps = max(1, steps - wide - down)
    trainer.run("finishing", AE(model), steps, cool=1.0)
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
    """Yield the points of a path, from the model as it is down the ranks or along the weights.

    Args:
        trainer: with held-out samples.
        model: trained without constraint; it is not changed.
        steps: of each stage, three fifths on the way down and the rest at the new rank.
        ranks: to reach, descending.
        weights: lambda of each stage, instead; the walk ends at rank 1.
    """
    yield trainer.judged(model, 0.0)
    down = descending(steps)
    stages: Iterable[tuple[int, float | None]] = (
        ((rank, None) for rank in ranks) if weights is None else ((1, w) for w in weights)
    )
    for rank, given in stages:
        model, weight = trainer.narrow(model, rank, down, given)
        model = clone(model)
        trainer.run("settling", AE(model), max(1, steps - down))
        yield trainer.judged(model, weight if given is None else given)
        if model.bridge.latent == 1:
            return


def descending(steps: int) -> int:
    """Return how many steps of a stage are on the way down."""
    return max(1, round(0.6 * steps))


def mean_of(samples: Tensor) -> Tensor:
    """Return the mean of samples in float64, bytes divided by 255."""
    total = torch.zeros(samples.shape[1:], dtype=torch.float64)
    for part in torch.split(samples, 1000):
        total += as_float(part.cpu()).double().sum(0)
    return total / len(samples)
