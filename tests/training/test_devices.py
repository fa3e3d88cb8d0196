"""Who starts the processes, and how many; no test starts one."""

from dataclasses import replace

import pytest
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from lorae.errors import InputError
from lorae.training.devices import choose_precision, create_fabric, detect_launch, has_bfloat16
from lorae.training.options import LaunchOptions, Options

OPTIONS = LaunchOptions(device="cpu")
TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
SRUN = {
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "6",
    "SLURM_STEP_NUM_TASKS": "6",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_PROCID": "3",
}
BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "6", "SLURM_PROCID": "0"}  # a script without srun


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables of a launcher that started these tests."""
    for name in {*TORCHRUN, *SRUN, "SLURM_NTASKS_PER_NODE", "MASTER_ADDR", "NODE_RANK"}:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "devices", "nodes", "environment"),
    [
        ({}, 3, 1, LightningEnvironment),
        (TORCHRUN, 4, 2, TorchElasticEnvironment),
        (SRUN, 3, 2, SLURMEnvironment),
        (SRUN | TORCHRUN, 4, 2, TorchElasticEnvironment),  # torchrun under srun
        (BATCH, 3, 1, LightningEnvironment),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1"}, 3, 1, LightningEnvironment),
    ],
    ids=["alone", "torchrun", "srun", "both", "batch", "one-task"],
)
def test_a_launcher_overrides_the_options(monkeypatch, given, devices, nodes, environment):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    found = detect_launch(replace(OPTIONS, devices=3))
    assert found[:2] == (devices, nodes)
    assert type(found.environment) is environment


def test_srun_on_the_path_causes_no_warning(monkeypatch, tmp_path):
    """As on the login node of a cluster; Fabric would warn, and warnings are errors here."""
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert create_fabric(OPTIONS).world_size == 1


def test_unequal_and_unnamed_machines_are_refused(monkeypatch):
    with pytest.raises(InputError, match="nodes is 2, but neither torchrun nor srun"):
        create_fabric(replace(OPTIONS, nodes=2))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("NODE_RANK", "1")
    assert detect_launch(replace(OPTIONS, nodes=2)).nodes == 2
    for name, value in (SRUN | {"SLURM_STEP_NUM_TASKS": "5"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="same number of tasks on each node, got 5 on 2"):
        detect_launch(OPTIONS)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"strategy": "fsdp"}, "strategy must be one of auto, ddp, got 'fsdp'"),
        ({"nodes": 0}, "nodes must be"),
    ],
)
def test_launch_options_are_checked(changed, message):
    with pytest.raises(InputError, match=message):
        Options(**changed).check()


@pytest.mark.parametrize("value", ["0", "-1", "x", "", "2.5", "\u0662"])
@pytest.mark.parametrize(
    ("given", "name"),
    [
        (SRUN, "SLURM_STEP_NUM_NODES"),
        (SRUN, "SLURM_STEP_NUM_TASKS"),
        (TORCHRUN, "LOCAL_WORLD_SIZE"),
        (TORCHRUN, "WORLD_SIZE"),
    ],
)
def test_variables_that_are_no_counts_are_refused(monkeypatch, given, name, value):
    for key, one in (given | {name: value}).items():
        monkeypatch.setenv(key, one)
    with pytest.raises(InputError, match=f"{name} must be a positive integer, got '{value}'"):
        detect_launch(OPTIONS)


@pytest.mark.parametrize(
    ("model", "device", "known", "expected"),
    [
        ("lorae", "auto", {"amx_bf16": True}, "bf16-mixed"),
        ("lorae", "cpu", {"amx_bf16": False, "avx512_bf16": True}, "bf16-mixed"),
        ("lorae", "cpu", {"avx512_f": True}, "32-true"),
        ("lorae", "mps", {"amx_bf16": True}, "32-true"),
        ("lorae-data-space", "cpu", {"amx_bf16": True}, "32-true"),
        ("irmae-wd", "cpu", {"amx_bf16": True}, "64-true"),
    ],
)
def test_auto_is_bfloat16_where_model_and_device_allow_it(
    model, device, known, expected, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    precision, reason = choose_precision(model, device)
    assert precision == expected
    assert model in reason or "no instructions" in reason
    options = Options(data="digits", model=model, device=device, precision="auto")
    assert options.resolve(options.load()).precision == expected


def test_auto_on_a_gpu_asks_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, found in (((7, 5), False), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda c=capability: c)
        assert has_bfloat16("cuda") is found
