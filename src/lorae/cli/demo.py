"""The demo: a plain autoencoder and low-rank ones on real images, in a few minutes."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorae.cli.output import print_answer, print_warning

if TYPE_CHECKING:
    from lorae.training.options import Options

MODELS: dict[str, dict[str, Any]] = {
    "ae": {},
    "lorae": {"weight": 1e-5},
    "lorae-data-space": {"weight": 3e-3, "settings": {"ramp": 200}},
}
"""The models of the demo, and their options for a short training."""


@dataclass(frozen=True)
class Demo:
    """Train a plain autoencoder and low-rank ones on MNIST, and write the report."""

    out: Path | None = None
    """Folder of the runs, new or that of an interrupted demo; runs/demo by default."""
    data: str = "mnist"
    """Data set; shapes replaces a data set that cannot be downloaded."""
    steps: int = 600
    """Optimizer steps for each model."""
    width: float = 0.25
    """Factor on the hidden widths of the paper's networks; 1 is the paper's, and takes longer."""
    seed: int = 0
    """Seed of weights and batches."""

    def __call__(self) -> None:
        """Train, print the table and write the report."""
        from lorae.report.report import write_report
        from lorae.training.evaluation import summary
        from lorae.training.run_folder import Run, free_folder
        from lorae.training.train import train

        folder = self.out or free_folder("demo")
        options = self._options()
        runs = [
            train(
                dataclasses.replace(options, model=model, **changes),
                folder / model,
                resume=Run(folder / model).exists,
            )
            for model, changes in MODELS.items()
        ]
        print_answer(summary(runs))
        print_answer(f"report: {write_report(runs, folder / 'report.html').resolve()}")

    def _options(self) -> "Options":
        from lorae.data.downloads import Unreachable
        from lorae.training.options import Options

        options = Options(
            data=self.data,
            width=self.width,
            steps=self.steps,
            learning_rate=3e-3,
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
