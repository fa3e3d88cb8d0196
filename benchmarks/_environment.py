"""A Python environment for what only benchmarks need, in the cache and beside the project's own.

It holds the packages that are named and nothing else; all others, PyTorch above all, are those of
the environment that calls, so that peers and we run on the same versions.
"""

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

from lorae.data.locations import cache_folder


def environment(name: str, requirements: Sequence[str]) -> Path:
    """Return the Python of an environment with these packages, created at the first call.

    Args:
        name: of its folder; another one if the requirements change.
        requirements: pinned packages, with those that they need and the project does not have.
    """
    folder = cache_folder() / "benchmarks" / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if Path(sys.prefix) == folder:  # this is it
        return python
    done = folder / "done"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        command = [python, "-m", "pip", "install", "--quiet", "--no-deps", *requirements]
        subprocess.run(command, check=True, stdout=sys.stderr)
        done.touch()
    found = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    here = sysconfig.get_path("purelib")
    Path(found.stdout.strip(), "beside.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    return python
