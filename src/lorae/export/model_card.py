"""A trained model as a repository of the Hugging Face hub.

=================== ==========================================================================
`model.safetensors` the model, which `lorae.load` reads, units of the data included
`config.json`       its architecture, options and data
`README.md`         the model card, written from the run
`pictures.png`      for images: test images above their reconstructions, or samples of a GAN
=================== ==========================================================================
"""

import dataclasses
import html
import json
import re
from pathlib import Path
from typing import Any

import jinja2
import torch
from markupsafe import Markup

from lorae.data.datasets import Data
from lorae.linalg import spectral
from lorae.metrics.records import read_evaluation, read_scores
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.bridges.registry import BRIDGES
from lorae.objectives.registry import METHODS
from lorae.report.image_grids import image_grid
from lorae.sampling.registry import density_for
from lorae.training.evaluation import evaluate
from lorae.training.run_folder import Run
from lorae.utils.files import write_atomic, write_json
from lorae.utils.samples import as_float

_COLUMNS = 8  # images in a row of the picture
_VERSIONS = ("lorae", "torch", "python")


def write_repository(
    folder: Path,
    run: Run,
    model: Autoencoder,
    data: Data | None = None,
    *,
    cut: str = "",
    repository: str | None = None,
    license: str | None = None,  # noqa: A002 - the hub's name for it
) -> None:
    """Write a model repository into an existing folder.

    Nothing in it names a folder of this machine.

    Args:
        folder: an existing folder.
        run: the run of the model.
        model: the model, whole or cut.
        data: the data of the run, or None if they are missing.
        cut: a sentence on the cut, empty for the whole model.
        repository: OWNER/NAME, from which the card loads the model.
        license: license of the model by its name on the hub, or None if the author states none.
    """
    assert model.architecture is not None
    options = {name: value for name, value in run.options.items() if value is not None}
    options["data"] = run.about["data"]["name"]  # and not its path
    environment = run.about.get("environment", {})
    versions = {name: environment[name] for name in _VERSIONS if name in environment}
    config = {
        "library_name": "lorae",
        "architecture": dataclasses.asdict(model.architecture),
        "training": options,
        "data": run.about["data"],
        "versions": versions,
    }
    error = None if cut else run.last["test"]["reconstruction"]
    if cut and data is not None:
        error = evaluate(model, data.test).reconstruction
    picture = None
    if data is not None and data.is_image:
        picture = _picture(model, data)
        write_atomic(folder / "pictures.png", picture)
    card = render_card(
        run=run,
        model=model,
        method=METHODS.get(run.options["model"]),
        data=run.about["data"],
        options=options,
        versions=versions,
        error=error,
        thresholds=spectral.THRESHOLDS,
        ranks=_ranks(run),
        scores=read_scores(run),
        protocol=next((part["protocol"] for part in read_evaluation(run).values()), None),
        picture=picture,
        cut=cut,
        repository=repository or "OWNER/NAME",
        license=license,
    )
    model.save(folder / "model.safetensors")
    write_json(folder / "config.json", config)
    write_atomic(folder / "README.md", card.encode())


def render_card(**values: Any) -> str:
    """Return the model card; values appear in it as plain text, whatever characters they hold."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lorae.export"),
        autoescape=True,
        finalize=escape_markdown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"code": _code, "json": _json}
    return environment.get_template("model_card.md.j2").render(values)


def escape_markdown(value: object) -> Markup:
    r"""Return a value as Markdown that renders as its text, without markup of its own.

    Example:
        >>> print(escape_markdown("<b>*a*|b_c"))
        &lt;b&gt;\*a\*\|b\_c
    """
    if isinstance(value, Markup):
        return value
    text = re.sub(r"([\\`*_{}\[\]#|~!$])", r"\\\1", re.sub(r"\s+", " ", str(value)))
    return Markup(html.escape(text, quote=False))  # noqa: S704 - just escaped


def _code(value: object) -> Markup:
    """Return a value as inline code in a table, which holds no markup."""
    text = re.sub(r"\s+", " ", str(value))
    if not re.search(r"[\\`|<>&]", text):
        return Markup(f"`{text}`")  # noqa: S704 - nothing in it is markup
    return Markup(f"<code>{escape_markdown(text)}</code>")  # noqa: S704 - just escaped


def _json(value: object) -> Markup:
    """Return a value as JSON, which is also YAML and Python."""
    text = json.dumps(value, ensure_ascii=False)
    for character in "<>&`":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - quoted by json, and without markup


def _ranks(run: Run) -> dict[str, dict[float, int]]:
    """Return the rank at each threshold of the covariance and, if there is one, of M."""
    test, method = run.last["test"], METHODS.get(run.options["model"])
    spectra = {"covariance of the test codes": test["covariance"]}
    if method is not None and BRIDGES[method.bridge].learns_matrix:
        spectra["matrix M"] = test["matrix"]
    return {
        name: spectral.rank_profile(torch.tensor(sigma, dtype=torch.float64))
        for name, sigma in spectra.items()
    }


@torch.no_grad()
def _picture(model: Autoencoder, data: Data) -> bytes:
    """Return test images above their reconstructions, or random samples, as PNG."""
    if model.inverts:
        x = as_float(data.test[:_COLUMNS])
        images, columns = torch.cat([x, model(x)]), len(x)
    else:
        generator = torch.Generator().manual_seed(0)
        images = model.decode(density_for(model).sample(2 * _COLUMNS, generator))
        columns = _COLUMNS
    return image_grid(data.unit(images), columns, side=max(data.shape[1:]))
