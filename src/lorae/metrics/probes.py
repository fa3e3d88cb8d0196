r"""Probes: classifiers trained on frozen codes of few labelled samples, and their test accuracy.

A draw of n labelled codes is balanced: every class gets n / classes of them, the first classes one
more if that is not an integer. Codes are standardized by the mean and deviation of the draw itself,
so that no method gains by its scale. Every probe is trained on all n of them; the number of epochs
is fixed in advance, and the test set is used only for the accuracy.

References:
    Mazumder et al. (WACV 2024), table 6, whose head this is; its authors report the best test
    accuracy over training (:func:`best_on_test`), which selects the epoch on the test set.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from lorae.data.datasets import Data
from lorae.errors import InputError
from lorae.metrics import protocol
from lorae.nn import networks
from lorae.nn.autoencoder import Architecture, Autoencoder
from lorae.nn.inference import batches, encode_all, evaluation_mode
from lorae.utils.samples import as_float
from lorae.utils.validation import check_finite

BATCH = 100
"""The number of codes in a step of a head, at most."""


@dataclass(frozen=True)
class LabelledCodes:
    """Codes of labelled training and test samples.

    Classes are 0 and up; `standardize` says whether :meth:`draw` standardizes the codes.
    """

    train: Float[Tensor, "n *l"]
    train_labels: Int[Tensor, " n"]
    test: Float[Tensor, "m *l"]
    test_labels: Int[Tensor, " m"]
    standardize: bool = True

    def __post_init__(self) -> None:
        if not bool((self.train_labels != self.train_labels[:1]).any()):
            raise InputError("a probe needs labels of two classes or more, got fewer")
        check_finite("codes", self.train)
        check_finite("codes", self.test)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(torch.cat([self.train_labels, self.test_labels]).max()) + 1

    def draw(self, n: int, seed: int) -> "LabelledCodes":
        """Return n of the training codes, balanced over classes, and all test codes."""
        return self._subset(balanced_subset(self.train_labels, n, seed))

    def first(self, n: int) -> "LabelledCodes":
        """Return the first n of the training codes, of any classes, and all test codes."""
        return self._subset(torch.arange(n))

    def _subset(self, index: Int[Tensor, " n"]) -> "LabelledCodes":
        """Return some of the training codes and all test codes, standardized by the former."""
        drawn = replace(self, train=self.train[index], train_labels=self.train_labels[index])
        if not self.standardize:
            return drawn
        train = drawn.train.double()
        spread = train.std(0)
        # Directions that the codes do not use are left as they are: scaling would amplify rounding.
        spread = spread.where(spread > 1e-6 * spread.max(), spread.max()).where(spread > 0, 1.0)
        train, test = (
            ((part.double() - train.mean(0)) / spread).float() for part in (train, self.test)
        )
        return replace(drawn, train=train, test=test)


def encode_labelled(
    model: Autoencoder, data: Data, inputs: str = "codes", *, standardize: bool = True
) -> LabelledCodes:
    """Return the codes of labelled data.

    Args:
        model: that encodes them.
        data: with one label for each sample.
        inputs: "codes" (M E(x)) or "encoder" (E(x) before the bridge, of a posterior the mean).
        standardize: whether draws are standardized.
    """
    train_labels, test_labels = _labels(data)
    encode = encode_all if inputs == "codes" else _encoder_outputs
    train, test = encode(model, data.train), encode(model, data.test)
    return LabelledCodes(train, train_labels, test, test_labels, standardize)


def labelled_images(data: Data) -> LabelledCodes:
    """Return labelled data themselves, scaled as an encoder takes them."""
    train_labels, test_labels = _labels(data)
    train, test = (
        ((as_float(x) - data.shift) / data.scale).float() for x in (data.train, data.test)
    )
    return LabelledCodes(train, train_labels, test, test_labels, standardize=False)


def _labels(data: Data) -> tuple[Tensor, Tensor]:
    if data.train_labels is None or data.test_labels is None or data.train_labels.ndim != 1:
        raise InputError(f"a probe needs one label for each sample, and {data.name!r} has none")
    return data.train_labels, data.test_labels


def _encoder_outputs(model: Autoencoder, samples: Tensor) -> Tensor:
    """Return E(x) before the bridge; of a posterior the mean, which comes first in it."""
    with evaluation_mode(model):
        outputs = [model.encoder(model.scaled(x)).float().cpu() for x in batches(model, samples)]
    return torch.cat(outputs)[:, : model.bridge.latent]


def fresh_encoder(architecture: Architecture) -> nn.Module:
    """Return the encoder of an architecture with new weights, for a supervised network."""
    a = architecture
    return networks.build(a.network, a.shape, a.latent, a.width).encoder


def balanced_subset(labels: Int[Tensor, " n"], n: int, seed: int) -> Int[Tensor, " m"]:
    """Return the indices of n random samples with equally many of each class.

    A class with too few samples contributes all of them, and the others make up for it.
    (scikit-learn's stratified splits keep the proportions of the classes instead.)
    """
    classes, index = labels.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    if not len(classes) <= n <= len(labels):
        raise InputError(
            f"labels must be at least {len(classes)} (one of each class) and at most "
            f"{len(labels)}, got {n}"
        )
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    turn = torch.empty_like(index)  # the place of each sample among those of its class
    for c in range(len(classes)):
        own = order[index[order] == c]
        turn[own] = torch.arange(len(own))
    return torch.argsort(turn * len(classes) + index)[:n]


def head(
    codes: LabelledCodes,
    *,
    encoder: Callable[[], nn.Module] = nn.Identity,
    seed: int = 0,
    epochs: int = 100,
) -> float:
    """Return the test accuracy of the paper's head: 2 x (Linear, ReLU, Dropout 0.5), Linear.

    Trained by Adam at 1e-3 with 100 codes a step, on all codes, for a fixed number of epochs.

    Args:
        codes: as drawn, or scaled images.
        encoder: makes a network below the head, with new weights, that is trained with it.
        seed: of weights, dropout and batches.
        epochs: number of epochs; each has at least ten steps.
    """
    steps = epochs * max(10, len(codes.train) // BATCH)
    return accuracies(codes, encoder=encoder, seed=seed, steps=steps, every=steps)[-1]


def best_on_test(
    codes: LabelledCodes,
    *,
    encoder: Callable[[], nn.Module] = nn.Identity,
    seed: int = 0,
    epochs: int = 500,
) -> float:
    """Return the highest test accuracy over the epochs, as the code of LoRAE's authors reports.

    It is measured after every tenth epoch, and an epoch is a pass over the codes. This selects the
    epoch on the test set, so it overestimates the accuracy on new samples.
    """
    epoch = math.ceil(len(codes.train) / BATCH)
    steps, every = epochs * epoch, min(epochs, 10) * epoch
    return max(accuracies(codes, encoder=encoder, seed=seed, steps=steps, every=every))


def accuracies(
    codes: LabelledCodes,
    *,
    encoder: Callable[[], nn.Module] = nn.Identity,
    seed: int = 0,
    steps: int,
    every: int,
) -> list[float]:
    """Return the test accuracy of an encoder and :func:`head` along their training.

    There is a value every `every` steps; the test codes do not influence the training.
    """
    found = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _with_head(encoder(), codes)
        optimizer = torch.optim.Adam(network.parameters(), 1e-3)
        for step in range(1, steps + 1):
            batch = torch.randint(len(codes.train), (min(BATCH, len(codes.train)),))
            loss = functional.cross_entropy(network(codes.train[batch]), codes.train_labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if step % every == 0:
                found.append(_accuracy(network, codes.test, codes.test_labels))
    return found


def _with_head(encoder: nn.Module, codes: LabelledCodes) -> nn.Sequential:
    latent = encoder(codes.train[:1]).shape[1]
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Linear(latent, latent), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(encoder, *layers, nn.Linear(latent, codes.classes, bias=False))


@torch.no_grad()
def _accuracy(network: nn.Module, x: Tensor, labels: Tensor) -> float:
    network.eval()
    predicted = torch.cat([network(part).argmax(1) for part in torch.split(x, 1000)])
    network.train()
    return float((predicted == labels).double().mean())


def logistic(codes: LabelledCodes, *, seed: int = 0) -> float:
    """Return the test accuracy of logistic regression with scikit-learn's default penalty."""
    from sklearn.linear_model import LogisticRegression

    return _score(LogisticRegression(max_iter=2000, random_state=seed), codes)


def neighbours(codes: LabelledCodes, *, seed: int = 0) -> float:  # noqa: ARG001
    """Return the test accuracy of the five nearest neighbours; nothing is random in it."""
    from sklearn.neighbors import KNeighborsClassifier

    return _score(KNeighborsClassifier(min(5, len(codes.train))), codes)


def _score(probe: Any, codes: LabelledCodes) -> float:
    probe.fit(codes.train.numpy(), codes.train_labels.numpy())
    return float(probe.score(codes.test.numpy(), codes.test_labels.numpy()))


PROBES: dict[str, Callable[..., float]] = dict(
    zip(protocol.PROBES, (head, logistic, neighbours), strict=True)
)
"""The probes by name."""
