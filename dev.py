#!/usr/bin/env python3
"""Everything a fresh clone needs, with nothing but Python: ``python3 dev.py COMMAND``.

The first command makes ``.venv`` beside this file and installs into it what constraints.txt
pins. Later ones start at once, until pyproject.toml, constraints.txt or Python itself changes.
Only the standard library is imported here, on Linux, macOS and Windows alike.
"""

import difflib
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

# Parses on Pythons far older than it supports, so that they get this sentence and no traceback.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(f"dev.py: lorae needs Python 3.11 or newer, and this is {sys.version.split()[0]}")

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
# What is installed: a digest, then "run" or "dev". "unfinished" while an installation runs.
STAMP = VENV / "dev-stamp"
LOG = VENV / "dev-install.log"
PINS = ROOT / "constraints.txt"
# Imported once after installing: compiles these packages' files, and proves that they load.
SLOW_IMPORTS = {
    "run": (
        "torch, lightning_fabric, jaxtyping",
        "sklearn.mixture, matplotlib.pyplot, polars, tyro",
    ),
    "dev": ("beartype, hypothesis.stateful, pytest, xdist.plugin",),
}
BIG = re.compile(r"\s*Downloading (\S+) \((\d{2,}(?:\.\d+)? MB|\S+ GB)\)")


class Stop(Exception):
    """Leave with this exit status, after this one sentence."""

    def __init__(self, status: int, sentence: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


def say(line: str) -> None:
    """Print one line of what is going on, apart from what the command itself prints."""
    print(f"dev.py: {line}", file=sys.stderr, flush=True)


# Running programs


def environment(**extra: str) -> dict[str, str]:
    """Return the environment of a Python that may import torch.

    Threads that spin while they wait slow each other down many times over on a shared CPU, so
    they wait passively. What the user has set stands, except that compiled files are kept: a
    start is several times slower without them, in each of several processes.
    """
    env = {"OMP_WAIT_POLICY": "passive", **extra, **os.environ}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return env


def run(command: list[str], env: dict[str, str] | None = None) -> int:
    """Run a program to its end and return its exit status.

    A Ctrl-C reaches the program as well, which ends in its own way; we only wait for it.
    """
    interrupted = False
    with subprocess.Popen(command, env=env) as child:
        while True:
            try:
                status = child.wait()
                break
            except KeyboardInterrupt:
                interrupted = True
            except Stop:
                child.terminate()
                raise
    if interrupted:
        raise KeyboardInterrupt
    return status if status >= 0 else 128 - status


def become(command: list[str], env: dict[str, str]) -> int:
    """Run a program in our place, so that signals and the exit status are its own."""
    if os.name == "nt":
        return run(command, env)
    sys.stdout.flush()
    return os.execve(command[0], command, env)  # noqa: S606 - no shell is wanted


# The environment in .venv


def digest() -> str:
    """Return a digest of all that decides what is installed."""
    content = hashlib.sha256(f"python {sys.version_info[:2]}".encode())
    for path in (ROOT / "pyproject.toml", PINS):
        content.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return content.hexdigest()


def installed() -> tuple[str, str]:
    """Return the digest and kind that the stamp holds, empty where there is none."""
    words = STAMP.read_text(encoding="utf-8").split() if STAMP.is_file() else []
    found, has, *_ = [*words, "", ""]
    return found, has


def venv_version() -> tuple[int, ...]:
    """Return the major and minor version of .venv's Python, () where it cannot be told."""
    settings = VENV / "pyvenv.cfg"
    text = settings.read_text(encoding="utf-8") if settings.is_file() else ""
    found = re.search(r"^version(?:_info)?\s*=\s*(\d+)\.(\d+)", text, re.MULTILINE)
    return tuple(map(int, found.groups())) if found else ()


def make_venv() -> None:
    """Make .venv; of one that is there already, nothing stays."""
    missing = [name for name in ("venv", "ensurepip") if not importlib.util.find_spec(name)]
    if missing:
        raise Stop(
            2,
            f"this Python ({sys.executable}) lacks the module {missing[0]!r}: install it with "
            "`sudo apt install python3-venv` (Debian, Ubuntu) or use Python from python.org, "
            "then run this command again",
        )
    say(f"making {VENV}")
    VENV.mkdir(exist_ok=True)
    STAMP.write_text("unfinished", encoding="utf-8")
    for path in VENV.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != STAMP:
            path.unlink()
    base = getattr(sys, "_base_executable", sys.executable)
    if run([base, "-m", "venv", str(VENV)]):
        raise Stop(1, "making .venv failed, see above")


def pip(*arguments: str) -> None:
    """Install with pip, at the pinned versions; show the big downloads, log the rest."""
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--no-input"]
    command += ["--no-compile", "--constraint", str(PINS), *arguments]
    lines = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    ) as child:
        try:
            for line in child.stdout or ():
                lines.append(line.rstrip())
                big = BIG.match(line)
                if big:
                    say(f"  downloading {big[1]}, {big[2]}")
                elif line.startswith("WARNING: Retrying"):
                    say(f"  {line.strip()}")
        except BaseException:
            child.terminate()
            raise
    LOG.write_text("\n".join(lines), encoding="utf-8")
    if child.returncode:
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-5:]
        print("\n".join(errors), file=sys.stderr)
        raise Stop(1, f"pip could not install everything (its whole log: {LOG})")


def warm_up(kind: str) -> None:
    """Import the big packages once, in parallel, so that their compiled files are kept."""
    env = environment(OMP_NUM_THREADS="1", MPLBACKEND="agg")
    groups = SLOW_IMPORTS["run"] + (SLOW_IMPORTS["dev"] if kind == "dev" else ())
    children = [
        subprocess.Popen([str(PYTHON), "-c", f"import {names}"], env=env) for names in groups
    ]
    try:
        failed = [child.wait() for child in children]
    except BaseException:
        for child in children:
            child.terminate()
        raise
    if any(failed):
        raise Stop(1, "the installed packages cannot be imported, see above")


def ensure(kind: str) -> None:
    """See to it that .venv holds what ``kind`` needs: "run", or "dev" for the tools as well."""
    wanted = digest()
    found, has = installed()
    if found == wanted and has in (kind, "dev") and PYTHON.exists():
        return
    started = time.monotonic()
    foreign = not found and PYTHON.exists()  # made by hand or another tool: installed into as is
    if foreign:
        say(f"installing into the {VENV} that is there")
    elif found == "unfinished" or not PYTHON.exists() or venv_version() != sys.version_info[:2]:
        make_venv()
    else:
        STAMP.write_text("unfinished", encoding="utf-8")
    what = "lorae and what it runs on" if kind == "run" else "lorae, what it runs on and the tools"
    say(f"installing {what} (once, a minute or two with a good connection)")
    pip("pip", "hatchling", "editables")
    pip("--no-build-isolation", "--editable", str(ROOT) + ("[dev]" if kind == "dev" else "[flows]"))
    say("preparing the packages for their first start")
    warm_up(kind)
    fresh = STAMP.with_suffix(".new")
    fresh.write_text(f"{wanted} {kind}\n", encoding="utf-8")
    fresh.replace(STAMP)
    say(f"ready after {time.monotonic() - started:.0f} s")


# The commands


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def unknown(what: str, name: str, known: list[str]) -> str:
    """Return the sentence for a name that is not among those known, with the closest one."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown {what} {name!r}{hint}; known: {', '.join(known)}"


def demo(arguments: list[str]) -> int:
    """Train LoRAE and a plain autoencoder on MNIST and write the report; options go to the demo.

    python3 dev.py demo [OPTION ...]       `python3 dev.py lorae demo --help` lists them
    """
    return lorae(["demo", *arguments])


def lorae(arguments: list[str]) -> int:
    """Run the command line `lorae` with these arguments, in the current folder.

    python3 dev.py lorae ARGS ...          `python3 dev.py lorae --help` is lorae's own help
    """
    ensure("run")
    return become([str(PYTHON), "-P", "-m", "lorae", *arguments], environment())


def test(arguments: list[str]) -> int:
    """Run the tests and the examples in the docstrings; other options go to pytest.

    python3 dev.py test                    the quick ones, a process per core
    python3 dev.py test --all              the slow ones and those that need a network, too
    python3 dev.py test tests/test_x.py    one file, in one process
    """
    ensure("dev")
    os.chdir(ROOT)
    names_a_file = any(Path(word.split("::")[0]).is_file() for word in arguments)
    one_process = {"--pdb", "--trace", "-s", "--collect-only", "--co"} & {*arguments}
    chosen = any(word.startswith(("-n", "--numprocesses")) for word in arguments)
    if not (names_a_file or one_process or chosen):
        arguments = ["-n", str(min(cores(), 4)), *arguments]
    if "--all" in arguments:
        arguments = ["-m", "", *(word for word in arguments if word != "--all")]
    return become([str(PYTHON), "-m", "pytest", *arguments], environment(OMP_NUM_THREADS="1"))


def lint(arguments: list[str]) -> int:
    """Check style, format and types; all three run, whichever fails.

    python3 dev.py lint [CHECK ...]        only these of: style, format, types
    python3 dev.py lint --fix              mend what style and format can mend
    """
    fix = "--fix" in arguments
    ruff = [str(PYTHON), "-m", "ruff"]
    checks = {
        "style": [*ruff, "check", *(["--fix"] if fix else [])],
        "format": [*ruff, "format", *([] if fix else ["--check"])],
        "types": [str(PYTHON), "-m", "mypy"],
    }
    chosen = [word for word in arguments if word != "--fix"] or list(checks)
    for name in chosen:
        if name not in checks:
            raise Stop(2, unknown("check", name, list(checks)))
    ensure("dev")
    os.chdir(ROOT)
    failed = []
    for name in chosen:
        say(name)
        if run(checks[name], environment()):
            failed.append(name)
    say(f"failed: {', '.join(failed)}" if failed else "all good")
    return 1 if failed else 0


def bench(arguments: list[str]) -> int:
    """Run one of the scripts in benchmarks/; without a name, list them.

    python3 dev.py bench [NAME [OPTION ...]]
    """
    scripts = {
        path.stem: path
        for path in sorted((ROOT / "benchmarks").glob("*.py"))
        if not path.stem.startswith("_")
    }
    if not arguments:
        print("\n".join(scripts) or "there are no benchmarks yet")
        return 0
    name, *rest = arguments
    if name not in scripts:
        raise Stop(2, unknown("benchmark", name, list(scripts)))
    ensure("dev")
    return become([str(PYTHON), str(scripts[name]), *rest], environment())


COMMANDS = {command.__name__: command for command in (demo, test, lint, bench, lorae)}


def overview() -> str:
    """Return the help: a line for each command."""
    rows = [f"  {name:<8}{(f.__doc__ or '').splitlines()[0]}" for name, f in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python3 dev.py COMMAND [ARGS ...]",
            "",
            *rows,
            "",
            "The first command makes .venv and installs; `dev.py COMMAND --help` says more.",
        ]
    )


def dispatch(arguments: list[str]) -> int:
    """Run the command that the arguments name and return its exit status."""
    if not arguments:
        raise Stop(2, f"which command? one of: {', '.join(COMMANDS)} (--help says more)")
    name, *rest = arguments
    if name in ("-h", "--help", "help"):
        print(overview())
        return 0
    if name not in COMMANDS:
        raise Stop(2, unknown("command", name, list(COMMANDS)))
    if name != "lorae" and rest and rest[0] in ("-h", "--help"):
        lines = (COMMANDS[name].__doc__ or "").strip().splitlines()
        print("\n".join(line.removeprefix("    ") for line in lines))
        return 0
    return COMMANDS[name](rest)


def terminate(*_: object) -> None:
    """Turn SIGTERM into an exception, so that no installer outlives us."""
    raise Stop(128 + signal.SIGTERM, "ended by SIGTERM")


def main() -> int:
    """Run one command; whatever goes wrong on the way is one sentence on stderr."""
    signal.signal(signal.SIGTERM, terminate)
    try:
        return dispatch(sys.argv[1:])
    except Stop as stop:
        if stop.sentence:
            say(stop.sentence)
        return stop.status
    except KeyboardInterrupt:
        say("interrupted; the next run goes on from here")
        return 128 + signal.SIGINT
    except OSError as error:
        say(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
        return 1


if __name__ == "__main__":
    sys.exit(main())
