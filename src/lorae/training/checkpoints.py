"""Checkpoints: everything that a run needs to continue as if it had not been interrupted.

A checkpoint is one safetensors file: the weights and buffers of the objective, the state of the
optimizer, the moving average of the weights, the sums of the loss, the states of the random number
generators, and in the header the position in the data. It is written atomically, so a crash while
it is written leaves the previous one intact.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol, TypedDict

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lorae.errors import InputError
from lorae.utils.records import check_json
from lorae.utils.tensor_files import load_tensors, save_tensors


class Stateful(Protocol):
    """A module, or another object whose state is a dictionary of tensors."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state as named tensors."""
        ...

    def load_state_dict(self, state: dict[str, Tensor], /) -> object:
        """Restore the state."""
        ...


class Header(TypedDict):
    """What every checkpoint states besides its tensors."""

    untouched: list[int]  # parameters that no gradient has reached, which have no moments


def save_checkpoint(
    path: Path, parts: Mapping[str, Stateful], optimizer: Optimizer, about: Mapping[str, Any]
) -> None:
    """Write the state of named parts, of an optimizer and of the random number generators.

    `about` holds further JSON values, for the header.
    """
    tensors = {
        f"{name}.{key}": value
        for name, part in parts.items()
        for key, value in part.state_dict().items()
    }
    parameters = _parameters(optimizer)
    tensors |= {
        f"optimizer.{i}.{key}": value
        for i, parameter in enumerate(parameters)
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    untouched = [i for i, one in enumerate(parameters) if one not in optimizer.state]
    save_tensors(path, tensors | _generator_states(), {**about, "untouched": untouched})


def load_checkpoint(
    path: Path,
    parts: Mapping[str, Stateful],
    optimizer: Optimizer,
    check: Callable[[dict[str, Any]], object] = lambda _: None,
) -> dict[str, Any]:
    """Restore what :func:`save_checkpoint` wrote, bit for bit, and return its `about`.

    Everything is checked before anything is restored: `check` may refuse the `about`, by an error.
    """
    tensors, about = load_tensors(path)
    check_json(about, Header, repr(str(path)))
    untouched = set(about.pop("untouched"))
    check(about)
    try:
        _check_tensors(tensors, _expected(parts, optimizer, untouched))
        _check_generators(tensors)
    except ValueError as error:
        raise InputError(f"{str(path)!r} is a checkpoint of another model ({error})") from None
    for name, part in parts.items():
        part.load_state_dict(_with_prefix(tensors, f"{name}."))
    _restore_optimizer(optimizer, tensors)
    torch.set_rng_state(tensors["generator.cpu"])
    if "generator.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["generator.cuda"])
    return dict(about)


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _expected(
    parts: Mapping[str, Stateful], optimizer: Optimizer, untouched: Collection[int]
) -> dict[str, Tensor]:
    """Return tensors of the names, shapes and types that a checkpoint must have.

    Of a part that is no module, such as sums that are empty at first, any scalars are accepted.
    """
    expected = {
        f"{name}.{key}": value
        for name, part in parts.items()
        if isinstance(part, nn.Module)
        for key, value in part.state_dict(keep_vars=True).items()
    }
    for i, parameter in enumerate(_parameters(optimizer)):
        if i not in untouched:
            moments = {"exp_avg": parameter, "exp_avg_sq": parameter}
            state = moments | {"step": torch.tensor(0.0)}
            expected |= {f"optimizer.{i}.{key}": value for key, value in state.items()}
    sums = [name for name, part in parts.items() if not isinstance(part, nn.Module)]
    return expected | {f"{name}.steps": torch.tensor(0) for name in sums}


def _check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check names, shapes and types of tensors, and that weights and moments are finite."""
    known = {name.partition(".")[0] for name in expected if name.endswith(".steps")}
    for name in expected.keys() - tensors.keys():
        raise ValueError(f"{name} is missing")
    for name, value in tensors.items():
        prefix = name.partition(".")[0]
        if prefix == "generator":
            continue
        if name not in expected and not (prefix in known and value.ndim == 0):
            raise ValueError(f"{name} is unknown")
        like = expected.get(name, value)
        found, wanted = (value.shape, value.dtype), (like.shape, like.dtype)
        if found != wanted:
            raise ValueError(f"{name} must be {_describe(*wanted)}, got {_describe(*found)}")
        if isinstance(like, nn.Parameter) and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} must be finite")
        if name.endswith((".step", ".steps", ".exp_avg_sq")) and bool((value < 0).any()):
            raise ValueError(f"{name} must be at least 0")


def _describe(shape: torch.Size, dtype: torch.dtype) -> str:
    return f"{'x'.join(map(str, shape)) or 'a scalar'} of {str(dtype).removeprefix('torch.')}"


def _check_generators(tensors: Mapping[str, Tensor]) -> None:
    """Check the states of the random number generators."""
    for name in {"generator.cpu"} | {name for name in tensors if name.startswith("generator.")}:
        device = name.removeprefix("generator.")
        if name not in tensors or device not in ("cpu", "cuda"):
            raise ValueError(f"{name} is {'unknown' if name in tensors else 'missing'}")
        if device == "cuda" and not torch.cuda.is_available():
            continue
        try:
            torch.Generator(device).set_state(tensors[name])
        except (RuntimeError, TypeError):
            raise ValueError(f"{name} is not the state of a generator") from None


def _restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    # Not by load_state_dict: fused Adam walks a weight and its moments as flat memory, so the
    # moments must have the memory format of the weight, which load_state_dict does not keep.
    optimizer.state.clear()
    for i, parameter in enumerate(_parameters(optimizer)):
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
