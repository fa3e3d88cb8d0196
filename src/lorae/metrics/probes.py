r"""What frozen codes know of classes: heads trained on them, and what they get right.

A draw of n labelled codes is stratified: every class gets n / classes of them, the first classes
one more where that is no integer. Codes are standardised by the mean and deviation of the draw's
own, so that no method gains by its scale. A fifth of the draw (at least one of each class, if
there are two) is held out to choose the epoch of the head; the test set is only ever scored.

References:
    Mazumder et al. (WACV 2024), table 6, whose head this is; its authors report the best test
    accuracy over training, which is a choice on the test set.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from lorae.data.datasets import Data
from lorae.errors import InputError
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import batches, encode_all, evaluation_mode
from lorae.utils.samples import as_float

Labels = Int[Tensor, " n"]


@dataclass(frozen=True)
class Codes:
    """Codes of labelled samples, for training and for testing.

    Args:
        train: n codes.
        train_labels: their classes, 0 and up.
        test: m codes.
        test_labels: their classes.
        standardised: whether a draw is to be scaled; images are not.

    Raises:
        InputError: if the labels are of fewer than two classes.

    Example:
        >>> labels = torch.arange(60) % 3
        >>> z = torch.eye(3)[labels] + 0.1 * torch.randn(60, 3)
        >>> codes = Codes(z[:30], labels[:30], z[30:], labels[30:])
        >>> logistic(codes.drawn(9, seed=0)), neighbours(codes.drawn(9, seed=0), k=1)
        (1.0, 1.0)
    """

    train: Float[Tensor, "n *l"]
    train_labels: Int[Tensor, " n"]
    test: Float[Tensor, "m *l"]
    test_labels: Int[Tensor, " m"]
    standardised: bool = True

    def __post_init__(self) -> None:
        if not bool((self.train_labels != self.train_labels[:1]).any()):
            raise InputError("a probe needs labels of two classes or more, all of these are one")

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.train_labels.max()) + 1

    def drawn(self, n: int, seed: int) -> "Codes":
        """Return n of the training codes, stratified, standardised with all test codes.

        Args:
            n: how many, at least one of each class.
            seed: that draws them.

        Raises:
            InputError: if there are fewer than n, or n is less than the number of classes.
        """
        chosen = stratified(self.train_labels, n, seed)
        if not self.standardised:
            return replace(self, train=self.train[chosen], train_labels=self.train_labels[chosen])
        train = self.train[chosen].double()
        # A direction that the codes do not use stays as it is: of rounding no unit is made.
        spread = train.std(0) if n > 1 else torch.zeros(train.shape[1]).double()
        spread = spread.where(spread > 1e-6 * spread.max(), spread.max()).where(spread > 0, 1.0)
        scaled = [((part.double() - train.mean(0)) / spread).float() for part in (train, self.test)]
        return Codes(scaled[0], self.train_labels[chosen], scaled[1], self.test_labels)


def labelled(model: Autoencoder | None, data: Data, inputs: str = "codes") -> Codes:
    """Return what a probe is to see of labelled data.

    Args:
        model: whose codes, or None for the images themselves, scaled.
        data: with one label for each sample.
        inputs: "codes" (M E(x)) or "encoder" (E(x)).

    Raises:
        InputError: if the data have no such labels.
    """
    labels = data.train_labels, data.test_labels
    if labels[0] is None or labels[1] is None or labels[0].ndim != 1:
        raise InputError(f"a probe needs one label for each sample, and {data.name!r} has none")
    if model is None:
        train, test = ((as_float(x) - data.shift) / data.scale for x in (data.train, data.test))
        return Codes(train, labels[0], test, labels[1], standardised=False)
    look = encode_all if inputs == "codes" else _outputs
    return Codes(look(model, data.train), labels[0], look(model, data.test), labels[1])


def _outputs(model: Autoencoder, samples: Tensor) -> Tensor:
    """Return E(x), before the bridge."""
    with evaluation_mode(model):
        return torch.cat([model.encoder(model.scaled(x)).float() for x in batches(model, samples)])


def stratified(labels: Int[Tensor, " n"], n: int, seed: int) -> Int[Tensor, " m"]:
    """Return the places of n samples, as many of each class as of any other, at random.

    A class that has too few gives all it has, and the others make up for it.

    Args:
        labels: classes, as any whole numbers.
        n: how many places, the number of classes or more.
        seed: that draws them.

    Raises:
        InputError: if there are fewer than n samples, or n is less than the number of classes.

    Example:
        >>> stratified(torch.tensor([0, 0, 0, 1, 1, 1]), 4, seed=0).numel()
        4
    """
    classes = labels.unique().tolist()  # type: ignore[no-untyped-call]
    if not len(classes) <= n <= len(labels):
        raise InputError(
            f"the number of labels must be {len(classes)} (a sample of each class) to "
            f"{len(labels)}, got {n}"
        )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    turn = torch.empty(len(labels), dtype=torch.long)
    for c in classes:
        own = order[labels[order] == c]
        turn[own] = torch.arange(len(own))
    which = torch.searchsorted(torch.tensor(classes), labels)
    return torch.argsort(turn * len(classes) + which)[:n]


def head(codes: Codes, *, seed: int = 0, epochs: int = 100) -> float:
    """Return the test accuracy of the paper's head: 2 x (Linear, ReLU, Dropout 0.5), Linear.

    Adam at 1e-3 with 100 codes a step; the weights are those of the epoch that was best on the
    fifth of the codes that is held out (with fewer than two of each class, those of the last).

    Args:
        codes: as drawn.
        seed: of weights, dropout and split.
        epochs: at most; the authors have 500. Each has at least ten steps.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(*_head(codes.train.shape[1], codes.classes))
        _fit(network, codes, epochs)
    return _accuracy(network, codes.test, codes.test_labels)


def best_on_test(codes: Codes, *, seed: int = 0, epochs: int = 100) -> float:
    """Return the highest test accuracy of the head over its epochs, as the authors' code reports.

    It chooses on the test set, so it is no estimate of what the head gets right on new samples.
    It is here to tell what that choice is worth.

    Args:
        codes: as drawn.
        seed: of weights and dropout.
        epochs: all of which are looked at.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(*_head(codes.train.shape[1], codes.classes))
        trained = _epochs(network, codes.train, codes.train_labels, epochs)
        return max(_accuracy(network, codes.test, codes.test_labels) for _ in trained)


def supervised(
    codes: Codes, *, encoder: Callable[[], nn.Module], seed: int = 0, epochs: int = 20
) -> float:
    """Return the test accuracy of encoder and head trained together on the labels alone.

    Args:
        codes: images, as drawn, in the units of the encoder.
        encoder: makes the network, with fresh weights.
        seed: of weights, dropout and split.
        epochs: as of :func:`head`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = encoder()
        outputs = body(codes.train[:1]).shape[1]
        network = nn.Sequential(body, *_head(outputs, codes.classes))
        _fit(network, codes, epochs)
    return _accuracy(network, codes.test, codes.test_labels)


def _head(latent: int, classes: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Linear(latent, latent), nn.ReLU(), nn.Dropout(0.5)]
    return [*layers, nn.Linear(latent, classes, bias=False)]


def _fit(network: nn.Module, codes: Codes, epochs: int) -> None:
    few = int(torch.bincount(codes.train_labels).min()) < 2
    held_out = stratified(codes.train_labels, max(codes.classes, len(codes.train) // 5), 0)
    kept = torch.ones(len(codes.train), dtype=torch.bool)
    if not few:
        kept[held_out] = False
    best, weights = -1.0, {}
    for _ in _epochs(network, codes.train[kept], codes.train_labels[kept], epochs):
        now = _accuracy(network, codes.train[~kept], codes.train_labels[~kept]) if not few else 0.0
        if now > best or few:
            best = now
            weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(weights)


def _epochs(network: nn.Module, x: Tensor, y: Labels, epochs: int) -> Iterator[None]:
    """Train a network, and stop after each epoch to let it be looked at."""
    optimizer, size = torch.optim.Adam(network.parameters(), 1e-3), min(100, len(x))
    for _ in range(epochs):
        for _ in range(max(10, len(x) // size)):
            drawn = torch.randint(len(x), (size,))
            loss = functional.cross_entropy(network(x[drawn]), y[drawn])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        yield


@torch.no_grad()
def _accuracy(network: nn.Module, x: Tensor, labels: Tensor) -> float:
    network.eval()
    told = torch.cat([network(part).argmax(1) for part in torch.split(x, 1000)])
    network.train()
    return float((told == labels).double().mean())


def logistic(codes: Codes, *, seed: int = 0) -> float:
    """Return the test accuracy of logistic regression, of scikit-learn's default strength.

    Args:
        codes: as drawn.
        seed: of the solver.
    """
    from sklearn.linear_model import LogisticRegression

    probe = LogisticRegression(max_iter=2000, random_state=seed)
    probe.fit(codes.train.numpy(), codes.train_labels.numpy())
    return float(probe.score(codes.test.numpy(), codes.test_labels.numpy()))


def neighbours(codes: Codes, *, seed: int = 0, k: int = 5) -> float:  # noqa: ARG001 - as the others
    """Return the test accuracy of the k nearest neighbours, or of all where there are fewer.

    Args:
        codes: as drawn.
        seed: of no effect, for there is nothing random in it.
        k: how many, at least 1.
    """
    from sklearn.neighbors import KNeighborsClassifier

    probe = KNeighborsClassifier(min(k, len(codes.train)))
    probe.fit(codes.train.numpy(), codes.train_labels.numpy())
    return float(probe.score(codes.test.numpy(), codes.test_labels.numpy()))


PROBES: dict[str, Callable[..., float]] = {
    "head": head,
    "logistic": logistic,
    "neighbours": neighbours,
}
"""The probes by name."""
