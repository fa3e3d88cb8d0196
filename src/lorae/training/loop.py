r"""The training loop, which `lorae train`, the estimator, the path and the recipes all step.

Step k minimises the sum of the terms of an objective over a batch,

.. math:: \theta \leftarrow \theta - \eta \, \operatorname{Adam}(\nabla_\theta \sum_j t_j(x_k)),

after which the objective may change its model, such as by a proximal step. :func:`optimize` is a
generator that yields after every step: what else happens between steps (logging, evaluation,
checkpoints, early stopping, a progress bar) is the body of the caller's `for` loop.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lorae.errors import Diverged
from lorae.nn.autoencoder import Autoencoder
from lorae.objectives.base import Objective, Terms
from lorae.training.capture import CapturedUpdate
from lorae.training.options import OptimizerOptions

LOG_EVERY = 50
"""Steps between two readings of the loss, for which an accelerator has to wait."""


def optimize(
    stepper: "Stepper",
    batch: Callable[[int], Tensor],
    steps: int,
    schedule: Callable[[int], float] = lambda _: 1.0,
) -> Iterator[int]:
    """Step an objective, and yield the number of steps made after each of them.

    Args:
        stepper: the objective and its optimizer; it knows how many steps were made before.
        batch: the batch of a step, by its number.
        steps: the number of steps after which training ends, those made before included.
        schedule: the factor on the learning rates, by the number of the step.

    Raises:
        Diverged: if the loss, or a weight after the last step, is not finite.

    Example:
        >>> from lorae.nn.autoencoder import Architecture, build
        >>> from lorae.objectives.base import AE
        >>> objective = AE(build(Architecture("mlp", (6,), 3)))
        >>> stepper = Stepper(objective, OptimizerOptions(learning_rate=1e-3), Fabric())
        >>> x = torch.rand(10, 6)
        >>> list(optimize(stepper, lambda k: x, steps=3))
        [1, 2, 3]
    """
    stepper.objective.train()
    while stepper.steps < steps:
        stepper.scale_learning_rate(schedule(stepper.steps))
        terms = stepper.step(batch(stepper.steps))
        stepper.totals.add(terms)
        stepper.steps += 1
        if stepper.fabric.device.type == "cpu" or stepper.steps % LOG_EVERY == 0:
            stepper.check_loss()
        yield stepper.steps
    stepper.check_weights()


class Stepper:
    """An objective with its optimizer, and the moving average of its weights if there is one.

    Args:
        objective: moved to the device of `fabric`.
        options: learning rate, weight decay, gradient clipping, moving average and warm-up.
        fabric: device, precision and processes.
        steps: steps made before; batches and schedules are counted from there.
        capture: on a GPU, make updates by a CUDA graph (:mod:`lorae.training.capture`).
        note: called with a sentence if that is not possible.

    Attributes:
        steps: the number of steps made.
        totals: sums of the terms of the loss since they were last cleared.
        adam: the optimizer, whose state is saved in checkpoints.
        average: the moving average of the model; None without one.
    """

    def __init__(
        self,
        objective: Objective,
        options: OptimizerOptions,
        fabric: Fabric,
        steps: int = 0,
        *,
        capture: bool = True,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        assert options.learning_rate is not None
        self.options, self.fabric, self.steps = options, fabric, steps
        self.totals = Totals()
        self.objective = objective.to(fabric.device)
        use_channels_last(objective)
        self.learning_rate = options.learning_rate
        groups = objective.parameter_groups(options.learning_rate)
        self.adam = torch.optim.Adam(groups, weight_decay=options.weight_decay, fused=True)
        self._factor = 1.0
        self._rates = [group["lr"] for group in self.adam.param_groups]
        self.wrapped, self.optimizer = fabric.setup(objective, self.adam)
        self.captured: CapturedUpdate | None = None
        if capture and fabric.device.type == "cuda":
            several = "several processes train together" if fabric.world_size > 1 else ""
            self.captured = CapturedUpdate(
                self._update, objective, self.adam, note=note, refusal=several
            )
        self.average: AveragedModel | None = None
        if options.ema is not None:
            mean = get_ema_multi_avg_fn(options.ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(objective.model, multi_avg_fn=mean)
            self.average.update_parameters(objective.model)  # the average starts at the weights

    @property
    def model(self) -> Autoencoder:
        """The model that is evaluated and kept: the moving average where there is one."""
        model = self.objective.model if self.average is None else self.average.module
        assert isinstance(model, Autoencoder)
        return model

    def scale_learning_rate(self, factor: float) -> None:
        """Set the learning rates to a multiple of those that the options state."""
        assert self.options.learning_rate is not None
        self.learning_rate = factor * self.options.learning_rate
        for group, rate in zip(self.adam.param_groups, self._rates, strict=True):
            if not isinstance(group["lr"], Tensor):
                group["lr"] = factor * rate
            elif factor != self._factor:
                group["lr"].fill_(factor * rate)
        self._factor = factor

    def step(self, x: Tensor) -> Terms:
        """Make one optimizer step on a batch, and return the terms of its loss."""
        if self.options.warmup:
            self.objective.strength = min(1.0, self.steps / self.options.warmup)
        steady = self.steps >= self.options.warmup
        update = self.captured if steady and self.captured else self._update
        terms = update(x)
        self.objective.after_step(self.learning_rate)
        if self.average is not None:
            self.average.update_parameters(self.objective.model)
        return terms

    def _update(self, x: Tensor) -> Terms:
        """Move the weights along the gradient of a batch, and return the terms of its loss."""
        terms: Terms = self.wrapped(x)
        self.optimizer.zero_grad()
        self.fabric.backward(torch.stack(list(terms.values())).sum())
        if self.options.clip_norm is not None:
            clipped = [p for group in self.adam.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(clipped, self.options.clip_norm)
        self.optimizer.step()
        return {name: term.detach() for name, term in terms.items()}

    def check_loss(self) -> None:
        """Raise Diverged if the loss is not finite."""
        if not self.totals.finite():
            raise self._diverged("the loss")

    def check_weights(self) -> None:
        """Raise Diverged if a weight is not finite."""
        if not all(bool(torch.isfinite(p).all()) for p in self.objective.parameters()):
            raise self._diverged("a weight")

    def _diverged(self, what: str) -> Diverged:
        return Diverged(
            f"{what} is no longer finite at step {self.steps}: try a learning_rate below "
            f"{self.options.learning_rate:g}"
        )


@dataclass
class Totals:
    """The sums of the terms of a loss over steps, kept on the device."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0

    def add(self, terms: dict[str, Tensor]) -> None:
        """Add the terms of one step."""
        for name, term in terms.items():
            value = term.detach()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.steps += 1

    def finite(self) -> bool:
        """Return whether every sum is finite."""
        return all(math.isfinite(float(total)) for total in self.sums.values())

    def means(self) -> dict[str, float]:
        """Return the mean per step of the loss and of each term."""
        means = {name: float(total) / self.steps for name, total in self.sums.items()}
        return {"loss": sum(means.values())} | means

    def synchronize(self, fabric: Fabric) -> None:
        """Replace the sums of every process by their mean over all processes."""
        for name, total in self.sums.items():
            mean = fabric.all_reduce(total)
            assert isinstance(mean, Tensor)
            self.sums[name] = mean

    def clear(self) -> None:
        """Reset the sums and the number of steps."""
        self.sums, self.steps = {}, 0

    def state_dict(self) -> dict[str, Tensor]:
        """Return the sums and the number of steps, for a checkpoint."""
        return self.sums | {"steps": torch.tensor(self.steps)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the sums and the number of steps from a checkpoint."""
        self.steps = int(state["steps"])
        self.sums = {name: total for name, total in state.items() if name != "steps"}


def use_channels_last(module: nn.Module) -> None:
    """Store the weights of two-dimensional convolutions with channels last, which is faster."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
