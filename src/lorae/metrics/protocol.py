"""How a model is evaluated: the protocol, and what its scores are computed from.

Densities are fitted to training codes. Generated images are compared with test images, both as
bytes. Random draws use stated seeds, and each score is repeated over them, so that it has a
confidence interval. Nothing that is fitted or selected uses the test set.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lorae.data.cache import log
from lorae.data.datasets import Data
from lorae.errors import InputError, unknown
from lorae.metrics.classifier import fit_or_load_classifier
from lorae.metrics.features import Extractor, as_bytes, cached_features
from lorae.metrics.inception import Inception
from lorae.metrics.probes import PROBES
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import decode_all, encode_all
from lorae.sampling.registry import DENSITIES, FITTED
from lorae.utils.samples import subsample
from lorae.utils.validation import check_range


@dataclass(frozen=True)
class Protocol:
    """How a model is evaluated.

    Args:
        samples: number of images to generate, and of test images to compare them with, at most.
        repeats: number of random draws for each score.
        seed: of the first draw; the following draws use the following seeds.
        densities: names in `DENSITIES`; by default the prior if there is one, otherwise the
            Gaussian and the mixture of 10.
        labels: numbers of labelled training samples for the probes.
        probes: names in `lorae.metrics.probes.PROBES`.
        fitted: number of training codes that densities are fitted to, at most.

    Raises:
        InputError: if a number is out of range or a name is unknown.
    """

    samples: int = 2000
    repeats: int = 3
    seed: int = 0
    densities: tuple[str, ...] = ()
    labels: tuple[int, ...] = (100, 1000)
    probes: tuple[str, ...] = ("logistic", "neighbours")
    fitted: int = FITTED

    def __post_init__(self) -> None:
        for name, least in (("samples", 20), ("repeats", 1), ("seed", 0), ("fitted", 2)):
            check_range(name, getattr(self, name), least)
        for density in self.densities:
            if density not in DENSITIES:
                raise unknown("density", density, DENSITIES)
        for probe in self.probes:
            if probe not in PROBES:
                raise unknown("probe", probe, PROBES)

    @property
    def seeds(self) -> range:
        """The seeds of the draws."""
        return range(self.seed, self.seed + self.repeats)


@dataclass
class Subject:
    """A model and its data, with the codes and features that several scores share.

    Args:
        model: in evaluation mode, on the CPU.
        data: that it was trained on.
        protocol: how it is evaluated.
        extractor: of features of images; None for vectors.
    """

    model: Autoencoder
    data: Data
    protocol: Protocol
    extractor: Extractor | None = None
    _cache: dict[str, Any] = field(default_factory=dict)

    @property
    def test(self) -> Tensor:
        """The test samples in use."""
        return subsample(self.data.test, self.protocol.samples)

    def codes(self, split: str) -> Float[Tensor, "n l"]:
        """Return the codes of the "test" samples in use, or of "train", for fitting densities."""
        if split not in self._cache:
            train = subsample(self.data.train, self.protocol.fitted)
            self._cache[split] = encode_all(self.model, train if split == "train" else self.test)
        codes: Tensor = self._cache[split]
        return codes

    def real_features(self) -> Float[Tensor, "n d"]:
        """Return the features of the test images in use."""
        if "real" not in self._cache:
            images = as_bytes(self.data.unit(self.test))
            assert self.extractor is not None
            self._cache["real"] = cached_features(self.extractor, images, "test images")
        features: Tensor = self._cache["real"]
        return features

    def images(self, codes: Float[Tensor, "n l"]) -> UInt8[Tensor, "n c h w"]:
        """Return decoded codes as bytes."""
        return as_bytes(self.data.unit(decode_all(self.model, codes)))


def build_extractor(kind: str, data: Data, resize: str = "bicubic") -> Extractor:
    """Return an extractor of features of images.

    Args:
        kind: "inception", "classifier" (of the labels of the data), a file of Inception weights, or
            "auto": the classifier for labelled data without a GPU, where Inception takes minutes
            for a thousand images, otherwise Inception.
        data: whose images they are.
        resize: to Inception's size, "bicubic" or "bilinear".

    Raises:
        InputError: if the weights are missing, or a classifier is asked for and the data have no
            classes.
    """
    labelled = data.train_labels is not None and data.train_labels.ndim == 1
    if kind == "auto":
        kind = "classifier" if labelled and not torch.cuda.is_available() else "inception"
    if kind == "classifier":
        if data.train_labels is None or not labelled:
            raise InputError(f"the data {data.name!r} have no classes: use --features inception")
        return fit_or_load_classifier(as_bytes(data.unit(data.train)), data.train_labels)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        log.warning("Inception takes about 0.2 s per image without a GPU: use fewer samples")
    return Inception(resize, None if kind == "inception" else Path(kind), device)
