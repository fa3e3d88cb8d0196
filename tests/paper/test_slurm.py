"""Trainings under a real SLURM of one machine, which `sh tests/slurm/start.sh` starts."""

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from launcher import flags
from small import SMALL, assert_same

from lorae.paper import cluster
from lorae.training.run_folder import Run
from lorae.training.train import train

HERE = Path(__file__).parents[2] / "src"
OPTIONS = replace(SMALL, model="lorae-proximal", device="cpu")


def is_up() -> bool:
    if shutil.which("sbatch") is None:
        return False
    asked = subprocess.run(["sinfo"], capture_output=True, check=False, timeout=30)
    return asked.returncode == 0


pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.distributed,
    pytest.mark.skipif(not is_up(), reason="needs SLURM: sh tests/slurm/start.sh"),
]


@pytest.fixture
def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}


def batch(folder: Path, body: str, environment: dict[str, str], *options: str) -> str:
    """Submit a script, and return its job's number."""
    script = folder / "job.sh"
    script.write_text(f"#!/bin/bash\n{body}\n")
    printed = ["--output", str(folder / "log"), "--open-mode", "append"]
    done = subprocess.run(
        ["sbatch", "--parsable", *printed, *options, str(script)],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def state(job: str) -> str:
    shown = subprocess.run(
        ["scontrol", "show", "job", job], capture_output=True, text=True, check=True
    )
    found = re.search(r"JobState=(\w+)", shown.stdout)
    assert found is not None
    return found[1]


def ended(job: str, seconds: int = 120) -> str:
    deadline = time.monotonic() + seconds
    while state(job) in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING"):
        assert time.monotonic() < deadline, state(job)
        time.sleep(0.2)
    return state(job)


def test_srun_starts_processes_that_train_as_one(tmp_path, environment):
    command = f"{sys.executable} -m lorae train --out two {' '.join(flags(OPTIONS))}"
    job = batch(tmp_path, f"srun {command}", environment, "--ntasks=2", "--overcommit")
    assert ended(job) == "COMPLETED", (tmp_path / "log").read_text()
    log = (tmp_path / "log").read_text()
    assert log.count("run folder: two") == 1  # printed by one process
    assert_same(Run(tmp_path / "two"), train(OPTIONS, tmp_path / "one", show=False))


def test_a_script_without_srun_trains_in_one_process(tmp_path, environment):
    command = f"{sys.executable} -m lorae train --out one {' '.join(flags(OPTIONS))}"
    job = batch(tmp_path, command, environment, "--ntasks=2", "--overcommit")
    assert ended(job) == "COMPLETED", (tmp_path / "log").read_text()
    assert Run(tmp_path / "one").finished


def test_a_job_that_is_cancelled_saves_and_resumes(tmp_path, environment):
    """As at the end of a job's time: SIGTERM to the tasks; docs/scale.md has the script."""
    options = replace(OPTIONS, steps=1600, evaluate_every=400)
    lorae = f"srun {sys.executable} -m lorae train"
    given = " ".join(flags(options))
    body = f"if [ -d run ]; then {lorae} --resume run; else {lorae} --out run {given}; fi"
    asked = ("--ntasks=2", "--overcommit")
    job = batch(tmp_path, body, environment, *asked)
    run, deadline = Run(tmp_path / "run"), time.monotonic() + 90
    while not run.metrics():
        assert time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.1)
    subprocess.run(["scancel", "--signal=TERM", job], check=True)
    ended(job)
    assert "stopped at step" in (tmp_path / "log").read_text()
    assert not run.finished
    job = batch(tmp_path, body, environment, *asked)
    assert ended(job) == "COMPLETED", (tmp_path / "log").read_text()
    assert run.last["step"] == 1600


def test_submitit_runs_a_command_in_jobs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    write = "import os, pathlib; pathlib.Path(os.environ['SLURM_JOB_ID'] + '.done').touch()"
    monkeypatch.chdir(tmp_path)
    memory = {"timeout_min": 5, "slurm_srun_args": ["--overcommit"]}
    jobs = cluster.submit([sys.executable, "-c", write], 2, tmp_path / "jobs", parameters=memory)
    assert [job.wait() for job in jobs] == [0, 0]
    assert len(list(tmp_path.glob("*.done"))) == 2
