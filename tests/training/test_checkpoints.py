"""Checkpoints restore everything bit for bit."""

import pytest
import torch
from torch import nn

from lorae.errors import InputError
from lorae.training.checkpoints import load_checkpoint, save_checkpoint


def network(width: int = 4) -> nn.Sequential:
    """Return a network whose convolution has channels last, as in training."""
    layers = nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(4 * width, 2)
    )
    return layers.to(memory_format=torch.channels_last)


def train(seed: int, steps: int) -> tuple[nn.Sequential, torch.optim.Adam]:
    torch.manual_seed(seed)
    module = network()
    optimizer = torch.optim.Adam(module.parameters(), 1e-2, fused=True)
    for _ in range(steps):
        step(module, optimizer)
    return module, optimizer


def step(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    module(torch.randn(8, 3, 4, 4)).square().mean().backward()
    optimizer.step()


def state(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return all that a checkpoint has to restore."""
    moments = {
        f"{k}.{name}": value
        for k, one in optimizer.state_dict()["state"].items()
        for name, value in one.items()
    }
    everything = moments | module.state_dict() | {"generator": torch.get_rng_state()}
    return {name: tensor.clone() for name, tensor in everything.items()}


@pytest.mark.parametrize("saved", [0, 3])
@pytest.mark.parametrize("before", [0, 5])
def test_everything_is_restored(saved, before, tmp_path):
    """Also into an optimizer that has made steps, and from one that has not."""
    module, optimizer = train(0, saved)
    save_checkpoint(tmp_path / "c", {"model": module}, optimizer, {"step": saved})
    expected = state(module, optimizer)
    other, other_optimizer = train(1, before)
    about = load_checkpoint(tmp_path / "c", {"model": other}, other_optimizer)
    assert about == {"step": saved}
    found = state(other, other_optimizer)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_training_continues_as_without_a_checkpoint(tmp_path):
    module, optimizer = train(0, 3)
    save_checkpoint(tmp_path / "c", {"model": module}, optimizer, {})
    for _ in range(3):
        step(module, optimizer)
    expected = state(module, optimizer)
    other, other_optimizer = train(1, 2)
    load_checkpoint(tmp_path / "c", {"model": other}, other_optimizer)
    for _ in range(3):
        step(other, other_optimizer)
    for name, tensor in state(other, other_optimizer).items():
        assert torch.equal(tensor, expected[name]), name


def test_moments_have_the_memory_format_of_their_weights(tmp_path):
    """Fused Adam walks both as flat memory."""
    module, optimizer = train(0, 1)
    save_checkpoint(tmp_path / "c", {"model": module}, optimizer, {})
    load_checkpoint(tmp_path / "c", {"model": module}, optimizer)
    weight = module[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    for name in ("exp_avg", "exp_avg_sq"):
        assert optimizer.state[weight][name].stride() == weight.stride()


def test_parts_are_kept_apart(tmp_path):
    (a, optimizer), (b, _) = train(0, 1), train(1, 1)
    save_checkpoint(tmp_path / "c", {"model": a, "average": b}, optimizer, {})
    x, y = network(), network()
    load_checkpoint(tmp_path / "c", {"model": x, "average": y}, optimizer)
    torch.testing.assert_close(x.state_dict(), a.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(y.state_dict(), b.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("other", ["wider", "another part"])
def test_a_checkpoint_of_another_model_is_refused(other, tmp_path):
    module, optimizer = train(0, 1)
    save_checkpoint(tmp_path / "c", {"model": module}, optimizer, {})
    parts = {"model": network(8)} if other == "wider" else {"average": network()}
    before = torch.get_rng_state()
    with pytest.raises(InputError, match="is a checkpoint of another model") as error:
        load_checkpoint(tmp_path / "c", parts, optimizer)
    assert "\n" not in str(error.value)
    assert torch.equal(torch.get_rng_state(), before)
