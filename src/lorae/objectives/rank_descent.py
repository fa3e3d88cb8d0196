r"""The way down to an exact rank: the proximal step, with its weight under control.

The singular values of M go down by a threshold after every few steps, and the one number that
says how fast, lambda, follows the rank that has been reached. Between the rank l at the start and
the rank r at the end lies the schedule

.. math:: R(k) = \lceil r \, (l / r)^{1 - k / K'} \rceil, \qquad K' = 0.8 K.

While the rank is above it lambda grows at each use, by a tenth, or by as much more as it takes
to grow a thousandfold along the schedule where that is short, and by three tenths at least once the
schedule is at its end; else it shrinks by as much. A step never takes the rank below the schedule,
on it nothing shrinks, and what has died stays dead. So the rank falls smoothly and never below r.
There the threshold is over: M is kept at rank r by projection, without shrinkage. What is still
above r when the K steps are over is cut, which takes a K of a few dozen or less; `arrived` says
when r was reached.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.bridges.matrix import LowRank
from lorae.objectives.base import Objective, at_least

EVERY = 5
"""Steps between two uses of the threshold, which is as many times as large."""
_GAIN, _LATE_GAIN = 1.1, 1.3  # of lambda from one use to the next, and after the schedule's end
_REACH = 1000.0  # that lambda can grow by along the schedule, at least
_SLACK = 0.8  # the share of the steps by which the schedule is at its end


class RankDescent(Objective):
    r"""The reconstruction error, and an M whose rank comes down to the one that is asked for.

    Args:
        model: an autoencoder over a low-rank bridge, whose singular values should be comparable,
            as those of :func:`lorae.estimator.coordinates.gauged` are.
        rank: r, 1 or more.
        steps: K, 1 or more.
        start: the rank to start from; that of M by default.
        weight: lambda; by default controlled as above. A given one stays, and decides alone which
            rank is reached, r or more.

    Attributes:
        rank: the number of nonzero singular values of M, at present.
        weight: lambda, at present; the threshold is lambda times the learning rate a step.
        applied: lambda, as it was last used for a threshold.
        arrived: the step at which the target was reached, None before.
    """

    def __init__(
        self, model: Autoencoder, rank: int, steps: int, weight: float | None = None
    ) -> None:
        super().__init__(model)
        self.target = int(at_least("rank", rank, 1))
        self.steps = int(at_least("steps", steps, 1))
        self.controlled = weight is None
        self.weight = math.nan if weight is None else at_least("weight", weight, 0)
        self.rank = self.start = self._bridge().latent
        self.step, self.applied = 0, 0.0
        self.arrived: int | None = 0 if self.rank <= self.target else None

    def forward(self, x: Float[Tensor, "n *shape"]) -> dict[str, Float[Tensor, ""]]:
        """Return the reconstruction error; the penalty acts in the step."""
        target, z = self.codes(x)
        return {"reconstruction": self.error(z, target)}

    @torch.no_grad()
    def after_step(self, learning_rate: float) -> None:
        """Every few steps and at the last one, lower the singular values of M."""
        self.step += 1
        if self.step % EVERY and self.step < self.steps:
            return
        weight = self._bridge().weight
        if not bool(torch.isfinite(weight).all()):
            return  # the loop will say so
        U, sigma, Vh = torch.linalg.svd(weight.float())
        if math.isnan(self.weight):
            self.weight = self._first_weight(sigma, learning_rate)
        values = self._lowered(sigma, learning_rate)
        self.rank = int((values > 0).sum())
        weight.copy_((U * values) @ Vh)
        if self.rank <= self.target and self.arrived is None:
            self.arrived = self.step
        if self.controlled:
            late = self.step > _SLACK * self.steps
            gain = max(_GAIN, math.pow(_REACH, EVERY / (_SLACK * self.steps)))
            up = max(_LATE_GAIN, gain) if late else gain
            self.weight *= up if self.rank > self.scheduled() else 1 / gain

    def scheduled(self) -> int:
        """Return R(k), the least rank that is allowed at present."""
        if not self.controlled:
            return self.target
        left = max(0.0, 1 - self.step / (_SLACK * self.steps))
        return math.ceil(self.target * math.pow(self.start / self.target, left) - 1e-9)

    def _lowered(self, sigma: Float[Tensor, " l"], learning_rate: float) -> Float[Tensor, " l"]:
        """Return the singular values after the threshold, exact zeros among them."""
        last = self.controlled and self.step >= self.steps
        least = self.target if last else self.scheduled()
        if self.rank <= least:  # nothing more is to die at present, and what has died stays dead
            return sigma * (torch.arange(len(sigma), device=sigma.device) < self.rank)
        self.applied = self.weight
        values, kept = torch.zeros_like(sigma), sigma[: self.rank]
        threshold = min(EVERY * learning_rate * self.weight, float(sigma[least]))
        values[: self.rank] = (kept - threshold).clamp(min=0)
        if last:
            values[self.target :] = 0
        tiny = torch.finfo(sigma.dtype).tiny
        values[:least] = values[:least].clamp(min=tiny)  # a tie does not take the rank below
        return values

    def _first_weight(self, sigma: Float[Tensor, " l"], learning_rate: float) -> float:
        """Return the lambda that would take a tenth of the steps' time ten times over.

        That is a tenth of what it would take to wear the largest value down that must go.
        """
        doomed = float(sigma[min(self.target, len(sigma) - 1)])
        return 0.1 * max(doomed, 1e-6 * float(sigma[0])) / (learning_rate * self.steps)

    def _bridge(self) -> LowRank:
        bridge = self.model.bridge
        if not isinstance(bridge, LowRank):
            raise InputError(f"a descent needs a low-rank bridge, got {type(bridge).__name__}")
        return bridge
