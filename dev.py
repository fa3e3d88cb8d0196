#!/usr/bin/env python3
"""Set up and work on a clone with nothing but Python: ``python3 dev.py COMMAND``.

The first command creates ``.venv`` next to this file and installs the versions that
constraints.txt pins. Later ones start at once, until pyproject.toml, constraints.txt or the version
of Python changes. Only the standard library is imported; it runs on Linux, macOS and Windows.
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

# This file parses on much older Pythons, so that they print this message and no traceback.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(f"dev.py: lorae needs Python 3.11 or newer, and this is {sys.version.split()[0]}")

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
# A digest of what is installed, then one of EXTRAS; "unfinished" during an installation.
STAMP = VENV / "dev-stamp"
LOG = VENV / "dev-install.log"
PINS = ROOT / "constraints.txt"
# The extras of pyproject.toml that are installed, each with everything of those before it.
EXTRAS = {"run": "flows", "dev": "dev", "docs": "dev,docs"}
# Imported once after installing, to compile the packages' files and to check that they load.
SLOW_IMPORTS = {
    "run": (
        "torch, lightning_fabric, jaxtyping",
        "sklearn.mixture, matplotlib.pyplot, polars, tyro",
    ),
    "dev": ("beartype, hypothesis.stateful, pytest, xdist.plugin",),
    "docs": ("furo, ipykernel, myst_nb",),
}
BIG = re.compile(r"\s*Downloading (\S+) \((\d{2,}(?:\.\d+)? MB|\S+ GB)\)")


class Stop(Exception):
    """End with this exit status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def say(line: str) -> None:
    """Print a line on progress to standard error, apart from the output of the command."""
    print(f"dev.py: {line}", file=sys.stderr, flush=True)


def environment(**extra: str) -> dict[str, str]:
    """Return the environment variables for a Python that may import torch.

    Threads that spin while they wait slow each other down many times over on a shared CPU, so they
    wait passively. Variables that the user has set take precedence, except that compiled files are
    always written: without them every process starts several times more slowly.
    """
    env = {"OMP_WAIT_POLICY": "passive", **extra, **os.environ}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return env


def run(command: list[str], env: dict[str, str] | None = None) -> int:
    """Run a program to its end and return its exit status.

    Ctrl-C reaches the program as well; we wait until it has ended by itself.
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
    """Replace this process by a program, which then receives signals and sets the exit status."""
    if os.name == "nt":
        return run(command, env)
    sys.stdout.flush()
    return os.execve(command[0], command, env)  # noqa: S606 - no shell is wanted


def digest() -> str:
    """Return a digest of everything that determines what is installed."""
    content = hashlib.sha256(f"python {sys.version_info[:2]}".encode())
    for path in (ROOT / "pyproject.toml", PINS):
        content.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return content.hexdigest()


def installed() -> tuple[str, str]:
    """Return the digest and the kind in the stamp, empty if there is none."""
    words = STAMP.read_text(encoding="utf-8").split() if STAMP.is_file() else []
    recorded, kind, *_ = [*words, "", ""]
    return recorded, kind


def venv_version() -> tuple[int, ...]:
    """Return the major and minor version of .venv's Python, or () if it is unknown."""
    settings = VENV / "pyvenv.cfg"
    text = settings.read_text(encoding="utf-8") if settings.is_file() else ""
    found = re.search(r"^version(?:_info)?\s*=\s*(\d+)\.(\d+)", text, re.MULTILINE)
    return tuple(map(int, found.groups())) if found else ()


def make_venv() -> None:
    """Create .venv, after removing everything that is in it."""
    missing = [name for name in ("venv", "ensurepip") if not importlib.util.find_spec(name)]
    if missing:
        raise Stop(
            2,
            f"this Python ({sys.executable}) has no module {missing[0]!r}: install it with "
            "`sudo apt install python3-venv` (Debian, Ubuntu), or use Python from python.org, "
            "then run this command again",
        )
    say(f"creating {VENV}")
    VENV.mkdir(exist_ok=True)
    STAMP.write_text("unfinished", encoding="utf-8")
    for path in VENV.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != STAMP:
            path.unlink()
    base = getattr(sys, "_base_executable", sys.executable)
    if run([base, "-m", "venv", str(VENV)]):
        raise Stop(1, "could not create .venv, see above")


def pip(*arguments: str) -> None:
    """Install the pinned versions with pip; print large downloads, and log everything."""
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
        raise Stop(1, f"pip could not install everything; its log is {LOG}")


def warm_up(kind: str) -> None:
    """Import the large packages once, in parallel, so that their compiled files are written."""
    env = environment(OMP_NUM_THREADS="1", MPLBACKEND="agg")
    groups = [names for part in up_to(kind) for names in SLOW_IMPORTS[part]]
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


def up_to(kind: str) -> list[str]:
    """Return the kinds that an environment of this kind includes."""
    return list(EXTRAS)[: list(EXTRAS).index(kind) + 1]


def ensure(kind: str) -> None:
    """Install what ``kind`` needs, if it is missing.

    "run" is what users need, "dev" the development tools as well, and "docs" also Sphinx.
    """
    wanted = digest()
    recorded, has = installed()
    if recorded == wanted and has in EXTRAS and kind in up_to(has) and PYTHON.exists():
        return
    started = time.monotonic()
    if not recorded and PYTHON.exists():  # created by hand or by another tool
        say(f"installing into the existing {VENV}")
    elif recorded == "unfinished" or not PYTHON.exists() or venv_version() != sys.version_info[:2]:
        make_venv()
    else:
        STAMP.write_text("unfinished", encoding="utf-8")
    tools = {"dev": ", the development tools", "docs": ", the development tools and Sphinx"}
    what = f"lorae, its dependencies{tools.get(kind, '')}"
    say(f"installing {what} (once; a minute or two on a fast connection)")
    pip("pip", "hatchling", "editables")
    pip("--no-build-isolation", "--editable", f"{ROOT}[{EXTRAS[kind]}]")
    say("compiling the packages")
    warm_up(kind)
    fresh = STAMP.with_suffix(".new")
    fresh.write_text(f"{wanted} {kind}\n", encoding="utf-8")
    fresh.replace(STAMP)
    say(f"ready after {time.monotonic() - started:.0f} s")


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def unknown(what: str, name: str, known: list[str]) -> str:
    """Return the message about an unknown name, with the closest known one."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown {what} {name!r}{hint}; known: {', '.join(known)}"


def demo(arguments: list[str]) -> int:
    """Train LoRAE and a plain autoencoder on MNIST; write a report and an explorer.

    python3 dev.py demo [OPTION ...]       `python3 dev.py lorae demo --help` lists the options
    """
    return lorae(["demo", *arguments])


def lorae(arguments: list[str]) -> int:
    """Run the command line `lorae` in the current folder.

    python3 dev.py lorae ARGS ...          `python3 dev.py lorae --help` prints its help
    """
    ensure("run")
    return become([str(PYTHON), "-P", "-m", "lorae", *arguments], environment())


def test(arguments: list[str]) -> int:
    """Run the tests and the examples in the docstrings.

    python3 dev.py test                    the quick tests, one process per core
    python3 dev.py test --all              also the slow tests and those that need a network
    python3 dev.py test FILE [OPTION ...]  one file, in one process; options go to pytest
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
    """Check style, format and types.

    python3 dev.py lint [CHECK ...]        only some of: style, format, types
    python3 dev.py lint --fix              fix what can be fixed automatically
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
    say(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


def bench(arguments: list[str]) -> int:
    """Run one of the scripts in benchmarks/, or list them.

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


def docs(arguments: list[str]) -> int:
    """Build the documentation, tutorials included, with warnings as errors.

    python3 dev.py docs                    write docs/_build/html/index.html
    python3 dev.py docs --links            also check the links to other sites
    """
    unknown_words = [word for word in arguments if word != "--links"]
    if unknown_words:
        raise Stop(2, unknown("option", unknown_words[0], ["--links"]))
    ensure("docs")
    source, built = ROOT / "docs", ROOT / "docs" / "_build"
    for builder in ("html", *(["linkcheck"] if arguments else [])):
        words = ["-b", builder, "-d", str(built / "doctrees"), "--fail-on-warning", "--keep-going"]
        sphinx = [str(PYTHON), "-m", "sphinx", *words, str(source), str(built / builder)]
        status = run(sphinx, environment(OMP_NUM_THREADS="1"))
        if status:
            return status
    say(f"open {built / 'html' / 'index.html'}")
    return 0


COMMANDS = {command.__name__: command for command in (demo, test, lint, bench, docs, lorae)}


def overview() -> str:
    """Return the help, a line for each command."""
    rows = [f"  {name:<8}{(f.__doc__ or '').splitlines()[0]}" for name, f in COMMANDS.items()]
    last = "The first command creates .venv and installs. More: `dev.py COMMAND --help`"
    return "\n".join(["usage: python3 dev.py COMMAND [ARGS ...]", "", *rows, "", last])


def dispatch(arguments: list[str]) -> int:
    """Run the command named by the first argument and return its exit status."""
    if not arguments:
        raise Stop(2, f"COMMAND must be one of {', '.join(COMMANDS)}, got none; see --help")
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
    """Turn SIGTERM into an exception, so that no installer outlives this process."""
    raise Stop(128 + signal.SIGTERM, "stopped by SIGTERM")


def main() -> int:
    """Run one command; every failure prints one sentence to standard error."""
    signal.signal(signal.SIGTERM, terminate)
    try:
        return dispatch(sys.argv[1:])
    except Stop as stop:
        say(str(stop))
        return stop.status
    except KeyboardInterrupt:
        say("interrupted; run the command again to continue")
        return 128 + signal.SIGINT
    except OSError as error:
        say(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
        return 1


if __name__ == "__main__":
    sys.exit(main())
