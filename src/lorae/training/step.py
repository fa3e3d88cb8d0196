"""Optimizer steps of an objective on one process's device, and what they need: in memory alone.

A training run with its folder (:mod:`lorae.training.loop`) and a fit of the estimator make the same
step: sum the terms, go back through them, let Adam move, let the objective move its matrix.
"""

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from lorae.nn.autoencoder import Autoencoder, clone
from lorae.objectives.base import Objective
from lorae.training.options import Options

LOG_EVERY = 50
"""Steps between readings of the loss, which on an accelerator make it wait."""


class Stepper:
    """An objective with its optimizer, and the moving average of its weights where asked for.

    Args:
        objective: moved to the device.
        options: of which `learning_rate`, `weight_decay`, `clip_norm` and `ema` count here.
        fabric: device, precision and processes.
    """

    def __init__(self, objective: Objective, options: Options, fabric: Fabric) -> None:
        assert options.learning_rate is not None
        self.options, self.fabric = options, fabric
        self.learning_rate = options.learning_rate
        self.objective = objective.to(fabric.device)
        _channels_last(self.objective)
        self.plain_optimizer = adam(objective, options)
        self._rates = [group["lr"] for group in self.plain_optimizer.param_groups]
        self.wrapped, self.optimizer = fabric.setup(objective, self.plain_optimizer)
        self.average = None if options.ema is None else clone(objective.model)

    @property
    def model(self) -> Autoencoder:
        """The model that is evaluated and kept: the moving average where there is one."""
        return self.objective.model if self.average is None else self.average

    def slow(self, share: float) -> None:
        """Make the learning rates a share of what the options say."""
        assert self.options.learning_rate is not None
        self.learning_rate = share * self.options.learning_rate
        for group, rate in zip(self.plain_optimizer.param_groups, self._rates, strict=True):
            group["lr"] = share * rate

    def step(self, x: Tensor) -> dict[str, Tensor]:
        """Make one optimizer step on one batch and return the terms of the loss."""
        terms: dict[str, Tensor] = self.wrapped(x)
        self.optimizer.zero_grad()
        self.fabric.backward(torch.stack(list(terms.values())).sum())
        if self.options.clip_norm is not None:
            self.fabric.clip_gradients(
                self.wrapped, self.optimizer, max_norm=self.options.clip_norm
            )
        self.optimizer.step()
        self.objective.after_step(self.learning_rate)
        if self.average is not None and self.options.ema is not None:
            follow(self.average, self.objective.model, self.options.ema)
        return terms


def adam(objective: Objective, options: Options) -> torch.optim.Adam:
    """Return the optimizer of an objective, whose weights are where they are to stay."""
    assert options.learning_rate is not None
    groups = objective.groups(options.learning_rate)
    return torch.optim.Adam(groups, weight_decay=options.weight_decay, fused=True)


def _channels_last(module: nn.Module) -> None:
    """Lay out convolution weights with channels last, as fast convolutions want them."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)


@torch.no_grad()
def follow(average: Autoencoder, model: Autoencoder, decay: float) -> None:
    """Move the averaged weights by 1 - decay towards the model's, and take over its buffers."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    for kept, new in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(new)
