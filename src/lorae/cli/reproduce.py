"""The command that reproduces the paper: `lorae reproduce`."""

import _thread
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import tyro

from lorae.cli.output import print_answer, print_warning
from lorae.cli.parsing import Json
from lorae.errors import InputError, Interrupted, unknown_name
from lorae.utils.validation import check_choice, check_range

if TYPE_CHECKING:
    from tqdm import tqdm

    from lorae.paper.cluster import Job
    from lorae.paper.queue import Cell, Queue

_INTERVAL = 1.0  # seconds between two updates of the progress bar


@dataclass(frozen=True)
class Reproduce:
    """Reproduce tables, figures and theorems of the paper, and write the measurements.

    Every finished cell is kept. The same command resumes where it was stopped; started twice, or on
    several machines that share the folder, its processes divide the work.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Recipes, such as table3 or figure2, or all; without names, the recipes are listed."""
    scale: str = "cpu"
    """Size of the trainings: smoke (a test that takes a minute), cpu or paper."""
    seeds: int = 3
    """Number of seeds, from 0; intervals are over seeds."""
    protocol: str = "lorae"
    """Protocol of the evaluation: lorae, or authors for that of the authors' code."""
    out: Path = Path("results")
    """Folder of the results: RESULTS.md, JSON and pictures."""
    work: Path = Path("runs/reproduce")
    """Folder of trainings and measurements, which several processes may share."""
    processes: int = 1
    """Number of worker processes; they share the cores, and the GPUs are assigned in turn."""
    cluster: str | None = None
    """Run the workers as cluster jobs: slurm, or local to try it; needs lorae[cluster]."""
    cluster_options: dict[str, str] = field(default_factory=dict)
    """Parameters of submitit as names and values, such as timeout_min 600 gpus_per_node 1."""
    minutes: float | None = None
    """Stop measuring after this time, and write what is finished; the same command resumes."""
    only_work: bool = False
    """Measure without writing results: for additional workers, here or on another machine."""
    only_write: bool = False
    """Write the results of finished cells without measuring."""
    list_all: Annotated[bool, tyro.conf.arg(name="list")] = False
    """List the recipes with the paper's claims."""
    as_json: Json = False

    def __call__(self) -> None:
        """Measure the missing cells, and write the results."""
        from lorae.paper.queue import Queue, unique
        from lorae.paper.recipe import Plan
        from lorae.paper.recipes import RECIPES
        from lorae.paper.results import write, write_page
        from lorae.paper.scales import SCALES

        if self.list_all or not self.names:
            self._list()
            return
        self._check(tuple(SCALES))
        plan = Plan(SCALES[self.scale], tuple(range(self.seeds)), self.protocol)
        selected = [RECIPES[name] for name in self._select(tuple(RECIPES))]
        recipes = [recipe for recipe in selected if self.protocol in recipe.protocols]
        if not recipes:
            names = ", ".join(self.names)
            raise InputError(f"protocol must be 'lorae' for {names}, got {self.protocol!r}")
        cells = list(unique(cell for recipe in recipes for cell in recipe.cells(plan).values()))
        queue = Queue(self.work)
        if not self.only_write:
            self._measure(queue, cells)
        if self.only_work:
            return
        written = [write(self.out, recipe, plan, queue) for recipe in recipes]
        page = write_page(self.out)
        if self.as_json:
            print_answer({"page": str(page), "results": [str(path) for path in written]})
        else:
            print_answer(f"{queue.done(cells)} of {len(cells)} cells measured; written to {page}")

    def _list(self) -> None:
        from lorae.paper.recipes import RECIPES

        if self.as_json:
            keys = ("name", "title", "claim")
            print_answer([{key: getattr(one, key) for key in keys} for one in RECIPES.values()])
            return
        width = max(map(len, RECIPES))
        for name, recipe in RECIPES.items():
            print_answer(f"{name:{width}}  {recipe.title}\n{'':{width}}  claim: {recipe.claim}")

    def _check(self, scales: Sequence[str]) -> None:
        if self.scale not in scales:
            raise unknown_name("scale", self.scale, scales)
        check_choice("protocol", self.protocol, ("lorae", "authors"))
        check_range("seeds", self.seeds, 1)
        check_range("processes", self.processes, 1)
        check_range("minutes", self.minutes, 0, open_low=True)
        if self.cluster is not None:
            from lorae.paper.cluster import CLUSTERS

            check_choice("cluster", self.cluster, CLUSTERS)
        if self.only_work and self.only_write:
            raise InputError("only_work and only_write must not be given together, got both")

    def _select(self, known: Sequence[str]) -> list[str]:
        for name in self.names:
            if name not in known and name != "all":
                raise unknown_name("recipe", name, (*known, "all"))
        return list(known) if "all" in self.names else list(dict.fromkeys(self.names))

    def _measure(self, queue: "Queue", cells: "Sequence[Cell]") -> None:
        """Measure the cells, with worker processes if there are any, and show progress."""
        from tqdm import tqdm

        bar = tqdm(
            total=len(cells),
            initial=queue.done(cells),
            unit="cell",
            desc=f"{self.scale} scale",
            disable=self.only_work,
            mininterval=_INTERVAL,
        )
        budget = _Budget(self.minutes)
        try:
            with bar, budget:
                if self.processes > 1 or self.cluster is not None:
                    self._watch(queue, cells, bar)
                missing = queue.work(cells, lambda cell, seconds: _show(bar, cell, seconds))
        except (Interrupted, KeyboardInterrupt) as stop:
            if budget.spent:
                print_warning(f"stopped after {self.minutes:g} minutes; the same command resumes")
                return
            if isinstance(stop, Interrupted):
                raise Interrupted(stop.step, stop.signal, "the same command") from None
            raise
        if missing and queue.done(cells) == 0:
            raise InputError("; ".join(missing.values()))
        for why in missing.values():
            print_warning(f"cells were left out: {why}")

    def _watch(self, queue: "Queue", cells: "Sequence[Cell]", bar: "tqdm[None]") -> None:
        """Wait for the workers; afterwards this process measures the cells that are missing."""
        workers = self._workers()
        try:
            while any(worker.poll() is None for worker in workers):
                time.sleep(_INTERVAL)
                bar.update(queue.done(cells) - bar.n)
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait()
        bar.update(queue.done(cells) - bar.n)

    def _workers(self) -> "Sequence[subprocess.Popen[bytes] | Job]":
        """Start workers with the same command, on this machine or on a cluster."""
        command = [sys.executable, "-m", "lorae", "reproduce", *self.names, "--only-work"]
        command += ["--scale", self.scale, "--seeds", str(self.seeds)]
        command += ["--work", str(self.work.absolute()), "--protocol", self.protocol]
        if self.cluster is not None:
            from lorae.paper.cluster import submit

            options = {k: int(v) if v.isdecimal() else v for k, v in self.cluster_options.items()}
            jobs = self.work / "jobs"
            return submit(command, self.processes, jobs, cluster=self.cluster, parameters=options)
        import joblib
        import torch

        threads = max(1, joblib.cpu_count() // self.processes)
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
        gpus = 0 if "CUDA_VISIBLE_DEVICES" in os.environ else torch.cuda.device_count()
        logs = self.work / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        workers = []
        for number in range(self.processes):
            if gpus:
                environment["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
            with (logs / f"worker-{number}.log").open("ab") as file:
                workers.append(
                    subprocess.Popen(  # noqa: S603 - this Python, and options that were checked
                        command, env=environment, stdout=file, stderr=file
                    )
                )
        return workers


class _Budget:
    """A context that is interrupted as by Ctrl-C after some minutes, if there is a limit."""

    def __init__(self, minutes: float | None) -> None:
        self.spent = self.ignored = False
        self.timer = None if minutes is None else threading.Timer(60 * minutes, self._interrupt)

    def _interrupt(self) -> None:
        self.spent = True
        _thread.interrupt_main()

    def __enter__(self) -> Self:
        if self.timer is not None:
            self.ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # by nohup and &
            if self.ignored:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            self.timer.daemon = True
            self.timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _show(bar: "tqdm[None]", cell: "Cell", seconds: float) -> None:
    """Show which cell was measured, and how long it took."""
    bar.update()
    bar.set_postfix_str(f"{cell.label}: {seconds:.0f} s")
