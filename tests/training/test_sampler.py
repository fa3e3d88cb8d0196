"""Batches: every sample once an epoch, other orders for other seeds, shares of processes."""

from unittest.mock import Mock

import pytest
import torch
from lightning_fabric import Fabric

from lorae.training.sampler import Sampler


def process(rank: int = 0, world: int = 1) -> Fabric:
    """Return a stand-in for one of several processes."""
    return Mock(Fabric, global_rank=rank, world_size=world, device=torch.device("cpu"))


@pytest.mark.parametrize("held_out", [0, 15])
@pytest.mark.parametrize("size", [1, 7, 35])
def test_every_sample_comes_once_an_epoch(held_out, size):
    samples = torch.arange(50.0)[:, None]
    sampler = Sampler(samples, process(), batch_size=size, held_out=held_out)
    orders = [
        torch.cat([sampler.batch(epoch * sampler.per_epoch + k) for k in range(sampler.per_epoch)])
        for epoch in range(3)
    ]
    kept_apart = set(sampler.held_out[:].flatten().tolist())
    assert len(kept_apart) == held_out
    for order in orders:
        seen = order.flatten().tolist()
        assert len(set(seen)) == len(seen) == sampler.per_epoch * size
        assert not kept_apart & set(seen)
    assert not torch.equal(orders[0], orders[1])
    assert torch.equal(sampler.batch(0), orders[0][:size])  # steps may be asked for in any order
    other = Sampler(samples, process(), batch_size=size, held_out=held_out, seed=1)
    several = [other.batch(k) for k in range(sampler.per_epoch)]
    assert not torch.equal(torch.cat(several), orders[0])


def test_no_epoch_of_a_seed_is_one_of_another():
    samples = torch.arange(50.0)[:, None]
    orders = [
        tuple(Sampler(samples, process(), batch_size=50, seed=seed).batch(epoch))
        for seed in range(4)
        for epoch in range(4)
    ]
    assert len(set(map(str, orders))) == len(orders)


@pytest.mark.parametrize("world", [2, 3, 4])
def test_processes_share_the_batch_of_one(world):
    samples = torch.arange(50.0)[:, None]
    whole = Sampler(samples, process(), batch_size=12)
    shares = [Sampler(samples, process(rank, world), batch_size=12) for rank in range(world)]
    for step in range(10):
        parts = [share.batch(step) for share in shares]
        assert {len(part) for part in parts} == {12 // world}
        assert torch.equal(torch.cat(parts).sort(0).values, whole.batch(step).sort(0).values)
