"""The estimator, PCA, kernel PCA and a plain autoencoder at equal rank; and the estimator's time.

For each data set and rank: reconstruction error of held-out samples, as a share of their variance,
and accuracy of 5 nearest neighbours in the codes. Kernel PCA is scikit-learn's, with an RBF kernel
and its learnt inverse, at the best of three kernel widths by held-out error (which favours it); the
plain autoencoder has the same networks, steps and learning rate, and that many codes from the
start. Then `n_components` of 8, 0.9 and "auto" on MNIST: ranks at every threshold, and time as a
multiple of a plain training of the same number of steps.

    python3 dev.py bench estimator
    python3 dev.py bench estimator --samples 2000 --steps 300
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA, KernelPCA
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from lorae import LowRankAutoencoder, data

Map = Callable[[np.ndarray], np.ndarray]
THRESHOLDS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def mnist(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images, 16 x 16 in [0, 1], and labels."""
    loaded = data.load("mnist", count=samples)
    images = torch.nn.functional.avg_pool2d(loaded.train.float() / 255, 2)[:, 0]
    return images.numpy(), loaded.train_labels.numpy()


def table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a table of scikit-learn's with columns of variance 1; constant ones are left out."""
    X, y = {"breast cancer": load_breast_cancer, "digits": load_digits}[name](return_X_y=True)
    return StandardScaler().fit_transform(X[:, X.std(0) > 0]), y


def flat(samples: np.ndarray) -> np.ndarray:
    return np.asarray(samples, dtype=float).reshape(len(samples), -1)


def told(
    name: str, model: Any, split: list, decoded: Map | None = None, encoded: Map | None = None
) -> str:
    """Return a row: share of the held-out variance that is lost, and accuracy of neighbours."""
    train, test, train_labels, test_labels = split
    codes = [(encoded or model.transform)(part) for part in (train, test)]
    back = flat((decoded or model.inverse_transform)(codes[1]))
    lost = ((back - flat(test)) ** 2).sum() / ((flat(test) - flat(train).mean(0)) ** 2).sum()
    right = KNeighborsClassifier(5).fit(codes[0], train_labels).score(codes[1], test_labels)
    return f"{name:24} {lost:8.4f} {right:8.3f}"


def kernel_pca(rank: int, split: list) -> tuple[float, KernelPCA]:
    """Return the best of three kernels by the held-out error."""
    train, test = flat(split[0]), flat(split[1])
    variance = train.var(0).sum()
    best = (float("inf"), None)
    for factor in (0.1, 0.3, 1.0):
        model = KernelPCA(
            rank, kernel="rbf", gamma=factor / variance, fit_inverse_transform=True, alpha=1e-3
        ).fit(train)
        wrong = ((model.inverse_transform(model.transform(test)) - test) ** 2).mean()
        best = min(best, (wrong, model), key=lambda pair: pair[0])
    return best


def compare(name: str, X: np.ndarray, y: np.ndarray, ranks: list[int], **settings: Any) -> None:
    """Print a row for each method and rank."""
    split = train_test_split(X, y, test_size=0.25, random_state=0)
    for rank in ranks:
        pca = PCA(rank).fit(flat(split[0]))
        print(f"\n{name}, {rank} components: lost share of variance, accuracy")
        print(told("PCA", pca, split, encoded=lambda part, pca=pca: pca.transform(flat(part))))
        kernel = kernel_pca(rank, split)[1]
        print(told("kernel PCA", kernel, split, encoded=lambda p, k=kernel: k.transform(flat(p))))
        plain = LowRankAutoencoder(n_components=rank, latent=rank, random_state=0, **settings)
        print(told("plain autoencoder", plain.fit(split[0]), split))
        ours = LowRankAutoencoder(n_components=rank, random_state=0, **settings)
        print(told("LowRankAutoencoder", ours.fit(split[0]), split), flush=True)


def times(X: np.ndarray, **settings: Any) -> None:
    """Print ranks and time of the three kinds of n_components."""
    start = time.perf_counter()
    LowRankAutoencoder(n_components=64, latent=64, random_state=0, **settings).fit(X)
    one = time.perf_counter() - start
    print(f"\nMNIST: one plain training of {settings['steps']} steps, 64 codes: {one:.1f} s")
    print("n_components   rank  whitened covariance at 1e-2 .. 1e-6   explained  seconds  multiple")
    for wanted in (8, 0.9, "auto"):
        start = time.perf_counter()
        model = LowRankAutoencoder(n_components=wanted, random_state=0, **settings).fit(X)
        seconds = time.perf_counter() - start
        ranks = " ".join(str(model.ranks_["whitened"][t]) for t in THRESHOLDS)
        shared = model.explained_variance_ratio_.sum()
        print(
            f"{wanted!s:12} {model.n_components_:6} {ranks:>35} {shared:11.3f} {seconds:8.1f} "
            f"{seconds / one:8.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=4000, help="of MNIST")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--width", type=float, default=0.5)
    arguments = parser.parse_args()
    images, labels = mnist(arguments.samples)
    settings = {"steps": arguments.steps, "width": arguments.width}
    times(images, **settings)
    compare("MNIST", images, labels, [8, 16], **settings)
    for name in ("breast cancer", "digits"):
        compare(name, *table(name), [2, 5], steps=arguments.steps)


if __name__ == "__main__":
    main()
