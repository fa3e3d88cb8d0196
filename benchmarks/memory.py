"""Memory of a training against the number of samples: 10,000, 100,000, 1,000,000.

The samples are images of noise around a moving spot, 3 x 32 x 32 bytes, as a memory-mapped array
and as a folder of PNG files (hard links to a few thousand distinct ones, to save time). Every cell
is a process of its own, which loads the set, trains, and evaluates on all held-out samples; in the
second column the process finds the set in the cache.

The table shows peaks of the resident set, read every 20 ms: `own` is anonymous memory, which a
machine must have; `mapped` are pages of files, which the system keeps only as long as no other
process needs the memory. With `--limit` the process may use no more private memory than that
(RLIMIT_DATA): an array is then mapped read-only, and the training is the same.

    python3 dev.py bench memory
    python3 dev.py bench memory --counts 10000 100000 --kinds array --limit 2000
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

SIDE = 32
DIFFERENT = 2000  # images, of which a folder has hard links


def images(count: int, start: int) -> np.ndarray:
    """Return images of a spot on noise; each differs."""
    generator = np.random.default_rng(start)
    x, y = generator.uniform(0, SIDE, (2, count, 1, 1, 1))
    grid = np.arange(SIDE)
    far = (grid[:, None] - y) ** 2 + (grid - x) ** 2
    noise = generator.integers(0, 40, (count, 3, SIDE, SIDE))
    return (noise + 200 * np.exp(-far / 20)).astype(np.uint8)


def write_array(path: Path, count: int) -> None:
    """Write an .npy file, a block at a time."""
    from lorae.data.arrays import write_npy

    blocks = (images(min(10_000, count - start), start) for start in range(0, count, 10_000))
    write_npy(path, (count, 3, SIDE, SIDE), "|u1", blocks)


def write_folder(path: Path, count: int) -> None:
    """Write PNG files, 10,000 in a subfolder, the later ones as links of the first."""
    from PIL import Image

    some = min(count, DIFFERENT)
    first = []
    (path / "000").mkdir(parents=True)
    for k, image in enumerate(images(some, 0)):
        file = path / "000" / f"{k:07}.png"
        Image.fromarray(image.transpose(1, 2, 0)).save(file)
        first.append(file)
    for k in range(some, count):
        folder = path / f"{k // 10_000:03}"
        if k % 10_000 == 0:
            folder.mkdir()
        (folder / f"{k:07}.png").hardlink_to(first[k % some])


@contextmanager
def watched() -> Iterator[dict[str, int]]:
    """Yield the peaks of the parts of the resident set, in MiB, which grow while one works."""
    peaks, done = {"own": 0, "mapped": 0}, threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            lines = Path("/proc/self/status").read_text().splitlines()
            now = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
            peaks["own"] = max(peaks["own"], int(now["RssAnon"]) // 1024)
            peaks["mapped"] = max(peaks["mapped"], int(now["RssFile"]) // 1024)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def trained(path: Path, steps: int, limit: int | None) -> dict[str, float]:
    """Train in this process, and return peaks in MiB and seconds for loading and for the rest."""
    from lorae.training.options import Options
    from lorae.training.train import train

    options = Options(
        data=str(path), steps=steps, width=0.25, latent=16, evaluate_every=steps, validation=0.1,
        patience=1, device="cpu", model="lorae-proximal",
    )  # fmt: skip
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit * 2**20, limit * 2**20))
    with watched() as peaks, tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        options.load()
        loaded, load = dict(peaks), time.perf_counter() - start
        train(options, Path(folder) / "run", show=False)
        total = time.perf_counter() - start
    return {"load own": loaded["own"], "seconds": load} | peaks | {"total seconds": total}


def main() -> None:
    """Print a line for each kind and number of samples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--kinds", nargs="*", default=["array", "folder"])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--limit", type=int, help="MiB of private memory")
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(trained(arguments.only, arguments.steps, arguments.limit)))
        return
    print("kind     samples    bytes    time found   own  mapped (peaks, MiB)   load   all (s)")
    for kind in arguments.kinds:
        for count in arguments.counts:
            measure(kind, count, arguments)


def measure(kind: str, count: int, arguments: argparse.Namespace) -> None:
    """Print two lines: a set that is new to the cache, and one that is found there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("set.npy" if kind == "array" else "set")
        (write_array if kind == "array" else write_folder)(path, count)
        own = ["--only", str(path), "--steps", str(arguments.steps)]
        limit = [] if arguments.limit is None else ["--limit", str(arguments.limit)]
        environment = os.environ | {"LORAE_DATA": str(Path(folder) / "cache")}
        for when in ("new", "kept"):
            done = subprocess.run(
                [sys.executable, __file__, *own, *limit],
                env=environment, check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            found = json.loads(done.stdout.splitlines()[-1])
            size = count * 3 * SIDE**2 / 2**20
            print(
                f"{kind:7} {count:9,} {size:5.0f} MiB   {when:10} {found['own']:5.0f} "
                f"{found['mapped']:7.0f} {found['seconds']:20.1f} {found['total seconds']:9.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
