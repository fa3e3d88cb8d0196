"""Real `lorae` processes without the time of their imports.

One process imports lorae and then forks a child for every command. It never runs an operation of
torch itself, so a child starts in the same state as `python -m lorae`, in milliseconds instead of
seconds. A child can be killed, limited in the size of its files, or train with others.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from lorae.training.options import Options

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

_SERVER = """
import json, os, sys, traceback
import lorae.cli, lorae.training.train, sklearn.datasets

def run(job):
    for number, name, flags in ((0, os.devnull, os.O_RDONLY), (1, job["out"], os.O_WRONLY),
                                (2, job["err"], os.O_WRONLY)):
        os.dup2(os.open(name, flags), number)
    os.environ |= job["environment"]
    os.chdir(job["folder"])
    if job["limit"] is not None:
        import resource
        sys.dont_write_bytecode = True  # a .pyc cut by the limit would break every later import
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], job["limit"]))
    if job["code"] is not None:
        exec(job["code"], {"__name__": "job"})
        return 0
    return lorae.cli.main(job["arguments"])

for line in sys.stdin:
    job = json.loads(line)
    if "wait" in job:
        print(os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1]), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = run(job)
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    print(pid, flush=True)
"""


@dataclass(frozen=True)
class Process:
    """A child process and the folder of its output."""

    pid: int
    folder: Path

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Return the exit status, or minus the number of the signal that killed it."""
        return int(_ask({"wait": self.pid}))

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()


def start(
    *arguments: object,
    folder: Path,
    limit: int | None = None,
    code: str | None = None,
    environment: dict[str, str] | None = None,
) -> Process:
    """Start `lorae ARGUMENTS`, or `code`, in a folder."""
    printed = Path(tempfile.mkdtemp(prefix=".printed-", dir=folder.parent))
    for name in ("out", "err"):
        (printed / name).touch()
    cached = {name: value for name, value in os.environ.items() if name == "LORAE_DATA"}
    job = {
        "arguments": [str(argument) for argument in arguments],
        "folder": str(folder),
        "limit": limit,
        "code": code,
        "environment": cached | (environment or {}),
        "out": str(printed / "out"),
        "err": str(printed / "err"),
    }
    return Process(int(_ask(job)), printed)


def flags(options: Options) -> list[str]:
    """Return the command-line arguments of options."""
    changed = {k: v for k, v in vars(options).items() if v != getattr(Options(), k)}
    settings = changed.pop("settings", {})
    parts = [part for k, v in changed.items() for part in (f"--{k.replace('_', '-')}", str(v))]
    named = [str(part) for setting in settings.items() for part in setting]
    return [*parts, "--settings", *named] if named else parts


def start_group(
    *arguments: object, folder: Path, size: int = 2, code: str | None = None
) -> list[Process]:
    """Start `lorae ARGUMENTS`, or `code`, in several processes of one group, as torchrun does."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "test",
    }
    return [
        start(
            *arguments,
            folder=folder,
            code=code,
            environment=common | {"RANK": str(k), "LOCAL_RANK": str(k)},
        )
        for k in range(size)
    ]


def _ask(job: dict) -> str:
    server = _server()
    server.stdin.write(json.dumps(job) + "\n")
    server.stdin.flush()
    return server.stdout.readline()


@cache
def _server() -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    atexit.register(server.communicate)
    return server
