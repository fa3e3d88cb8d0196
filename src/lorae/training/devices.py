"""The processes of a training: started here, by torchrun, or by SLURM's srun.

Each process trains on its share of every batch on a device of its own, and distributed data
parallel averages the gradients. Every process holds the whole model, because the penalties and
the proximal step need the whole matrix. If torchrun or srun has started the processes, their
number overrides the options; otherwise they are started here, one for each device.
"""

import os
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from lorae.errors import InputError
from lorae.objectives.registry import method
from lorae.training.options import LaunchOptions


class Launch(NamedTuple):
    """The number of processes, and the environment that numbers them."""

    devices: int  # processes on each machine
    nodes: int  # machines
    environment: ClusterEnvironment


def create_fabric(options: LaunchOptions) -> Fabric:
    """Return the Fabric that the options or a launcher ask for, not launched yet."""
    launch = detect_launch(options)
    return _fabric(
        options.device,
        strategy=options.strategy,
        devices=launch.devices,
        num_nodes=launch.nodes,
        precision=options.precision,
        plugins=[launch.environment],
    )


def single_process(device: str) -> Fabric:
    """Return a Fabric of this process alone, even on a cluster."""
    return _fabric(device, devices=1, plugins=[LightningEnvironment()])


def _fabric(device: str, **settings: Any) -> Fabric:
    try:
        return Fabric(accelerator=device, **settings)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        if "accelerator is not available" in reason:
            reason = "this machine has none that torch can use"
        raise InputError(f"device {device!r} cannot be used: {reason}") from None


def choose_precision(model: str, device: str) -> tuple[str, str]:
    """Return the arithmetic that `--precision auto` stands for, and the reason."""
    usual = method(model).precision
    if not method(model).bfloat16:
        return usual, f"no measurement says that bfloat16 changes nothing for {model}"
    if not has_bfloat16(device):
        return usual, "the device has no instructions for bfloat16"
    return "bf16-mixed", f"bfloat16 changed neither rank nor error of {model} by what seeds do"


def has_bfloat16(device: str) -> bool:
    """Return whether a device has instructions for products of bfloat16, as far as is known."""
    if device in ("auto", "cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_capability() >= (8, 0)
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # from 2.10 on
    return device in ("auto", "cpu") and any(known.get(f"{k}_bf16") for k in ("amx", "avx512"))


def detect_launch(options: LaunchOptions) -> Launch:
    """Return how many processes there are, and who starts them."""
    given = os.environ
    if TorchElasticEnvironment.detect():
        devices = _count("LOCAL_WORLD_SIZE", options.devices)
        nodes = _count("WORLD_SIZE", devices) // devices
        return Launch(devices, nodes, TorchElasticEnvironment())
    tasks = _count("SLURM_STEP_NUM_TASKS", 1)
    if tasks > 1:  # one task may start processes of its own
        nodes = _count("SLURM_STEP_NUM_NODES", 1)
        if tasks % nodes:
            raise InputError(
                f"srun must start the same number of tasks on each node, got {tasks} on {nodes}"
            )
        given.setdefault("SLURM_NTASKS_PER_NODE", str(tasks // nodes))  # which Fabric requires
        return Launch(tasks // nodes, nodes, SLURMEnvironment())
    if options.nodes > 1 and not {"MASTER_ADDR", "NODE_RANK"} <= given.keys():
        raise InputError(
            f"nodes is {options.nodes}, but neither torchrun nor srun has started this process: "
            "use one of them, or set MASTER_ADDR, MASTER_PORT and NODE_RANK on each machine"
        )
    return Launch(options.devices, options.nodes, LightningEnvironment())


def _count(variable: str, default: int) -> int:
    """Return the value of a launcher's environment variable, a positive integer."""
    text = os.environ.get(variable, str(default))
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise InputError(
            f"the environment variable {variable} must be a positive integer, got {text!r}"
        )
    return int(text)
