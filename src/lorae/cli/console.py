"""The command `lorae`: its commands, its exit statuses and the form of its errors.

Answers go to standard output, as text or with `--json` as JSON; progress goes to standard error.
The exit status is 0, or 2 after bad input (one sentence, no traceback), or 128 plus the number of
the signal that stopped a training. Nothing that takes long to import is imported before a command
runs.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence

from lorae import __version__
from lorae.cli.catalog import DataCommand, Models, Runs
from lorae.cli.demo import Demo
from lorae.cli.encode import Encode
from lorae.cli.evaluate import Classify, Evaluate, Fid
from lorae.cli.export import Export, Fold
from lorae.cli.inspect import Explore, Report, Spectrum
from lorae.cli.malloc import keep_freed_memory
from lorae.cli.output import print_answer
from lorae.cli.parsing import Command, parse
from lorae.cli.path import PathCommand
from lorae.cli.reproduce import Reproduce
from lorae.cli.sample import Interpolate, Sample
from lorae.cli.sweep import Sweep
from lorae.cli.train import Train
from lorae.errors import InputError, Interrupted, unknown_name

GROUPS: dict[str, dict[str, type[Command]]] = {
    "Train": {"demo": Demo, "train": Train, "sweep": Sweep, "path": PathCommand},
    "Inspect and evaluate": {
        "spectrum": Spectrum,
        "report": Report,
        "explore": Explore,
        "evaluate": Evaluate,
        "classify": Classify,
        "fid": Fid,
    },
    "Use": {
        "encode": Encode,
        "sample": Sample,
        "interpolate": Interpolate,
        "fold": Fold,
        "export": Export,
    },
    "Reproduce the paper": {"reproduce": Reproduce},
    "List": {"models": Models, "data": DataCommand, "runs": Runs},
}
_MEMORY = re.compile("not enough memory|out of memory|allocate memory|size calculation overflowed")
TRAINING = {*GROUPS["Train"], "reproduce"}
COMMANDS = {name: kind for group in GROUPS.values() for name, kind in group.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: the words after `lorae`; by default those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None and words and words[0] in TRAINING:
        keep_freed_memory()
    try:
        with _memory_errors():
            return run(words)
    except InputError as error:
        return _failed(str(error), 2)
    except Interrupted as stopped:
        return _failed(str(stopped), 128 + stopped.signal)
    except KeyboardInterrupt as stopped:
        return _failed("; ".join(["stopped", *map(str, stopped.args)]), 130)
    except BrokenPipeError:  # whoever read the output has gone: spare the interpreter its flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = "" if error.filename is None else f" {str(error.filename)!r}"
        return _failed(f"cannot use{where}: {error.strerror or error}", 2)


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn what an allocator says into one sentence."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _MEMORY.search(str(error)):
            raise
        raise InputError("memory must suffice for these options: try smaller sizes") from None


def run(words: Sequence[str]) -> int:
    """Run the command that the first word names, with the other words as its options."""
    if not words:
        print(overview(), file=sys.stderr)
        return 2
    name, *options = words
    if name in ("-h", "--help"):
        print_answer(overview())
    elif name == "--version":
        print_answer(f"lorae {__version__}")
    elif name in COMMANDS:
        parse(COMMANDS[name], name, options)()
    else:
        raise unknown_name("command", name, COMMANDS)
    return 0


def overview() -> str:
    """Return the help of `lorae` itself: one line per command."""
    lines = [
        "usage: lorae [-h] [--version] COMMAND [OPTION ...]",
        "",
        "Autoencoders that find their own latent dimension.",
    ]
    for title, group in GROUPS.items():
        summaries = {name: str(kind.__doc__).partition("\n")[0] for name, kind in group.items()}
        lines += ["", f"{title}:"]
        lines += [f"  {name:12} {summary.rstrip('.')}" for name, summary in summaries.items()]
    return "\n".join([*lines, "", "`lorae COMMAND --help` lists the options of a command."])


def _failed(message: str, status: int) -> int:
    print(f"lorae: {message}", file=sys.stderr)
    return status
