"""Workers on a cluster, through submitit: each job runs one command to its end.

The files of the command must be on a disk that all machines see. A job that reaches its time limit
is queued again and repeats the command, which has to resume by itself, as `lorae reproduce` does.
"""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorae.errors import InputError
from lorae.utils.validation import check_choice

CLUSTERS = ("slurm", "local")


@dataclass(frozen=True)
class Command:
    """A command as a job; submitit calls it on the machine that runs it."""

    words: Sequence[str]

    def __call__(self) -> None:
        """Run the command to its end."""
        subprocess.run(self.words, check=True)  # noqa: S603 - this package's own command

    def checkpoint(self) -> Any:
        """Return the job to queue when this one reaches its time limit: the same command."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass(frozen=True)
class Job:
    """A job of submitit with the interface of `subprocess.Popen`."""

    job: Any

    def poll(self) -> int | None:
        """Return None while the job waits or runs, then 0, or 1 if it failed."""
        if not self.job.done():
            return None
        return int(self.job.exception() is not None)

    def terminate(self) -> None:
        """Cancel the job, unless it has ended."""
        if not self.job.done():
            self.job.cancel()

    def wait(self) -> int:
        """Wait for the end, and return 0, or 1 if the job failed or was cancelled."""
        return int(self.job.exception() is not None)


def submit(
    command: Sequence[str],
    jobs: int,
    folder: Path,
    *,
    cluster: str = "slurm",
    parameters: Mapping[str, str | int] | None = None,
) -> list[Job]:
    """Queue a command as several jobs, with SLURM as an array, and return them.

    Args:
        command: the words of the command.
        jobs: how many.
        folder: for the jobs' scripts and output, on a disk that all machines see.
        cluster: slurm, or local for processes of this machine.
        parameters: of submitit, such as timeout_min, slurm_partition or gpus_per_node.
    """
    check_choice("cluster", cluster, CLUSTERS)
    try:
        import submitit
    except ImportError:
        raise InputError(
            "a cluster needs the package submitit: pip install 'lorae[cluster]'"
        ) from None
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(**{"name": "lorae", **(parameters or {})})
        with executor.batch():
            queued = [executor.submit(Command(command)) for _ in range(jobs)]
    except (NameError, TypeError, RuntimeError, submitit.core.utils.FailedJobError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the cluster {cluster!r} cannot be used: {reason}") from None
    return [Job(job) for job in queued]
