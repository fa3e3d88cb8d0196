"""Measures: functions of a finished run and settings, whose results JSON can hold.

The registered name and the settings are part of a cell's key. A measure that changes what it
computes needs a new name or another setting.
"""

import base64
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorae.data.datasets import Data
from lorae.linalg import spectral
from lorae.metrics.features import as_bytes, cached_features, extract_features
from lorae.metrics.intrinsic_dimension import relative_contrast
from lorae.metrics.probes import (
    LabelledCodes,
    best_on_test,
    encode_labelled,
    fresh_encoder,
    head,
    labelled_images,
)
from lorae.metrics.protocol import Protocol
from lorae.metrics.scores import compare_features
from lorae.metrics.subject import Subject, build_extractor
from lorae.nn.inference import decode_all, encode_all
from lorae.paper.queue import Result, load_data, measure
from lorae.report.image_grids import image_grid
from lorae.sampling.densities import Density
from lorae.sampling.interpolation import interpolate
from lorae.sampling.registry import FITTED, fit_density
from lorae.training.evaluation import RANK_THRESHOLD
from lorae.training.options import Options
from lorae.training.run_folder import Run
from lorae.utils.intervals import Interval
from lorae.utils.samples import subsample


@measure("spectrum")
def spectrum(run: Run) -> Result:
    """Return error and singular values over all test samples at the end of training."""
    test: Result = run.last["test"]
    return test


@measure("spectra")
def spectra(run: Run) -> Result:
    """Return error and singular values of every evaluation during training, by its step.

    The learning rate is constant, so the state after some steps equals the end of a training of
    that length. The samples are those of the evaluations during training.
    """
    return {str(line["step"]): line["test"] for line in run.metrics() if not line["final"]}


@measure("generation")
def generation(
    run: Run,
    *,
    densities: Sequence[str],
    samples: int,
    extractor: str,
    resize: str = "bicubic",
    precision: str = "float32",
) -> Result:
    """Return the scores of images decoded from densities fitted to training codes.

    The scores compare them with held-out test images.
    """
    data, seed = _data(run), run.options["seed"]
    features = build_extractor(extractor, data, resize, precision=precision)
    subject = Subject(run.model(), data, Protocol(samples=samples), features)
    found: Result = {}
    for name in densities:
        codes = _fit(run.path, name).sample(len(subject.test), _generator(run))
        made = extract_features(features, subject.images(codes), f"{name}, seed {seed}")
        found[name] = compare_features(subject.real_features, made, features)
    return found | {"extractor": features.identity, "images": len(subject.test)}


@measure("real-distances")
def real_distances(
    *,
    data: str,
    samples: int,
    extractor: str,
    resize: str = "bicubic",
    precision: str = "float32",
) -> Result:
    """Return the scores of real test images against as many other test images.

    A model that draws from the distribution of the data would have these scores. They are not 0,
    because the number of images is finite.
    """
    loaded = load_data(Options(data=data))
    features = build_extractor(extractor, loaded, resize, precision=precision)
    images = as_bytes(loaded.unit(subsample(loaded.test, 2 * samples)))
    half = len(images) // 2
    found: Result = compare_features(
        cached_features(features, images[:half], "test images"),
        extract_features(features, images[half : 2 * half], "other test images"),
        features,
    )
    return found | {"extractor": features.identity, "images": half}


@measure("authors-generation")
def authors_generation(
    run: Run,
    *,
    densities: Sequence[str],
    samples: int,
    extractor: str,
    resize: str,
    precision: str = "float32",
) -> Result:
    """Return the scores by the authors' protocol, whose densities are fitted to the real images.

    A density is fitted to the codes of the same images that its samples are compared with: the
    training images of MNIST, the test images of other data. Colours are cast to bytes without
    clipping, so values slightly below 0 become almost 255.
    """
    data, model = _data(run), run.model()
    images = subsample(data.train if data.name == "mnist" else data.test, samples)
    features = build_extractor(extractor, data, resize, precision=precision)
    real = cached_features(features, as_bytes(data.unit(images)), "real images")
    codes = encode_all(model, images)
    found: Result = {"extractor": features.identity, "images": len(images)}
    for name in densities:
        density = fit_density(model, lambda: codes, name)
        new = density.sample(len(images), torch.Generator().manual_seed(run.options["seed"]))
        cast = cast_to_bytes if data.shape[0] == 3 else as_bytes
        made = extract_features(features, cast(data.unit(decode_all(model, new))), name)
        found[name] = compare_features(real, made, features)
    return found


def cast_to_bytes(images: Tensor) -> Tensor:
    """Return images as bytes by a cast without clipping: values are taken modulo 256.

    Example:
        >>> cast_to_bytes(torch.tensor([-0.01, 0.5, 1.01])).tolist()
        [254, 127, 1]
    """
    return (images * 255).trunc().long().remainder(256).to(torch.uint8)


@measure("samples")
def sample_images(run: Run, *, density: str, count: int) -> Result:
    """Return images decoded from a density fitted to training codes, as one PNG in base64."""
    data, model = _data(run), run.model()
    decoded = decode_all(model, _fit(run.path, density).sample(count, _generator(run)))
    return _picture(data.unit(decoded), 4, data)


@measure("interpolation")
def interpolation(run: Run, *, rows: int, steps: int) -> Result:
    """Return straight paths between test images, decoded, as one PNG in base64.

    The pairs are the same for every model of one data set and seed.
    """
    data, model = _data(run), run.model()
    order = torch.randperm(len(data.test), generator=_generator(run))
    codes = encode_all(model, data.test[order[: 2 * rows]])
    paths = interpolate(codes[:rows], codes[rows:], steps)
    images = data.unit(decode_all(model, paths.flatten(0, 1)))
    return _picture(images, steps, data)


@lru_cache(maxsize=2)  # the cells of a run follow each other
def _fit(path: Path, density: str) -> Density:
    """Return a density fitted to the training codes of a finished run."""
    run = Run(path)
    data, model = _data(run), run.model()
    return fit_density(model, lambda: encode_all(model, subsample(data.train, FITTED)), density)


def _picture(images: Tensor, columns: int, data: Data) -> Result:
    png = image_grid(images, columns, side=max(data.shape[1:]))
    return {"png": base64.b64encode(png).decode()}


@measure("distance-ratios")
def distance_ratios(run: Run, *, codes: int, queries: int, levels: Sequence[float]) -> Result:
    """Return quantiles of the min-max distance ratio of test codes to training codes.

    The numbers of codes and queries are maxima; the levels of the quantiles are 0 to 1.
    """
    data, model = _data(run), run.model()
    near, far = (
        encode_all(model, subsample(samples, count))
        for samples, count in ((data.train, codes), (data.test, queries))
    )
    ratios = relative_contrast(near, far)
    quantiles = ratios.quantile(torch.tensor(list(levels), dtype=torch.float64)).tolist()
    sigma = spectral.singular_values(model.bridge.matrix().detach())
    return {
        "quantiles": {str(level): q for level, q in zip(levels, quantiles, strict=True)},
        "rank": int(spectral.rank(sigma, RANK_THRESHOLD)),
    }


@measure("head-accuracy")
def classification(run: Run, *, labels: Sequence[int], draws: int, epochs: int) -> Result:
    """Return the test accuracy, in percent, of the paper's head on frozen codes M E(x).

    It is the mean over random choices of the labelled samples, all of which train the head.

    Numbers of labels above that of the data are left out.
    """
    codes = encode_labelled(run.model(), _data(run))
    return _accuracies(codes, partial(head, epochs=epochs), labels, run.options["seed"], draws)


@measure("authors-head-accuracy")
def authors_classification(run: Run, *, labels: Sequence[int], epochs: int) -> Result:
    """Return the accuracy of :func:`classification` by the protocol of the authors' code.

    The head reads the encoder's output E(x) before M, of a VAE the mean, without standardization.
    It is trained on the first images of the training set, and the accuracy is the highest on the
    test set over the epochs.
    """
    codes = encode_labelled(run.model(), _data(run), "encoder", standardize=False)
    return _accuracies(codes, partial(best_on_test, epochs=epochs), labels, run.options["seed"])


@measure("supervised-accuracy")
def supervised_classification(
    *, options: dict[str, Any], labels: Sequence[int], draws: int, epochs: int
) -> Result:
    """Return the accuracy of an encoder and a head trained together on labelled samples only.

    The options are those of a training, which is not run; they define the encoder.
    """
    codes, encoder = _supervised(options)
    probe = partial(head, encoder=encoder, epochs=epochs)
    return _accuracies(codes, probe, labels, options["seed"], draws)


@measure("authors-supervised-accuracy")
def authors_supervised_classification(
    *, options: dict[str, Any], labels: Sequence[int], epochs: int
) -> Result:
    """Return the accuracy of :func:`supervised_classification` by the authors' protocol."""
    codes, encoder = _supervised(options)
    probe = partial(best_on_test, encoder=encoder, epochs=epochs)
    return _accuracies(codes, probe, labels, options["seed"])


def _supervised(options: dict[str, Any]) -> tuple[LabelledCodes, Callable[[], nn.Module]]:
    """Return labelled images, and what makes the encoder of a model with new weights."""
    given = Options.from_dict(options)
    data = load_data(given)
    architecture = given.resolve(data).architecture(data)
    return labelled_images(data), partial(fresh_encoder, architecture)


def _accuracies(
    codes: LabelledCodes,
    probe: Callable[..., float],
    labels: Sequence[int],
    seed: int,
    draws: int | None = None,
) -> Result:
    """Return percentages by number of labels, means over draws or of the first samples."""
    seeds = [seed] if draws is None else range(seed * draws, (seed + 1) * draws)
    found = {}
    for n in labels:
        if n <= len(codes.train):
            parts = {one: codes.first(n) if draws is None else codes.draw(n, one) for one in seeds}
            values = tuple(probe(part, seed=one) for one, part in parts.items())
            found[str(n)] = 100 * Interval(values).mean
    return found


def _data(run: Run) -> Data:
    """Return the data that a run was trained on, cached so that many runs read it once."""
    data = load_data(Options.from_dict(run.options))
    run.check_data(data.checksum)
    return data


def _generator(run: Run) -> torch.Generator:
    return torch.Generator().manual_seed(run.options["seed"])
