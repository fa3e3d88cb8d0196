r"""The Rank Reduction Autoencoder that finds its rank while it trains."""

from math import inf, nan

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.bridges.truncated_svd import Truncated
from lorae.objectives.base import Objective, at_least
from lorae.utils.distributed import average

_DECAY = 0.95  # of the running error
_MEMORY = 20  # steps that it remembers, so that it takes to tell what a change has done


class AdaptiveRRAE(Objective):
    r"""aRRAE: the rank goes down by one as long as the error comes back to where it had settled.

    1. With the rank it starts from, train until the running error has not fallen by the share
       `tolerance` within `patience` steps. The error then reached is the one to keep.
    2. Whenever the running error is at most that, lower the rank by one.
    3. If it has not come back within `patience` steps of the last lowering, raise the rank by one
       and leave it there.

    Reference:
        Mounayer et al., Rank Reduction Autoencoders (arXiv 2405.13980), the generic scheme of
        adaptive RRAEs; patience and tolerance are the defaults of its code. It also goes back to
        the weights of before the last lowering, which here simply train on.

    Args:
        model: an autoencoder over the truncated singular value decomposition, whose rank is the
            one to start from.
        patience: steps, at least 1.
        tolerance: at least 0 and below 1.
    """

    running: Tensor  # the running error
    mark: Tensor  # the error that the next must be below, in phase 1
    goal: Tensor  # the error to keep, known from phase 2 on
    since: Tensor  # steps since the last progress
    settled: Tensor  # whether phase 3 is over

    def __init__(self, model: Autoencoder, patience: int = 500, tolerance: float = 0.05) -> None:
        super().__init__(model)
        self.max_rank = directions_of(model).rank
        if not 0 <= tolerance < 1:
            raise InputError(f"tolerance must be at least 0 and below 1, got {tolerance:g}")
        self.patience = int(at_least("patience", patience, 1))
        self.tolerance = tolerance
        start = {"running": nan, "mark": inf, "goal": nan, "since": 0, "settled": False}
        for name, value in start.items():
            self.register_buffer(name, torch.tensor(value))

    def forward(self, x: Float[Tensor, "n *shape"]) -> dict[str, Float[Tensor, ""]]:
        """Return the reconstruction error."""
        target, z = self.codes(x)
        error = self.error(z, target)
        if self.training:
            self._follow(average(error.detach()))
        return {"reconstruction": error}

    @torch.no_grad()
    def after_step(self, learning_rate: float) -> None:  # noqa: ARG002 - not a matter of its size
        """Decide about the rank."""
        self.since += 1
        late = int(self.since) >= self.patience
        if self.settled:
            return
        if self.goal.isnan():
            if self.running < (1 - self.tolerance) * self.mark:
                self.mark.copy_(self.running)
                self.since.zero_()
            elif late:
                self.goal.copy_(self.running)
        elif self.running <= self.goal:
            if self.since >= _MEMORY:
                self._change(-1)
        elif late:
            self._change(+1)
            self.settled.fill_(1)

    @torch.no_grad()
    def _follow(self, error: Tensor) -> None:
        start = torch.where(self.running.isnan(), error, self.running)
        self.running.copy_(start.lerp(error.to(start.dtype), 1 - _DECAY))

    def _change(self, by: int) -> None:
        """Change the rank, within 1 and that of the start, and forget the errors of the old one."""
        bridge = directions_of(self.model)
        bridge.kept.add_(by).clamp_(1, self.max_rank)
        self.since.zero_()
        self.running.fill_(nan)


def directions_of(model: Autoencoder) -> Truncated:
    """Return a model's bridge.

    Raises:
        InputError: if it has no rank to be lowered.
    """
    if not isinstance(model.bridge, Truncated):
        raise InputError(
            f"an adaptive RRAE needs a truncated bridge, got {type(model.bridge).__name__}"
        )
    return model.bridge
