"""The commands that show what a training has found: spectrum, report, explore."""

import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from lorae.cli.output import print_answer, print_warning
from lorae.cli.parsing import Json, RunFolder
from lorae.cli.path import FILE as PATH_FILE
from lorae.cli.path import PathCommand, read_options
from lorae.errors import InputError
from lorae.sampling.registry import check_density
from lorae.utils.text import format_table

if TYPE_CHECKING:
    from lorae.estimator.estimator import LowRankAutoencoder
    from lorae.training.evaluation import Evaluation


@dataclass(frozen=True)
class Spectrum:
    """Print the rank of a run's latent space by every definition."""

    run: RunFolder
    as_json: Json = False

    def __call__(self) -> None:
        """Evaluate the model on the test samples of its data."""
        from lorae.training.run_folder import Run

        run = Run.open(self.run)

        from lorae.training.evaluation import evaluate, ranks
        from lorae.training.options import data_of

        model = run.model()
        found = evaluate(model, data_of(run).test)
        answer = ranks(found, matrix=model.bridge.learns_matrix)
        print_answer(answer if self.as_json else _format_ranks(found, answer))


@dataclass(frozen=True)
class Report:
    """Write an HTML report on one or several runs, as a single file that opens offline.

    A folder of runs, such as a sweep or the demo, stands for all finished runs in it. Files and
    folders without finished runs are skipped, so that `lorae report runs/*` works.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of finished trainings, or the file of one saved estimator."""
    data: str | None = None
    """Samples to show for an estimator: a name, a folder or zip of images, or a .npy, .npz, .csv or
    .parquet file; a column named label colours the map. By default, its training codes."""
    out: Path | None = None
    """File to write; by default report.html in the first run's folder, or beside an estimator."""
    open: bool = False
    """Open the report in the browser."""

    def __call__(self) -> None:
        """Write the report and print its path."""
        if not self.runs:
            raise InputError("runs must be at least one run folder, got none")
        from lorae.training.run_folder import check_output_file, find_runs

        if len(self.runs) == 1 and _is_estimator(self.runs[0]):
            (file,) = self.runs
            out = check_output_file(self.out or file.with_name("report.html"))
            from lorae.report.estimator_report import write_estimator_report

            estimator, samples, labels = _load_estimator(file, self.data)
            write_estimator_report(estimator, out, samples, labels, file.stem)
        else:
            _check_no_data(self.data)
            runs, skipped = find_runs(self.runs)
            for reason in skipped:
                print_warning(reason)
            out = check_output_file(self.out or runs[0].path / "report.html")
            from lorae.report.report import write_report

            write_report(runs, out)
        _print_page(out, open_it=self.open)


@dataclass(frozen=True)
class Explore:
    """Write an HTML page that shows a latent space and decodes in the browser, offline."""

    run: tyro.conf.Positional[Path]
    """Run folder of a finished training, folder of `lorae path`, or the file of a saved
    estimator."""
    data: str | None = None
    """Samples to show for an estimator; by default, decoded codes of its training samples."""
    out: Path | None = None
    """File to write; explorer.html in the run folder by default."""
    density: str | None = None
    """Density of random draws: gaussian, mixture-4, mixture-10, mixture-auto, flow or prior; by
    default the prior if the model has one, else gaussian."""
    open: bool = False
    """Open the page in the browser."""

    def __call__(self) -> None:
        """Write the page and print its path."""
        check_density(self.density)
        from lorae.training.run_folder import Run, check_output_file

        if _is_estimator(self.run):
            if self.density is not None:
                raise InputError("density must be left to the estimator, which has its own")
            from lorae.report.explorer import explore

            estimator, samples, labels = _load_estimator(self.run, self.data)
            out = self.out or self.run.with_name("explorer.html")
            explore(estimator, out, samples=samples, labels=labels)
        elif (self.run / PATH_FILE).is_file():
            _check_no_data(self.data)
            if self.density is not None:
                raise InputError("density must be left out for a path")
            from lorae.report.rank_paths import explore_path

            out = check_output_file(self.out or self.run / "explorer.html")
            explore_path(self.run, PathCommand(**read_options(self.run)).load(), out)
        else:
            _check_no_data(self.data)
            run = Run.open(self.run)
            out = check_output_file(self.out or run.path / "explorer.html")
            from lorae.report.explorer import explore_run

            explore_run(run, out, density=self.density)
        _print_page(out, open_it=self.open)


def _is_estimator(path: Path) -> bool:
    if not path.is_file():
        return False
    from lorae.estimator.serialization import holds_estimator

    return holds_estimator(path)


def _load_estimator(
    file: Path, source: str | None
) -> "tuple[LowRankAutoencoder, Any, list[Any] | None]":
    """Return a saved estimator, the samples of a source and their labels, None without any."""
    from lorae.cli.samples import read_for
    from lorae.data.options import ReadOptions
    from lorae.estimator.estimator import LowRankAutoencoder

    estimator = LowRankAutoencoder.load(file)
    if source is None:
        return estimator, None, None
    samples, about, _ = read_for(estimator, source, ReadOptions())
    return estimator, samples, about["label"].to_list() if "label" in about.columns else None


def _check_no_data(data: str | None) -> None:
    if data is not None:
        raise InputError("data must be left to the runs, which have their own")


def _print_page(path: Path, *, open_it: bool) -> None:
    print_answer(str(path))
    if open_it and not webbrowser.open(path.resolve().as_uri()):
        print_warning(f"no browser found to open {path}")


def _format_ranks(found: "Evaluation", answer: dict[str, Any]) -> str:
    """Return the ranks of an evaluation as text, with a column for M if the model learns one."""
    from lorae.training.evaluation import note_rank_bound

    columns = {"covariance of codes": answer["covariance"], "matrix M": answer["matrix"]}
    columns = {title: column for title, column in columns.items() if column is not None}
    parts = list(columns.values())
    rows = [
        (f"  {threshold} of the largest", *(part["rank"][threshold] for part in parts))
        for threshold in answer["covariance"]["rank"]
    ]
    for name in ("effective_rank", "participation_ratio", "stable_rank"):
        values = [f"{part[name]:.2f}" if name in part else "" for part in parts]
        if any(values):
            rows.append((name.replace("_", " "), *values))
    lines = [
        format_table(rows, ("singular values above", *columns)),
        f"latent dimension {len(found.covariance)}; codes of {found.samples} test samples",
        *note_rank_bound(found.samples, len(found.covariance)),
    ]
    if found.reconstruction is None:
        lines.append("no reconstruction: the codes are the features of a critic")
    else:
        lines.append(f"reconstruction error {found.reconstruction:.6f} (mean square, scaled units)")
    if found.spread is not None:
        lines.append(f"variance of samples from the prior {found.spread:.4f} of the data's")
    return "\n".join([*lines, *(f"warning: {warning}" for warning in found.warnings)])
