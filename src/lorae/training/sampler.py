"""Batches of training samples as a function of the seed and the number of the step alone."""

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor

from lorae.utils.samples import Rows, as_float

_VALIDATION = -1  # purpose of a generator; from 0 on they are epochs


class Sampler:
    """Batches by the number of the step, in a new random order each epoch.

    An incomplete batch at the end of an epoch is dropped. Samples are kept on the device if they
    fit.

    Args:
        samples: all of them, those to be held out included.
        fabric: device and processes.
        batch_size: samples in a batch, over all processes.
        held_out: number of samples to hold out, chosen at random.
        seed: of the order and of the choice.

    Attributes:
        held_out: the samples that are held out.
        order: the indices of the others.
        per_epoch: batches in an epoch.
    """

    def __init__(
        self, samples: Tensor, fabric: Fabric, *, batch_size: int, held_out: int = 0, seed: int = 0
    ) -> None:
        order = torch.arange(len(samples))
        if held_out:
            order = torch.randperm(len(samples), generator=_generator(seed, _VALIDATION))
        self.held_out = Rows(samples, rows=order[:held_out].sort().values)
        self.order = order[held_out:]
        self.samples = _to_device(samples, fabric.device)
        self.per_epoch = len(self.order) // batch_size
        self.batch_size, self.seed, self.fabric = batch_size, seed, fabric
        self._epoch, self._shuffled = -1, self.order

    def batch(self, step: int) -> Float[Tensor, "n *shape"]:
        """Return this process's share of the batch of a step, as floats on its device."""
        epoch, position = divmod(step, self.per_epoch)
        start = position * self.batch_size
        index = self._shuffle(epoch)[start : start + self.batch_size]
        share = index[self.fabric.global_rank :: self.fabric.world_size]
        return as_float(self.samples[share].to(self.fabric.device))

    def _shuffle(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            generator = _generator(self.seed, epoch)
            shuffled = self.order[torch.randperm(len(self.order), generator=generator)]
            self._epoch, self._shuffled = epoch, shuffled.to(self.samples.device)
        return self._shuffled


def _generator(seed: int, purpose: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed << 24) + purpose + 16)


def _to_device(samples: Tensor, device: torch.device) -> Tensor:
    if device.type == "cpu":
        return samples
    room = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else 2**31
    return samples.to(device) if samples.nbytes < room else samples
