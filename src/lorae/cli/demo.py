"""The demo: a plain autoencoder and low-rank ones on real images, in a minute or two."""

import dataclasses
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorae.cli.output import print_answer, print_warning

if TYPE_CHECKING:
    from lorae.training.options import Options

MODELS: dict[str, dict[str, Any]] = {
    "ae": {},
    "lorae": {"weight": 1e-5},
    "lorae-proximal": {"weight": 1e-5},
}
"""The models of the demo, and their weights, chosen on a part of the training images."""
LENGTHS = {"lorae": 5 / 3, "lorae-proximal": 5 / 3}
"""Lengths of training relative to the plain autoencoder: with M, networks begin to learn later."""


@dataclass(frozen=True)
class Demo:
    """Train a plain and two low-rank autoencoders on MNIST; write a report and an explorer."""

    out: Path | None = None
    """Folder of the runs: a new one, or that of an interrupted demo; runs/demo by default."""
    data: str = "mnist"
    """Data set; shapes is used instead of one that cannot be downloaded."""
    steps: int = 1500
    """Optimizer steps; the low-rank models take five thirds as many."""
    width: float = 0.25
    """Factor on the hidden widths of the networks, which are fully connected."""
    seed: int = 0
    """Seed of weights and batches."""

    def __call__(self) -> None:
        """Train, print the command of each run and the table, and write the two pages."""
        from lorae.report.explorer import explore_run
        from lorae.report.report import write_report
        from lorae.training.evaluation import summary
        from lorae.training.run_folder import Run, free_folder
        from lorae.training.train import train

        folder = self.out or free_folder("demo")
        common = self._options()
        runs = []
        for model, changes in MODELS.items():
            steps = round(LENGTHS.get(model, 1) * self.steps)
            options = dataclasses.replace(common, model=model, steps=steps, **changes)
            path = folder / model
            print_answer(command(options, path))
            runs.append(train(options, path, resume=Run(path).exists))
        last = runs[-1].path
        explorer = explore_run(runs[-1], last / "explorer.html")
        report = write_report(runs, folder / "report.html")
        lines = [
            summary(runs),
            f"report: {report.resolve()}",
            f"explorer: {explorer.resolve()}",
            "next:",
            f"  {program()} evaluate {quote(last)}  # samples, probes, dimension",
            f"  {program()} train --data FOLDER --model lorae-proximal  # images, or a table",
            f"  {program()} path --data digits  # the error at each rank, beside PCA's",
        ]
        print_answer("\n".join(lines))

    def _options(self) -> "Options":
        from lorae.data.downloads import Unreachable
        from lorae.training.options import Options

        options = Options(
            data=self.data,
            network="mlp",  # learns several times faster on a CPU than the paper's convolutions
            width=self.width,
            steps=self.steps,
            learning_rate=1e-3,
            ema=0.98,  # single steps of so short a training differ much
            evaluate_every=max(1, self.steps // 10),
            probe=1000,
            seed=self.seed,
        )
        try:
            options.load()
        except Unreachable as error:
            print_warning(f"{error}; using shapes instead")
            return dataclasses.replace(options, data="shapes")
        return options


def command(options: "Options", out: Path) -> str:
    """Return the command that trains a model with options into a run folder."""
    words = [program(), "train", "--data", shlex.quote(options.data), "--model", options.model]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        default = {} if field.name == "settings" else field.default
        if field.name in ("data", "model") or value == default:
            continue
        words.append(f"--{field.name.replace('_', '-')}")
        pairs = value.items() if isinstance(value, dict) else [(value,)]
        words += [str(word) for pair in pairs for word in pair]
    return " ".join([*words, "--out", quote(out)])


def program() -> str:
    """Return how to start `lorae` from this shell."""
    if shutil.which("lorae"):
        return "lorae"
    return f"{quote(Path(os.path.relpath(sys.executable)))} -m lorae"


def quote(path: Path) -> str:
    """Return a path as a word of a command."""
    return shlex.quote(str(path))
