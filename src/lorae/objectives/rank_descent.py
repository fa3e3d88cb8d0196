r"""Descent to an exact rank: a proximal step whose weight is controlled.

Every few steps the singular values of a matrix M are lowered by a threshold that is proportional to
lambda, and lambda follows the rank. From the rank l at the start to the target r, over K steps, the
schedule is

.. math:: R(k) = \lceil r \, (l / r)^{1 - k / K'} \rceil, \qquad K' = 0.8 K.

While the rank is above the schedule, lambda grows at each use by a tenth, by more if the schedule
is too short to let it grow a thousandfold, and by at least three tenths after the schedule has
ended; otherwise it shrinks by the same factor. A threshold never takes the rank below the schedule;
while the rank is on the schedule nothing shrinks, and directions that have died stay at zero. So
the rank falls smoothly, and never below r. Once it is r, M is only projected to rank r. If the rank
is still above r after K steps, which happens for a K of a few dozen or less, M is truncated.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.bridges.low_rank import LowRank
from lorae.objectives.base import Objective
from lorae.utils.validation import check_range

EVERY = 5
"""Steps between two uses of the threshold, which is as many times as large."""
_GAIN, _LATE_GAIN = 1.1, 1.3  # of lambda from one use to the next, and after the schedule's end
_REACH = 1000.0  # factor by which lambda can grow along the schedule, at least
_SLACK = 0.8  # share of the steps at which the schedule ends


class RankDescent(Objective):
    r"""The reconstruction error, with an M whose rank falls to a target.

    Args:
        model: an autoencoder over a low-rank bridge, whose singular values should be comparable,
            as those of :func:`lorae.estimator.coordinates.insert_bridge` are.
        rank: the target r, 1 or more.
        steps: K, 1 or more.
        weight: lambda, at least 0; by default it is controlled as above. A given lambda is constant
            and determines which rank is reached, r or more.

    Attributes:
        rank: the present number of nonzero singular values of M.
        weight: the present lambda; each step lowers singular values by lambda times the learning
            rate.
        applied: the lambda of the last threshold that was applied.
        arrived: the step at which the target was reached; None before.
    """

    def __init__(
        self, model: Autoencoder, rank: int, steps: int, weight: float | None = None
    ) -> None:
        super().__init__(model)
        check_range("rank", rank, 1)
        check_range("steps", steps, 1)
        check_range("weight", weight, 0)
        self.target, self.steps = rank, steps
        self.controlled = weight is None
        self.weight = math.nan if weight is None else weight
        self.rank = self.start = self._bridge().latent
        self.step, self.applied = 0, 0.0
        self.arrived: int | None = 0 if self.rank <= self.target else None

    def forward(self, x: Float[Tensor, "n *shape"]) -> dict[str, Float[Tensor, ""]]:
        """Return the reconstruction error; the penalty acts in :meth:`after_step`."""
        target, z = self.codes(x)
        return {"reconstruction": self.error(z, target)}

    @torch.no_grad()
    def after_step(self, learning_rate: float) -> None:
        """Lower the singular values of M, every few steps and at the last one."""
        self.step += 1
        if self.step % EVERY and self.step < self.steps:
            return
        M = self._bridge().weight
        if not bool(torch.isfinite(M).all()):
            return  # the training loop reports it
        U, sigma, Vh = torch.linalg.svd(M.float())
        if math.isnan(self.weight):
            self.weight = self._first_weight(sigma, learning_rate)
        values = self._shrink(sigma, learning_rate)
        self.rank = int((values > 0).sum())
        M.copy_((U * values) @ Vh)
        if self.rank <= self.target and self.arrived is None:
            self.arrived = self.step
        if self.controlled:
            self._adjust_weight()

    def scheduled(self) -> int:
        """Return R(k), the lowest rank that is allowed at present."""
        if not self.controlled:
            return self.target
        left = max(0.0, 1 - self.step / (_SLACK * self.steps))
        return math.ceil(self.target * math.pow(self.start / self.target, left) - 1e-9)

    def _adjust_weight(self) -> None:
        """Raise lambda if the rank is above the schedule, lower it otherwise."""
        gain = max(_GAIN, math.pow(_REACH, EVERY / (_SLACK * self.steps)))
        late = self.step > _SLACK * self.steps
        up = max(_LATE_GAIN, gain) if late else gain
        self.weight *= up if self.rank > self.scheduled() else 1 / gain

    def _shrink(self, sigma: Float[Tensor, " l"], learning_rate: float) -> Float[Tensor, " l"]:
        """Return the singular values after the threshold, exact zeros among them."""
        last = self.controlled and self.step >= self.steps
        least = self.target if last else self.scheduled()
        if self.rank <= least:  # only project: directions that have died stay at zero
            return sigma * (torch.arange(len(sigma), device=sigma.device) < self.rank)
        self.applied = self.weight
        values, kept = torch.zeros_like(sigma), sigma[: self.rank]
        threshold = min(EVERY * learning_rate * self.weight, float(sigma[least]))
        values[: self.rank] = (kept - threshold).clamp(min=0)
        if last:
            values[self.target :] = 0
        tiny = torch.finfo(sigma.dtype).tiny
        values[:least] = values[:least].clamp(min=tiny)  # a tie must not take the rank below
        return values

    def _first_weight(self, sigma: Float[Tensor, " l"], learning_rate: float) -> float:
        """Return a tenth of the constant lambda that would reach the target after K steps.

        That lambda times the learning rate times K is the largest singular value that has to go.
        """
        doomed = float(sigma[min(self.target, len(sigma) - 1)])
        return 0.1 * max(doomed, 1e-6 * float(sigma[0])) / (learning_rate * self.steps)

    def _bridge(self) -> LowRank:
        bridge = self.model.bridge
        if not isinstance(bridge, LowRank):
            raise InputError(
                f"the bridge must be low-rank to lower its rank, got {type(bridge).__name__}"
            )
        return bridge
