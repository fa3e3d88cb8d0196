"""Folding: cut a run's model to the rank of its matrix M, and compare it with the whole model."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorae.nn.autoencoder import Autoencoder
from lorae.training.evaluation import evaluate
from lorae.training.options import data_of
from lorae.training.run_folder import Run
from lorae.utils.samples import as_float

BATCHES = (1, 1000)
"""Batch sizes at which speed is measured."""

ROUNDS = 5
"""Minimum number of rounds of a timing."""


@dataclass(frozen=True)
class Cut:
    """The part of a model's matrix M that cutting it at a threshold keeps."""

    threshold: float  # relative to the largest singular value
    rank: int  # number of singular values kept
    latent: int  # number of all singular values
    largest: float  # the largest singular value cut, as a share of the largest of all

    @classmethod
    def of(cls, model: Autoencoder, threshold: float, rank: int) -> "Cut":
        """Return the cut of a model to a rank."""
        sigma = torch.linalg.svdvals(model.bridge.matrix().detach().double().cpu())
        share = float(sigma[rank] / sigma[0]) if rank < len(sigma) and sigma[0] > 0 else 0.0
        return cls(threshold, rank, len(sigma), share)

    @property
    def exact(self) -> bool:
        """Whether the singular values cut are zeros, up to rounding in float32."""
        return self.largest <= self.latent * torch.finfo(torch.float32).eps

    def __str__(self) -> str:
        """Return one sentence."""
        return (
            f"rank of M at {self.threshold:.0e} of its largest singular value: {self.rank} of "
            f"{self.latent}; the rank is {'exact' if self.exact else 'not exact'}: the largest one "
            f"cut is {self.largest:.1e} of the largest"
        )


def fold_run(
    run: Run, out: Path, threshold: float = 1e-3, seconds: float = 1.0
) -> tuple[Cut, dict[str, Any]]:
    """Write the folded model of a run, and compare it with the whole one on the test samples.

    Args:
        run: a finished run of a model with a matrix M.
        out: the file to write.
        threshold: as in :meth:`lorae.nn.autoencoder.Autoencoder.cut`.
        seconds: approximate time spent on each call; 0 skips the measurement of speed.

    Returns:
        The cut, and as values that JSON can hold: dimensions, parameters, bytes and test error of
        the "whole" and the "folded" model, the largest difference of their reconstructions in the
        units of the data, the relative rise of the test error, and the seconds of calls.

    Raises:
        InputError: if the run has not ended, its model has no M, or its data are missing.
    """
    data, whole = data_of(run), run.model()
    folded = whole.cut(threshold)
    folded.save(out)
    files = {"whole": run.path / "model.safetensors", "folded": out}
    models = {"whole": whole, "folded": folded}
    figures: dict[str, Any] = {
        name: {
            "latent": model.bridge.latent,
            "parameters": sum(p.numel() for p in model.parameters()),
            "bytes": files[name].stat().st_size,
            "error": evaluate(model, data.test).reconstruction,
        }
        for name, model in models.items()
    }
    x = as_float(data.test[:1000])
    with torch.no_grad():
        difference = float((folded(x) - whole(x)).abs().max())
    before, after = figures["whole"]["error"], figures["folded"]["error"]
    cut = Cut.of(whole, threshold, folded.bridge.latent)
    return cut, figures | {
        "largest_difference": difference,
        "rise_of_error": None if before is None else after / before - 1,
        "rank": vars(cut) | {"exact": cut.exact},
        "seconds": compare_speed(models, data.test, seconds) if seconds > 0 else {},
    }


def compare_speed(
    models: Mapping[str, Autoencoder], samples: Tensor, seconds: float
) -> dict[str, dict[str, float]]:
    """Return the median seconds in which models encode and decode batches of samples.

    The ratio is the median of those of the last model to the first; each call takes about as many
    seconds as are given.
    """
    first, *_, last = models
    rows: dict[str, dict[str, float]] = {}
    for size in BATCHES:
        x = as_float(samples[torch.arange(size) % len(samples)])
        with torch.no_grad():
            codes = {name: model.encode(x) for name, model in models.items()}
        for method in ("encode", "decode"):
            calls = {
                name: partial(getattr(model, method), x if method == "encode" else codes[name])
                for name, model in models.items()
            }
            times = time_interleaved(calls, seconds)
            row = {name: statistics.median(each) for name, each in times.items()}
            row["ratio"] = median_ratio(times[last], times[first])
            rows[f"{method} {size:,}"] = row
    return rows


def time_interleaved(
    calls: Mapping[str, Callable[[], object]], seconds: float = 2.0
) -> dict[str, list[float]]:
    """Return the seconds of each call in every round.

    Each function is called once before timing starts, then once a round. The order rotates from
    round to round, so that a temporary slowdown of the machine affects all of them equally.

    Args:
        calls: functions by name, which must wait for their own work on an accelerator.
        seconds: approximate total time; there are at least `ROUNDS` rounds.

    Example:
        >>> times = time_interleaved({"a": lambda: 1, "b": lambda: 2}, seconds=0)
        >>> {name: len(each) for name, each in times.items()}
        {'a': 5, 'b': 5}
    """
    order = list(calls)
    times: dict[str, list[float]] = {name: [] for name in order}
    with torch.inference_mode():
        for call in calls.values():
            call()
        start = time.perf_counter()
        while len(times[order[0]]) < ROUNDS or time.perf_counter() - start < seconds:
            for name in order:
                start_call = time.perf_counter()
                calls[name]()
                times[name].append(time.perf_counter() - start_call)
            order = [*order[1:], order[0]]
    return times


def median_ratio(times: Sequence[float], reference: Sequence[float]) -> float:
    """Return the median, over rounds, of the ratio of two times.

    Example:
        >>> median_ratio([1.0, 4.0, 3.0], [2.0, 2.0, 6.0])
        0.5
    """
    return statistics.median(a / b for a, b in zip(times, reference, strict=True))
