"""Which samples make a batch: a function of the seed and the number of the step alone."""

import torch
from jaxtyping import Float, Shaped
from lightning_fabric import Fabric
from torch import Tensor

from lorae.training.options import Options
from lorae.utils.samples import Rows, as_float

_VALIDATION, _PROBE = -1, -2  # purposes of a generator; those from 0 on are epochs


class Sampler:
    """Batches by the number of the step.

    Every epoch is a fresh order of the training samples, drawn from the seed and the epoch's
    number; a part of a batch left at its end is not used in that epoch. Samples stay on the
    device where they fit.
    """

    def __init__(self, samples: Tensor, options: Options, fabric: Fabric) -> None:
        count = len(samples)
        validation = options.held_out(count)
        order = torch.arange(count)
        if validation:
            order = torch.randperm(count, generator=_generator(options.seed, _VALIDATION))
        self.held_out = Rows(samples, rows=order[:validation].sort().values)
        self.order = order[validation:]
        self.samples = _on_device(samples, fabric.device)
        self.per_epoch = len(self.order) // options.batch_size
        self.size, self.seed, self.fabric = options.batch_size, options.seed, fabric
        self._epoch, self._shuffled = -1, self.order

    def batch(self, step: int) -> Float[Tensor, "n *shape"]:
        """Return this process's share of the batch of a step, as float on its device."""
        epoch, position = divmod(step, self.per_epoch)
        start, fabric = position * self.size, self.fabric
        index = self._in_epoch(epoch)[start : start + self.size]
        share = index[fabric.global_rank :: fabric.world_size]
        return as_float(self.samples[share].to(fabric.device))

    def _in_epoch(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            generator = _generator(self.seed, epoch)
            shuffled = self.order[torch.randperm(len(self.order), generator=generator)]
            self._epoch, self._shuffled = epoch, shuffled.to(self.samples.device)
        return self._shuffled


def drawn(samples: Shaped[Tensor, "n *shape"], count: int, seed: int) -> Shaped[Tensor, "m *shape"]:
    """Return at most `count` of the samples, drawn by the seed, in their order."""
    chosen = torch.randperm(len(samples), generator=_generator(seed, _PROBE))[:count]
    return samples[chosen.sort().values]


def _generator(seed: int, purpose: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed << 24) + purpose + 16)


def _on_device(samples: Tensor, device: torch.device) -> Tensor:
    if device.type == "cpu":
        return samples
    room = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else 2**31
    return samples.to(device) if samples.nbytes < room else samples
