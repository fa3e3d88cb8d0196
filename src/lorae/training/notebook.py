"""A run in a notebook: its figures and its spectrum, from the run folder alone."""

import base64
import html

from lorae.errors import InputError
from lorae.training.run_folder import Run
from lorae.utils.plots import Curve, plot_curves


def run_html(run: Run) -> str:
    """Return a summary of a run as HTML: figures in a table, error and spectrum as a picture.

    A run that is damaged or missing is described in a sentence.
    """
    try:
        rows, plots = _figures(run), _plots(run)
    except InputError as error:
        return f"<p>{html.escape(str(error))}</p>"
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in rows.items()
    )
    pictures = "".join(
        f"<img style='background:white' alt='{alt}' "
        f"src='data:image/svg+xml;base64,{base64.b64encode(plot).decode()}'>"
        for alt, plot in plots.items()
    )
    return f"<table>{cells}</table>{pictures}"


def _figures(run: Run) -> dict[str, str]:
    lines = run.metrics()
    rows = {
        "run": str(run.path),
        "model": str(run.options["model"]),
        "data": str(run.about["data"]["name"]),
        "state": "finished" if run.finished else "stopped",
    }
    if lines:
        test = lines[-1]["test"]
        error = test["reconstruction"]
        rows["step"] = f"{lines[-1]['step']:,} of {run.options['steps']:,}"
        rows["test error"] = "none" if error is None else f"{error:.4g}"
        rows["rank at 1e-2"] = f"{test['rank']} of {len(test['covariance'])}"
    return rows


def _plots(run: Run) -> dict[str, bytes]:
    lines = run.metrics()
    if not lines:
        return {}
    course = [line for line in lines if line["test"]["reconstruction"] is not None]
    steps = [line["step"] for line in course]
    errors = [line["test"]["reconstruction"] for line in course]
    sigma = lines[-1]["test"]["covariance"]
    shares = [value / max(*sigma, 1e-300) for value in sigma]
    spectrum = [Curve("codes", range(1, len(sigma) + 1), shares)]
    labels = ("index", "singular value / largest")
    return {
        "test error": plot_curves(
            [Curve("test", steps, errors)], ("step", "test error"), log="y", integer="x"
        ),
        "singular values of the codes": plot_curves(
            spectrum, labels, log="y", integer="x", limits=(1e-7, 2), level=1e-2
        ),
    }
