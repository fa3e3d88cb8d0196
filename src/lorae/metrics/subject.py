"""What scores are computed from: a model with its data, and an extractor of features."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lorae.data.cache import log
from lorae.data.datasets import Data
from lorae.errors import InputError
from lorae.metrics.classifier import fit_or_load_classifier
from lorae.metrics.features import Extractor, as_bytes, cached_features
from lorae.metrics.inception import Inception
from lorae.metrics.protocol import Protocol
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import decode_all, encode_all
from lorae.utils.samples import subsample


@dataclass
class Subject:
    """A model and its data, with the codes and features that several scores share.

    The model is moved to a GPU if there is one.
    """

    model: Autoencoder
    data: Data
    protocol: Protocol
    extractor: Extractor | None = None
    _codes: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def test(self) -> Tensor:
        """The test samples in use."""
        return subsample(self.data.test, self.protocol.samples)

    @property
    def population(self) -> Tensor:
        """The test samples in use, filled up with training samples to the protocol's number."""
        missing = max(0, self.protocol.samples - len(self.data.test))
        return torch.cat([self.test, subsample(self.data.train, missing)])

    def codes(self, split: str) -> Float[Tensor, "n l"]:
        """Return the codes of the "test" samples in use, of "population", or of "train".

        Those of "train" are for fitting densities.
        """
        if split not in self._codes:
            train = subsample(self.data.train, self.protocol.fitted)
            samples = train if split == "train" else getattr(self, split)
            self._codes[split] = encode_all(self.model, samples)
        return self._codes[split]

    def limits(self) -> list[str]:
        """Return what the number of samples does to the scores, in a sentence each."""
        compared, every = len(self.test), len(self.population)
        latent = self.model.bridge.latent
        found = []
        if every > compared:
            found.append(f"dimensions are over {every:,} samples, training samples included")
        if every <= latent:
            found.append(f"{every:,} samples bound the rank of {latent:,} codes to {every - 1:,}")
        if self.extractor is not None and compared <= (d := self.real_features.shape[1]):
            found.append(f"distances in {d:,} features over {compared:,} samples are too large")
        return found

    @cached_property
    def real_features(self) -> Float[Tensor, "n d"]:
        """The features of the test images in use."""
        assert self.extractor is not None
        images = as_bytes(self.data.unit(self.test))
        return cached_features(self.extractor, images, "test images")

    def images(self, codes: Float[Tensor, "n l"]) -> UInt8[Tensor, "n c h w"]:
        """Return decoded codes as bytes."""
        return as_bytes(self.data.unit(decode_all(self.model, codes)))


def build_extractor(
    kind: str,
    data: Data,
    resize: str = "bicubic",
    *,
    precision: str = "float32",
    trust: bool = False,
) -> Extractor:
    """Return an extractor of features of images.

    Args:
        kind: "inception", "classifier" (of the labels of the data), a file of Inception weights, or
            "auto": the classifier for labelled data without a GPU, where Inception takes minutes
            for a thousand images, otherwise Inception.
        data: whose images they are.
        resize: to Inception's size, "bicubic" or "bilinear".
        precision: of Inception, "float32" or "bfloat16".
        trust: load a file that is not the original; see :class:`lorae.metrics.inception.Inception`.
    """
    labelled = data.train_labels is not None and data.train_labels.ndim == 1
    if kind == "auto":
        kind = "classifier" if labelled and not torch.cuda.is_available() else "inception"
    if kind == "classifier":
        if data.train_labels is None or not labelled:
            raise InputError(
                f"features must be inception or a file of its weights for {data.name!r}, which has "
                "no classes, got 'classifier'"
            )
        return fit_or_load_classifier(as_bytes(data.unit(data.train)), data.train_labels)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        log.warning("Inception takes about 0.2 s per image without a GPU: use fewer samples")
    weights = None if kind == "inception" else Path(kind)
    return Inception(resize, weights, device, precision=precision, trust=trust)
