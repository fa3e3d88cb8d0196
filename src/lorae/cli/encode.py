"""The command that writes the codes of data: `lorae encode`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from lorae.cli.output import print_answer
from lorae.cli.parsing import Given
from lorae.data.options import READ_OPTIONS, ReadOptions
from lorae.errors import InputError

if TYPE_CHECKING:
    import numpy as np

_SUFFIXES = (".csv", ".parquet", ".npy")


@dataclass(frozen=True)
class Encode(ReadOptions):
    """Encode a file or folder, such as new data, and write one row of codes for each sample.

    Columns of a table are matched by name with those that the run was trained on. All other columns
    are kept beside the codes, as are the names of image files and the labels of a data set. The
    data are read as those of the run were, unless you give other options.
    """

    run: tyro.conf.Positional[Path] = tyro.MISSING
    """Run folder of a finished training, or the file of a saved model or estimator."""
    data: tyro.conf.Positional[str] = tyro.MISSING
    """Data set: a name, a folder or zip of images, or a .npy, .npz, .csv or .parquet file."""
    out: Path = tyro.MISSING
    """File to write: .csv or .parquet with the kept columns and code_1, code_2, ..., or .npy with
    the codes alone."""
    # What follows is decided by the run.
    value_range: tyro.conf.Suppress[tuple[float, float] | None] = None
    columns: tyro.conf.Suppress[tuple[str, ...]] = ()
    drop: tyro.conf.Suppress[tuple[str, ...]] = ()
    index: tyro.conf.Suppress[str | None] = None
    categories: tyro.conf.Suppress[tuple[str, ...]] = ()
    skip_bad: tyro.conf.Suppress[bool] = False
    drop_constant: tyro.conf.Suppress[bool] = False
    given: Given = frozenset()

    def __call__(self) -> None:
        """Read, encode and write."""
        self.check_reading()
        if self.out.suffix not in _SUFFIXES:
            raise InputError(
                f"out must be a file {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}, got "
                f"{str(self.out)!r}"
            )
        if self.out.resolve() == Path(self.data).resolve():
            raise InputError(f"out must not be the data that are read, got {str(self.out)!r}")

        from lorae.cli.samples import read_for
        from lorae.estimator.loading import load
        from lorae.nn.autoencoder import Autoencoder
        from lorae.training.progress import print_notes
        from lorae.training.run_folder import check_output_file

        out, model = check_output_file(self.out), load(self.run)
        values, about, notes = read_for(model, self.data, self._reading())
        codes = model.encode(values) if isinstance(model, Autoencoder) else model.transform(values)
        _write(out, about, codes)
        print_notes(Path(self.data).name, notes)
        print_answer(f"{codes.shape[1]} codes of {len(codes)} samples in {out}")

    def _reading(self) -> ReadOptions:
        """Return how the data of the run were read, changed by the options that were given."""
        from lorae.training.run_folder import Run

        run = Run(self.run)
        saved = {name: run.options[name] for name in READ_OPTIONS} if run.exists else {}
        given = {name: getattr(self, name) for name in self.given & set(READ_OPTIONS)}
        return dataclasses.replace(ReadOptions.from_keywords(saved), **given)


def _write(out: Path, about: Any, codes: "np.ndarray[Any, Any]") -> None:
    """Write codes, atomically, beside what is known of each sample."""
    import io

    import numpy as np
    import polars as pl

    from lorae.utils.files import write_atomic

    content = io.BytesIO()
    if out.suffix == ".npy":
        np.save(content, codes)
    else:
        names = {f"code_{k + 1}": column for k, column in enumerate(codes.T)}
        if taken := names.keys() & set(about.columns):
            raise InputError(f"data must have no column {min(taken)}, which a code is called")
        frame = pl.DataFrame([*about.get_columns(), *(pl.Series(n, c) for n, c in names.items())])
        (frame.write_csv if out.suffix == ".csv" else frame.write_parquet)(content)
    write_atomic(out, content.getvalue())
