r"""The Rank Reduction Autoencoder that finds its rank while it trains."""

from math import inf, nan

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.nn.autoencoder import Autoencoder
from lorae.nn.bridges.truncated_svd import Truncated
from lorae.objectives.base import Objective, Terms, require_bridge
from lorae.utils.distributed import average
from lorae.utils.validation import check_range

_DECAY = 0.95  # of the running error
_MEMORY = 20  # steps that the running error averages over, before it shows the effect of a change


class AdaptiveRRAE(Objective):
    r"""aRRAE: the rank is lowered by one as long as the error returns to its settled value.

    1. Train at the initial rank until the running error has not decreased by the share `tolerance`
       within `patience` steps. The error at that point is the goal.
    2. Whenever the running error is at most the goal, lower the rank by one.
    3. If it has not returned to the goal within `patience` steps of the last change, raise the
       rank by one and keep it.

    Reference:
        Mounayer et al., Rank Reduction Autoencoders (arXiv 2405.13980), the generic scheme of
        adaptive RRAEs; patience and tolerance are the defaults of its code. Its last step also
        restores the weights from before the last change, which here continue training.

    Args:
        model: an autoencoder over a truncated bridge, whose rank is the initial one.
        patience: steps, at least 1.
        tolerance: at least 0 and below 1.
    """

    running: Tensor  # the running error
    mark: Tensor  # the error to improve on, in phase 1
    goal: Tensor  # the error to keep, from phase 2 on
    since: Tensor  # steps since the last progress
    settled: Tensor  # whether phase 3 is over

    def __init__(self, model: Autoencoder, patience: int = 500, tolerance: float = 0.05) -> None:
        super().__init__(model)
        check_range("patience", patience, 1)
        check_range("tolerance", tolerance, 0, 1, open_high=True)
        self.max_rank = require_bridge(model, Truncated, "truncated for an adaptive RRAE").rank
        self.patience = patience
        self.tolerance = tolerance
        start = {"running": nan, "mark": inf, "goal": nan, "since": 0, "settled": False}
        for name, value in start.items():
            self.register_buffer(name, torch.tensor(value))

    def forward(self, x: Float[Tensor, "n *shape"]) -> Terms:
        terms = super().forward(x)
        if self.training:
            self._update_running(average(terms["reconstruction"].detach()))
        return terms

    @torch.no_grad()
    def after_step(self, learning_rate: float) -> None:  # noqa: ARG002 - counts steps alone
        """Change the rank where the scheme says so."""
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
                self._change_rank(-1)
        elif late:
            self._change_rank(+1)
            self.settled.fill_(1)

    @torch.no_grad()
    def _update_running(self, error: Tensor) -> None:
        start = torch.where(self.running.isnan(), error, self.running)
        self.running.copy_(start.lerp(error.to(start.dtype), 1 - _DECAY))

    def _change_rank(self, by: int) -> None:
        """Change the rank, between 1 and the initial one, and restart the running error."""
        require_bridge(self.model, Truncated, "truncated").kept.add_(by).clamp_(1, self.max_rank)
        self.since.zero_()
        self.running.fill_(nan)
