r"""Scores of a trained model: of what it generates, reconstructs and interpolates, and its codes.

The protocol, which every result states: densities are fitted on training codes; images are
compared with held-out test images, both as bytes; what is drawn is drawn from stated seeds; and
each score is repeated over them, so that it comes with its interval. Nothing that is fitted or
chosen sees the test set.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lorae.data.cache import log
from lorae.data.datasets import Data
from lorae.errors import InputError, unknown
from lorae.linalg import spectral
from lorae.linalg.moments import Moments
from lorae.metrics import intrinsic_dimension as dimension
from lorae.metrics.features import (
    Classifier,
    Extractor,
    Inception,
    as_bytes,
    features,
    kept_features,
)
from lorae.metrics.frechet import frechet, kernel_distance
from lorae.metrics.precision_recall import coverage
from lorae.metrics.probes import PROBES, Codes
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import decode_all, encode_all
from lorae.sampling.interpolation import between, detour
from lorae.sampling.registry import DENSITIES, fit_density
from lorae.training.evaluation import evaluate
from lorae.utils.intervals import Interval
from lorae.utils.samples import as_float, subsample


@dataclass(frozen=True)
class Score:
    """One figure of a model.

    Args:
        part: which part of the evaluation it belongs to.
        name: what it is, such as FID.
        of: of what, such as a density.
        values: one for each seed.
    """

    part: str
    name: str
    of: str
    values: tuple[float, ...]

    @property
    def interval(self) -> Interval:
        """Mean and 95% interval."""
        return Interval(self.values)

    def to_dict(self) -> dict[str, Any]:
        """Return the score as values that JSON can hold."""
        return vars(self) | self.interval.to_dict()


@dataclass(frozen=True)
class Protocol:
    """How a model is scored.

    Args:
        samples: images that are made, and test images that they are compared with, at most.
        repeats: how often what is random is drawn.
        seed: of the first time; the next ones follow it.
        densities: names in `DENSITIES`; by default the prior where there is one, else the
            Gaussian and the mixture of 10.
        labels: numbers of labelled training samples for the probes.
        probes: names in `lorae.metrics.probes.PROBES`.
        fitted: training codes that densities are fitted on, at most.
    """

    samples: int = 2000
    repeats: int = 3
    seed: int = 0
    densities: tuple[str, ...] = ()
    labels: tuple[int, ...] = (100, 1000)
    probes: tuple[str, ...] = ("logistic", "neighbours")
    fitted: int = 20_000

    def __post_init__(self) -> None:
        for name, least in (("samples", 20), ("repeats", 1), ("seed", 0), ("fitted", 2)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for what, names, known in (
            ("density", self.densities, DENSITIES),
            ("probe", self.probes, PROBES),
        ):
            for name in names:
                if name not in known:
                    raise unknown(what, name, known)

    @property
    def seeds(self) -> range:
        """The seeds of the repeats."""
        return range(self.seed, self.seed + self.repeats)


@dataclass
class Subject:
    """A model and its data, with what several scores need computed once.

    Args:
        model: in evaluation mode, on the CPU.
        data: what it was trained on.
        protocol: how it is scored.
        extractor: of features of images; None for vectors.
    """

    model: Autoencoder
    data: Data
    protocol: Protocol
    extractor: Extractor | None = None
    _kept: dict[str, Any] = field(default_factory=dict)

    @property
    def test(self) -> Tensor:
        """The test samples that are used."""
        return subsample(self.data.test, self.protocol.samples)

    def codes(self, split: str) -> Float[Tensor, "n l"]:
        """Return the codes of the training samples that densities are fitted on, or of the test."""
        if split not in self._kept:
            train = subsample(self.data.train, self.protocol.fitted)
            self._kept[split] = encode_all(self.model, train if split == "train" else self.test)
        codes: Tensor = self._kept[split]
        return codes

    def real(self) -> Float[Tensor, "n d"]:
        """Return the features of the test images."""
        if "real" not in self._kept:
            images = as_bytes(self.data.unit(self.test))
            assert self.extractor is not None
            self._kept["real"] = kept_features(self.extractor, images, "test images")
        found: Tensor = self._kept["real"]
        return found

    def images(self, codes: Float[Tensor, "n l"]) -> UInt8[Tensor, "n c h w"]:
        """Return what codes decode to, as bytes."""
        return as_bytes(self.data.unit(decode_all(self.model, codes)))


def extractor_for(kind: str, data: Data, resize: str = "bicubic") -> Extractor:
    """Return the extractor of that name, or of a file of Inception weights.

    "auto" is Inception where there is a GPU, and a classifier of the data's labels where there is
    none, for Inception takes minutes for a thousand images on a processor.

    Raises:
        InputError: if it cannot be had.
    """
    from pathlib import Path

    labelled = data.train_labels is not None and data.train_labels.ndim == 1
    if kind == "auto":
        kind = "classifier" if labelled and not torch.cuda.is_available() else "inception"
    if kind == "classifier":
        if data.train_labels is None or not labelled:
            raise InputError(f"the data {data.name!r} have no classes: use --features inception")
        return Classifier(as_bytes(data.unit(data.train)), data.train_labels)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        log.warning("Inception without a GPU takes about 0.2 s an image: fewer samples are quicker")
    return Inception(resize, None if kind == "inception" else Path(kind), device)


def compared(
    real: Float[Tensor, "n d"], made: Float[Tensor, "m d"], extractor: Extractor
) -> dict[str, float]:
    """Return every distance of two sets of features, under the name that belongs to the network.

    Only Inception's are FID and KID.
    """
    inception = extractor.name == "inception"
    names = ("FID", "KID") if inception else ("classifier distance", "classifier kernel distance")
    cover = coverage(real, made)
    dim = real.shape[1]
    return {
        names[0]: frechet(Moments(dim).update(real), Moments(dim).update(made)),
        names[1]: kernel_distance(real, made).value,
        "precision": cover.precision,
        "recall": cover.recall,
        "density": cover.density,
        "coverage": cover.coverage,
    }


def reconstruction(subject: Subject) -> Iterator[Score]:
    """Yield the error on all test samples, and the distance of reconstructions from originals."""
    found = evaluate(subject.model, subject.data.test)
    if found.reconstruction is None:
        return
    yield Score("reconstruction", "error", "test", (found.reconstruction,))
    if subject.extractor is not None:
        made = features(subject.extractor, subject.images(subject.codes("test")), "reconstructions")
        for name, value in compared(subject.real(), made, subject.extractor).items():
            yield Score("reconstruction", name, "test", (value,))


def generation(subject: Subject) -> Iterator[Score]:
    """Yield the distances from the test images of what densities of codes decode to."""
    if subject.extractor is None:
        return
    own = ("prior",) if subject.model.prior else ("gaussian", "mixture-10")
    for name in subject.protocol.densities or own:
        density = fit_density(subject.model, lambda: subject.codes("train"), name)
        count, every = len(subject.test), []
        for seed in subject.protocol.seeds:
            codes = density.sample(count, torch.Generator().manual_seed(seed))
            made = features(subject.extractor, subject.images(codes), f"{name}, seed {seed}")
            every.append(compared(subject.real(), made, subject.extractor))
        for score in every[0]:
            yield Score("generation", score, name, tuple(one[score] for one in every))


def interpolation(subject: Subject) -> Iterator[Score]:
    """Yield the distance of images between pairs of test codes, and the detour of their paths."""
    if not subject.model.inverts or subject.extractor is None:
        return
    codes, every = subject.codes("test"), []
    for seed in subject.protocol.seeds:
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(codes), generator=generator)
        t = torch.rand(len(codes), 1, generator=generator)
        made = subject.images(torch.lerp(codes, codes[order], t))
        found = features(subject.extractor, made, f"interpolations, seed {seed}")
        one = compared(subject.real(), found, subject.extractor)
        pairs = min(50, len(codes) // 2)
        paths = between(codes[order[:pairs]], codes[order[pairs : 2 * pairs]], 11)
        shown = subject.images(paths.flatten(0, 1))
        for space, points in (
            ("pixels", shown.float().flatten(1)),
            ("features", features(subject.extractor, shown, f"paths, seed {seed}")),
        ):
            ratios = detour(points.view(*paths.shape[:2], -1))
            one[f"detour in {space}"] = float(ratios.nanmean())
        every.append(one)
    for score in every[0]:
        yield Score("interpolation", score, "linear", tuple(one[score] for one in every))


def dimensions(subject: Subject) -> Iterator[Score]:
    """Yield the dimension of the codes and of the data, by every estimator."""
    found = evaluate(subject.model, subject.data.test)
    for threshold, rank in spectral.rank_profile(found.covariance).items():
        yield Score("dimension", f"rank at {threshold:.0e}", "codes", (float(rank),))
    if subject.model.bridge.learns_matrix:
        for threshold, rank in spectral.rank_profile(found.matrix).items():
            yield Score("dimension", f"rank at {threshold:.0e}", "M", (float(rank),))
    effective = float(spectral.effective_rank(found.covariance))
    yield Score("dimension", "effective rank", "codes", (effective,))
    samples = as_float(subject.test).flatten(1)
    estimators = {
        "PCA, 95%": dimension.principal_components,
        "TwoNN": dimension.two_nearest,
        "maximum likelihood": dimension.maximum_likelihood,
    }
    for of, points in (("codes", subject.codes("test")), ("data", samples)):
        for name, estimate in estimators.items():
            with contextlib.suppress(InputError):  # too few samples that differ
                yield Score("dimension", name, of, (float(estimate(points)),))
        with contextlib.suppress(InputError):
            for name, value in dimension.by_scikit_dimension(points).items():
                yield Score("dimension", name, of, (value,))
    with contextlib.suppress(InputError):
        ratios = dimension.contrast(subject.codes("train"), subject.codes("test"))
        for share in (0.0, 0.05, 0.5):
            name = f"min-max distance ratio, quantile {share:g}"
            yield Score("dimension", name, "codes", (float(ratios.quantile(share)),))


def classification(subject: Subject, *, inputs: str = "codes") -> Iterator[Score]:
    """Yield the test accuracy of probes on codes of labelled samples."""
    data, protocol = subject.data, subject.protocol
    if data.train_labels is None or data.test_labels is None or data.train_labels.ndim != 1:
        return
    train, test = (encode_all(subject.model, part) for part in (data.train, data.test))
    codes = Codes(train, data.train_labels, test, data.test_labels)
    for n in protocol.labels:
        draws = [codes.drawn(n, seed) for seed in protocol.seeds]
        for name in protocol.probes:
            values = [PROBES[name](drawn, seed=k) for k, drawn in enumerate(draws)]
            yield Score("classification", f"{name}, {n} labels", inputs, tuple(values))


PARTS: dict[str, Callable[[Subject], Iterator[Score]]] = {
    "reconstruction": reconstruction,
    "generation": generation,
    "interpolation": interpolation,
    "dimension": dimensions,
    "classification": classification,
}
"""The parts of an evaluation by name."""
