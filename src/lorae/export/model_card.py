"""A trained model as the folder that the Hugging Face hub knows as a model repository.

=================== ==========================================================================
`model.safetensors` the model, which `lorae.load` reads, units of the data included
`config.json`       how it was built and trained
`README.md`         the model card, written from the run: what the hub shows, for people
`pictures.png`      for images: test images above their reconstructions, or samples of a GAN
=================== ==========================================================================
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorae.data.datasets import Data
from lorae.linalg import spectral
from lorae.metrics import evaluations
from lorae.nn.autoencoder import BRIDGES, Autoencoder
from lorae.objectives.registry import METHODS, Method
from lorae.report.image_grids import image_grid
from lorae.sampling.densities import density_for
from lorae.training.evaluation import evaluate
from lorae.training.run_folder import Run
from lorae.utils.files import write_atomic, write_json
from lorae.utils.samples import as_float

_SHOWN = 8  # images in a row of the picture
_TOLD = ("lorae", "torch", "python")  # of the environment

PAPER = """@inproceedings{mazumder2024lorae,
  title     = {Learning Low-Rank Latent Spaces with Simple Deterministic Autoencoder:
               Theoretical and Empirical Insights},
  author    = {Mazumder, Alokendu and Baruah, Tirthajit and Kumar, Bhartendu and
               Sharma, Rishab and Pattanaik, Vishwajeet and Rathore, Punit},
  booktitle = {IEEE/CVF Winter Conference on Applications of Computer Vision (WACV)},
  year      = {2024}
}"""


@dataclass(frozen=True)
class Card:
    """What a model repository says of a model.

    Args:
        run: where the model comes from.
        model: the model, whole or cut.
        data: of the run, None where they are no longer to be had.
        cut: a sentence on what was cut, empty for the whole model.
        repository: the name by which the model will be loaded.
        license: of the model, a name that the hub knows; None where its author states none.
    """

    run: Run
    model: Autoencoder
    data: Data | None = None
    cut: str = ""
    repository: str = "OWNER/NAME"
    license: str | None = None

    def write(self, folder: Path) -> None:
        """Write the repository into an existing folder."""
        self.model.save(folder / "model.safetensors")
        write_json(folder / "config.json", self.config())
        picture = self._picture()
        if picture is not None:
            write_atomic(folder / "pictures.png", picture)
        write_atomic(folder / "README.md", self.text(pictured=picture is not None).encode())

    def config(self) -> dict[str, Any]:
        """Return what `config.json` holds: nothing of it tells of the machine's folders."""
        assert self.model.architecture is not None
        return {
            "library_name": "lorae",
            "architecture": dataclasses.asdict(self.model.architecture),
            "training": self._options(),
            "data": self.run.about["data"],
            "versions": self._versions(),
        }

    def text(self, *, pictured: bool) -> str:
        """Return the model card, its header in YAML."""
        parts = [
            f"---\n{_yaml(self.header())}---",
            f"# {self._title()}",
            self._summary(),
            f"![{self._caption()}](pictures.png)" if pictured else "",
            f"## How to use it\n\n{self._usage()}",
            f"## Error and rank\n\n{self._figures()}",
            self._scores(),
            f"## Training\n\n{self._training()}",
            f"## Licence and citation\n\n{self._licence()}",
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def header(self) -> dict[str, Any]:
        """Return the fields that the hub reads."""
        name = self._name
        fields: dict[str, Any] = {
            "library_name": "lorae",
            "tags": ["autoencoder", "dimension-reduction", "low-rank", self._model],
        }
        if self.license is not None:
            fields["license"] = self.license
        error = self._error
        if error is not None:
            metric = {"type": "mse", "name": "reconstruction error, test, scaled units"}
            result = {
                "task": {"type": "feature-extraction"},
                "dataset": {"type": name, "name": name},
                "metrics": [metric | {"value": error}],
            }
            fields["model-index"] = [{"name": self._title(), "results": [result]}]
        return fields

    @property
    def _model(self) -> str:
        return str(self.run.options["model"])

    @property
    def _name(self) -> str:
        return str(self.run.about["data"]["name"])

    def _title(self) -> str:
        return f"{self._model} on {self._name}"

    @cached_property
    def _error(self) -> float | None:
        """The test error of this very model, None if it has none or that cannot be measured."""
        if not self.cut:
            error: float | None = self.run.last["test"]["reconstruction"]
            return error
        return None if self.data is None else evaluate(self.model, self.data.test).reconstruction

    @property
    def _row(self) -> Method | None:
        """What is known of the model's method; nothing of one that was added to another session."""
        return METHODS.get(self._model)

    def _summary(self) -> str:
        about = self.run.about["data"]
        size = " × ".join(map(str, about["shape"]))
        row = self._row
        what = "" if row is None else f"**{self._model}**: {row.summary} ({row.reference})."
        return (
            f"{what} It maps samples of shape {size} to codes of {self.model.bridge.latent} "
            f"dimensions and back, in the units of the data. Trained with "
            f"the package lorae on {about['train']:,} samples of "
            f"{self._name} (checksum `{about['checksum'][:16]}`); {about['test']:,} were held out."
        ).strip()

    def _caption(self) -> str:
        if self.model.inverts:
            return "Test images, and below each what the model makes of it"
        return "Samples"

    def _usage(self) -> str:
        shape = ", ".join(map(str, self.run.about["data"]["shape"]))
        encode = "z = model.encode(x)  # codes\nx = model.decode(z)  # and back"
        if not self.model.inverts:
            latent = self.model.bridge.latent
            encode = f"x = model.decode(torch.randn(5, {latent}))  # samples: it has no encoder"
        lines = f'import torch\nimport lorae\n\nmodel = lorae.load("{self.repository}")\n'
        return (
            f"```\npip install lorae[hub]\n```\n\n```python\n{lines}"
            f"x = torch.rand(5, {shape})  # samples in the units of the data{self._range()}\n"
            f"{encode}\n```\n\nFor a copy of this folder, give `lorae.load` its path. "
            "The weights are safetensors; no pickle is read."
        )

    def _range(self) -> str:
        assert self.model.architecture is not None
        bounds = self.model.architecture.value_range
        return "" if bounds is None else f", {bounds[0]:g} to {bounds[1]:g}"

    def _figures(self) -> str:
        test = self.run.last["test"]
        spectra = {"covariance of the test codes": test["covariance"]}
        if self._row is not None and BRIDGES[self._row.bridge].learns_matrix:
            spectra["matrix M"] = test["matrix"]
        rows = [["rank at", *(f"{t:.0e}" for t in spectral.THRESHOLDS)]]
        for name, sigma in spectra.items():
            profile = spectral.rank_profile(torch.tensor(sigma, dtype=torch.float64))
            rows.append([name, *map(str, profile.values())])
        return (
            f"{self._told_error()}\n\n{_table(rows)}\n\nA rank is the number of singular values "
            f"above that share of the largest, of {len(test['covariance'])} in the model as it was "
            f"trained. {_sentence(self.cut)}"
        ).strip()

    def _told_error(self) -> str:
        if self._error is not None:
            return (
                "Mean squared reconstruction error over all elements of "
                f"{self.run.about['data']['test']:,} test samples, in scaled units: "
                f"**{self._error:.6f}**."
            )
        if not self.model.inverts:
            return "The model has no encoder, so it has no reconstruction error."
        return "The error after cutting was not measured: the data were not at hand."

    def _scores(self) -> str:
        scores = evaluations.scores_of(self.run)
        if not scores:
            return ""
        rows = [["part", "score", "of", "mean ± 95 % interval"]]
        rows += [[s.part, s.name, s.of or "-", str(s.interval)] for s in scores]
        protocols = next(iter(evaluations.recorded(self.run).values()))["protocol"]
        told = ", ".join(
            f"{name} {protocols[name]}" for name in ("samples", "compared", "seeds", "extractor")
        )
        whole = " They are those of the model before it was cut." if self.cut else ""
        return f"## Evaluation\n\n{_table(rows)}\n\nBy `lorae evaluate`: {told}.{whole}"

    def _training(self) -> str:
        rows = [["option", "value"]]
        rows += [[f"`{name}`", f"`{value}`"] for name, value in self._options().items()]
        versions = ", ".join(f"{name} {version}" for name, version in self._versions().items())
        warned = "".join(f"\n\nWarning of the run: {one}." for one in self.run.warnings)
        return f"{_table(rows)}\n\n{self.run.last['step']:,} steps, with {versions}.{warned}"

    def _licence(self) -> str:
        told = (
            "The author of this model has stated no licence for it."
            if self.license is None
            else f"The model: {self.license}."
        )
        return (
            f"{told} The package lorae is licensed under Apache-2.0. If you use the method, "
            f"cite\n\n```bibtex\n{PAPER}\n```"
        )

    def _options(self) -> dict[str, Any]:
        """Return the options of training, data by their name and not by their place."""
        return {n: v for n, v in self.run.options.items() if v is not None} | {"data": self._name}

    def _versions(self) -> dict[str, str]:
        known: Mapping[str, str] = self.run.about.get("environment", {})
        return {name: known[name] for name in _TOLD if name in known}

    @torch.no_grad()
    def _picture(self) -> bytes | None:
        if self.data is None or len(self.data.shape) != 3:
            return None
        side = max(self.data.shape[1:])
        if not self.model.inverts:
            density, generator = density_for(self.model), torch.Generator().manual_seed(0)
            shown = self.data.unit(self.model.decode(density.sample(2 * _SHOWN, generator)))
        else:
            x = as_float(self.data.test[:_SHOWN])
            rows: list[Tensor] = [self.data.unit(x), self.data.unit(self.model(x))]
            shown = torch.cat(rows)
        return image_grid(shown, min(_SHOWN, len(self.data.test)), side=side)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *others = rows
    lines = [head, ["---"] * len(head), *others]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _yaml(fields: Mapping[str, Any]) -> str:
    """Return fields as YAML, of which JSON is a part."""
    return "".join(f"{name}: {json.dumps(v, ensure_ascii=False)}\n" for name, v in fields.items())
