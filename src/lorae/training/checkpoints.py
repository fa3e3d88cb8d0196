"""Checkpoints: everything that a run needs to continue as if it had not been interrupted.

A checkpoint is one safetensors file: the weights and buffers of the objective, the state of the
optimizer, the moving average of the weights, the sums of the loss, the states of the random number
generators, and in the header the position in the data. It is written atomically, so a crash while
it is written leaves the previous one intact.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from lorae.errors import InputError
from lorae.utils.tensor_files import load_tensors, save_tensors


class Stateful(Protocol):
    """A module, or another object whose state is a dictionary of tensors."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state as named tensors."""
        ...

    def load_state_dict(self, state: dict[str, Tensor], /) -> object:
        """Restore the state."""
        ...


def save_checkpoint(
    path: Path, parts: Mapping[str, Stateful], optimizer: Optimizer, about: Mapping[str, Any]
) -> None:
    """Write the state of named parts, of an optimizer and of the random number generators.

    Args:
        path: the file.
        parts: objects with a state, by name.
        optimizer: whose state is written too.
        about: further values that JSON can hold, for the header.
    """
    tensors = {
        f"{name}.{key}": value
        for name, part in parts.items()
        for key, value in part.state_dict().items()
    }
    tensors |= {
        f"optimizer.{i}.{key}": value
        for i, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
    save_tensors(path, tensors | _generator_states(), dict(about))


def load_checkpoint(
    path: Path, parts: Mapping[str, Stateful], optimizer: Optimizer
) -> dict[str, Any]:
    """Restore what :func:`save_checkpoint` wrote, bit for bit, and return its `about`.

    Raises:
        InputError: if the file is missing, truncated, altered, or of another model.
    """
    tensors, about = load_tensors(path)
    try:
        for name, part in parts.items():
            part.load_state_dict(_with_prefix(tensors, f"{name}."))
        _restore_optimizer(optimizer, tensors)
    except (KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{str(path)!r} is a checkpoint of another model ({reason})") from None
    torch.set_rng_state(tensors["generator.cpu"])
    if "generator.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["generator.cuda"])
    return dict(about)


def _restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    # Not by load_state_dict: fused Adam walks a weight and its moments as flat memory, so the
    # moments must have the memory format of the weight, which load_state_dict does not keep.
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.state.clear()
    for i, parameter in enumerate(parameters):
        state = _with_prefix(tensors, f"optimizer.{i}.")
        if state:
            optimizer.state[parameter] = {k: _like(parameter, v) for k, v in state.items()}


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    if value.shape == parameter.shape:
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    return value.to(parameter.device)


def _generator_states() -> dict[str, Tensor]:
    states = {"generator.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["generator.cuda"] = torch.cuda.get_rng_state()
    return states


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
