"""A path over ranks: its plot above a reconstruction by each model, and its explorer."""

from pathlib import Path
from typing import Any

import torch

from lorae.data.datasets import Data
from lorae.errors import InputError
from lorae.estimator.path import RankPath, SeededPath
from lorae.nn.serialization import load
from lorae.report.explorer import write_explorer
from lorae.report.sample_grids import draw_samples
from lorae.utils.plots import Svg, plot_images, stack_plots
from lorae.utils.records import read_record
from lorae.utils.samples import as_float, subsample

_SHOWN, _SIDE = 3, 96  # test samples below the plot, and the width of those that are signals
_TRAINING = 5000  # training samples of an explorer, at most


@torch.no_grad()
def plot_path(path: RankPath | SeededPath, data: Data) -> Svg:
    """Return the plot of a path above test samples and their reconstructions at each rank.

    The samples of a table have no picture, so its plot stands alone. Of several seeds, the
    reconstructions are those of the first.
    """
    if data.is_table:
        return Svg(path.plot())
    points = (path if isinstance(path, RankPath) else path.paths[0]).points[::-1]
    samples = as_float(subsample(data.test, _SHOWN, 0))
    shown = [samples, *(point.model(samples) for point in points)]
    pictures = torch.stack([draw_samples(part, data, _SIDE) for part in shown], 1).clamp(0, 1)
    names = ["data", *(str(point.rank) for point in points)]
    images = plot_images(pictures.numpy(), [""] * len(samples), names, title="Test samples by rank")
    return Svg(stack_plots([path.plot(), images]))


def explore_path(folder: Path, data: Data, out: Path) -> Path:
    """Write the explorer of the model at the knee of a path, and return its path.

    Without a knee it is the model of the least error. Of several seeds, it is of the first.

    Args:
        folder: that `lorae path` has written.
        data: the data of the path.
        out: the HTML file, replaced if it exists.

    Raises:
        InputError: if the path has not ended, or is one of other data.
    """
    if not (folder / "path.json").is_file():
        raise InputError(f"the path in {str(folder)!r} has not ended: it holds no path.json")
    about = read_record(folder / "path.json", dict[str, Any])
    if about["data"] != data.checksum:
        raise InputError(f"the data of the path in {str(folder)!r} have changed")
    models = folder
    if "paths" in about:
        models = folder / f"seed-{about['seeds'][0]}"
        about = about["paths"][0]
    errors = {point["rank"]: point["error"] for point in about["points"]}
    rank = about["knee"] or min(errors, key=lambda one: errors[one])
    labels, value_range = data.test_labels, None
    if data.value_range is not None:
        low, high = (
            end * data.scale.flatten()[0] + data.shift.flatten()[0] for end in data.value_range
        )
        value_range = float(low), float(high)
    return write_explorer(
        out,
        load(models / f"rank-{rank:03}.safetensors"),
        data.test,
        labels=labels if labels is not None and labels.ndim == 1 else None,
        columns=data.columns,
        training=as_float(subsample(data.train, _TRAINING, 0)),
        errors_by_rank=list(errors.items()),
        value_range=value_range if data.is_image else None,
        title=f"{data.name} at rank {rank}",
    )
