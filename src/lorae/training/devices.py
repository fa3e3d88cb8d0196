"""The processes of a training: started here, by torchrun, or by SLURM's srun.

Each trains on its share of every batch, on a device of its own, and PyTorch's distributed data
parallel averages the gradients; all of them hold the whole model, of which the penalties and the
proximal step need the whole matrix. A launcher that has already started the processes has the
say over their number; else they are started here, one for each of the devices of this machine.
"""

import os
from typing import NamedTuple

from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from lorae.errors import InputError
from lorae.training.options import Options


class Launch(NamedTuple):
    """How many processes there are, and who numbers them."""

    devices: int  # processes on each machine
    nodes: int  # machines
    environment: ClusterEnvironment


def fabric_for(options: Options) -> Fabric:
    """Start the processes that the options name, or join those that are started, and return Fabric.

    Raises:
        InputError: if the device cannot be used, the batch cannot be shared, or the other
            machines are nowhere named.
    """
    try:
        launch = launched(options)
        fabric = Fabric(
            accelerator=options.device,
            strategy=options.strategy,
            devices=launch.devices,
            num_nodes=launch.nodes,
            precision=options.precision,  # type: ignore[arg-type]
            plugins=[launch.environment],
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        if "accelerator is not available" in reason:
            reason = "this machine has none that torch can use"
        raise InputError(f"device {options.device!r} cannot be used: {reason}") from None
    if options.batch_size % fabric.world_size:  # a launcher's number, which options cannot know
        raise InputError(
            f"batch_size must be a multiple of the number of processes, got "
            f"{options.batch_size} and {fabric.world_size}"
        )
    fabric.launch()
    return fabric


def launched(options: Options) -> Launch:
    """Return who has started the processes, and how many there are."""
    given = os.environ
    if TorchElasticEnvironment.detect():
        devices = int(given.get("LOCAL_WORLD_SIZE", options.devices))
        nodes = int(given.get("WORLD_SIZE", devices)) // devices
        return Launch(devices, nodes, TorchElasticEnvironment())
    tasks = int(given.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks > 1:  # one task may start processes of its own
        nodes = int(given.get("SLURM_STEP_NUM_NODES", 1))
        if tasks % nodes:
            raise InputError(f"srun must start equally many tasks a node, got {tasks} on {nodes}")
        given.setdefault("SLURM_NTASKS_PER_NODE", str(tasks // nodes))  # as Fabric asks of it
        return Launch(tasks // nodes, nodes, SLURMEnvironment())
    if options.nodes > 1 and not {"MASTER_ADDR", "NODE_RANK"} <= given.keys():
        raise InputError(
            f"nodes is {options.nodes}, but neither torchrun nor srun has started this process: "
            "use one of them, or set MASTER_ADDR, MASTER_PORT and NODE_RANK on each machine"
        )
    return Launch(options.devices, options.nodes, LightningEnvironment())
