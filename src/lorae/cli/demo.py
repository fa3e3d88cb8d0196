"""The demo: what a low-rank latent space is, seen on real images in a few minutes."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

from lorae.data.cache import Unreachable
from lorae.training.evaluation import summary
from lorae.training.options import Options
from lorae.training.run_folder import Run, free_folder

MODELS = {"ae": None, "lorae": 1e-5, "lorae-scale-free": 6e-3}
"""The models of the demo, and the weight of each one's penalty for its short training."""


@dataclass(frozen=True)
class Demo:
    """Train a plain autoencoder and low-rank ones on MNIST, and write the report."""

    out: Path | None = None
    """Folder for the runs, new or that of a stopped demo; runs/demo by default."""
    data: str = "mnist"
    """Data set; where MNIST cannot be downloaded, shapes."""
    steps: int = 600
    """Optimizer steps for each model."""
    width: float = 0.25
    """Factor on the hidden widths of the paper's networks; 1 is the paper's, and takes longer."""
    seed: int = 0
    """Seed of weights and batches."""

    def __call__(self) -> None:
        """Train, print the table and write the report."""
        from lorae.report.report import write_report

        folder = self.out or free_folder("demo")
        options = self._options()
        runs = [
            self._run(dataclasses.replace(options, model=model, weight=weight), folder)
            for model, weight in MODELS.items()
        ]
        print(summary(runs))
        print(f"report: {write_report(runs, folder / 'report.html').resolve()}")

    def _options(self) -> Options:
        options = Options(
            data=self.data,
            width=self.width,
            steps=self.steps,
            learning_rate=3e-3,
            ema=0.98,  # the last steps of so fast a training differ much from one to the next
            evaluate_every=max(1, self.steps // 10),
            probe=1000,
            seed=self.seed,
        )
        try:
            options.load()
        except Unreachable as error:
            print(f"lorae: {error}; going on with shapes", file=sys.stderr)
            return dataclasses.replace(options, data="shapes")
        return options

    def _run(self, options: Options, folder: Path) -> Run:
        from lorae.training.train import train

        path = folder / options.model
        return train(options, path, resume=Run(path).exists)
