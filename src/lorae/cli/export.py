"""The commands that prepare a trained model for use elsewhere: fold, export."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from lorae.cli.output import print_answer, print_warning
from lorae.cli.parsing import Json, RunFolder
from lorae.errors import InputError, unknown_name
from lorae.utils.text import format_table

if TYPE_CHECKING:
    from lorae.export.folding import Cut
    from lorae.nn.autoencoder import Autoencoder
    from lorae.training.run_folder import Run

TARGETS = ("onnx", "torch", "hub")


@dataclass(frozen=True)
class Fold:
    """Fold M into the networks and cut the latent space to the rank of M."""

    run: tyro.conf.Positional[Path]
    """Run folder of a finished training of a model with a matrix M."""
    out: Path | None = None
    """File of the folded model; folded.safetensors in the run folder by default."""
    threshold: float = 1e-3
    """Keep the directions whose singular value of M exceeds this share of the largest (1e-3 of M
    is 1e-6 of the covariance)."""
    seconds: float = 1.0
    """Approximate seconds to spend on timing each call; 0 skips timing."""
    as_json: Json = False

    def __call__(self) -> None:
        """Fold, cut, write, and compare with the whole model on the test samples."""
        from lorae.training.run_folder import Run, check_output_file

        run = Run.open(self.run)
        out = check_output_file(self.out or run.path / "folded.safetensors")

        from lorae.export.folding import fold_run

        cut, figures = fold_run(run, out, self.threshold, self.seconds)
        if self.as_json:
            print_answer(figures | {"file": str(out)})
        else:
            print_answer(f"{_format_comparison(cut, figures)}\nwritten to {out}")


@dataclass(frozen=True)
class Export:
    """Export a run's model to ONNX, to a PyTorch program, or for the Hugging Face hub."""

    run: RunFolder
    to: str
    """onnx (encoder.onnx, decoder.onnx), torch (encoder.pt2, decoder.pt2 of torch.export), or hub
    (a model repository of the Hugging Face hub, with a model card)."""
    out: Path | None = None
    """A new or empty folder; named after the target in the run folder by default."""
    folded: bool = False
    """Export the folded model of lorae fold instead of the whole one."""
    threshold: float = 1e-3
    """With --folded: as for lorae fold."""
    push: str | None = None
    """With --to hub: upload the folder to this repository, OWNER/NAME (needs pip install
    lorae[hub])."""
    private: bool = False
    """With --push: make a new repository private."""
    license: str | None = None
    """With --to hub: license of the model, by its name on the hub, such as apache-2.0."""
    as_json: Json = False

    def __call__(self) -> None:
        """Export, compare with the model, and print what was written."""
        from lorae.training.run_folder import Run
        from lorae.utils.files import check_new_folder, whole_folder

        self._check()
        run = Run.open(self.run)
        out = self.out or run.path / self.to
        check_new_folder(out)

        from lorae.export.folding import Cut
        from lorae.utils import hub

        model, cut = run.model(), ""
        if self.folded:
            whole, model = model, model.cut(self.threshold)
            cut = str(Cut.of(whole, self.threshold, model.bridge.latent))
        with whole_folder(out) as folder:
            differences = self._write(run, model, cut, folder)
        answer: dict[str, Any] = {
            "folder": str(out),
            "latent": model.bridge.latent,
            "bytes": {path.name: path.stat().st_size for path in sorted(out.iterdir())},
            "largest_difference": differences,
        }
        if self.push is not None:
            answer["address"] = hub.push(out, self.push, private=self.private)
        print_answer(answer if self.as_json else _format_export(answer))

    def _check(self) -> None:
        if self.to not in TARGETS:
            raise unknown_name("target of an export", self.to, TARGETS)
        given = {"push": self.push, "license": self.license, "private": self.private or None}
        for name, value in given.items():
            if value is not None and self.to != "hub":
                raise InputError(f"--{name} needs --to hub, got --to {self.to}")
        if self.private and self.push is None:
            raise InputError("--private needs --push OWNER/NAME")
        if self.push is not None:
            from lorae.utils.hub import check_repository

            check_repository(self.push)

    def _write(self, run: "Run", model: "Autoencoder", cut: str, folder: Path) -> dict[str, float]:
        from lorae.export.model_card import write_repository
        from lorae.export.programs import export_onnx, export_torch
        from lorae.training.options import data_of

        if self.to == "onnx":
            return export_onnx(model, folder)
        if self.to == "torch":
            return export_torch(model, folder)
        try:
            data = data_of(run)
        except InputError as error:
            print_warning(
                f"the model card lacks the picture and the error of the folded model: {error}"
            )
            data = None
        write_repository(
            folder, run, model, data, cut=cut, repository=self.push, license=self.license
        )
        return {}


def _format_comparison(cut: "Cut", figures: dict[str, Any]) -> str:
    whole, folded = figures["whole"], figures["folded"]
    rows = []
    names = {"dimensions of codes": "latent", "parameters": "parameters", "bytes": "bytes"}
    for name, key in names.items():
        a, b = whole[key], folded[key]
        rows.append((name, f"{a:,}", f"{b:,}", f"{b / a:.3f}"))
    if whole["error"] is not None:
        a, b = whole["error"], folded["error"]
        rows.append(("test error", f"{a:.6f}", f"{b:.6f}", f"{b / a:.3f}"))
    for name, row in figures["seconds"].items():
        a, b = (f"{1e3 * row[which]:.3g} ms" for which in ("whole", "folded"))
        rows.append((name, a, b, f"{row['ratio']:.3f}"))
    lines = [format_table(rows, ("", "whole", "folded", "ratio"))]
    if figures["seconds"]:
        import torch

        lines.append(
            f"times: medians of interleaved calls, ratios taken round by round, "
            f"{torch.get_num_threads()} threads"
        )
    last = f"reconstructions differ by at most {figures['largest_difference']:.2g}"
    if figures["rise_of_error"] is not None and not cut.exact:
        last += f"; the test error changes by {100 * figures['rise_of_error']:+.2g} %"
    return "\n".join([*lines, str(cut), last])


def _format_export(answer: dict[str, Any]) -> str:
    rows = []
    for name, size in answer["bytes"].items():
        difference = answer["largest_difference"].get(Path(name).stem)
        note = "" if difference is None else f"differs from the model by at most {difference:.2g}"
        rows.append((f"  {name}", f"{size:,} bytes", note))
    lines = [f"{answer['folder']}: codes of {answer['latent']} dimensions"]
    lines.append(format_table(rows, align="lrl"))
    if "address" in answer:
        lines.append(f"uploaded to {answer['address']}")
    return "\n".join(lines)
