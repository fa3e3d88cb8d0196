"""Mixtures of normal distributions fitted to codes in several ways: likelihood, and what is drawn.

An autoencoder of full rank and a LoRAE are trained on MNIST at a quarter of the paper's width with
128 latent dimensions. To their training codes a mixture is fitted

- "whitened": by scikit-learn to whitened codes, one start; several k by BIC on a held-out fifth,
- "codes": by scikit-learn to the codes along their principal axes, one start; likewise,
- "starts": by `lorae.sampling.mixtures.GaussianMixture`, the density of `lorae sample`.

The table has the number of components, the mean log-density of the test codes in nats (on the
support of the training codes), and the classifier distance of 2,000 decoded samples from 2,000 test
images, the mean over three draws with its 95% interval.

With --known it fits mixtures to codes with known components instead, in 2, 10 and 20 dimensions.

    python3 dev.py bench mixtures
    python3 dev.py bench mixtures --known
    python3 dev.py bench mixtures --steps 4000 --seeds 1 --codes 5000 --components 4
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _timing import machine
from sklearn.mixture import GaussianMixture as Mixture
from sklearn.model_selection import train_test_split
from torch import Tensor

import lorae
from lorae.metrics.features import extract_features
from lorae.metrics.protocol import Protocol
from lorae.metrics.scores import compare_features
from lorae.metrics.subject import Subject, build_extractor
from lorae.nn.inference import encode_all
from lorae.sampling.densities import Density
from lorae.sampling.mixtures import GaussianMixture
from lorae.training.options import data_of
from lorae.utils.intervals import Interval

MODELS: dict[str, float | None] = {"ae": None, "lorae": 1e-4}
AUTO = (1, 2, 4, 8, 16, 32)


class OneStart(GaussianMixture):
    """scikit-learn's fit to codes along their principal axes, whitened or not."""

    def __init__(self, components: int | tuple[int, ...], *, whitened: bool) -> None:
        super().__init__(components)
        self.whitened = whitened

    def _fit(self, u: Tensor) -> None:
        unit = torch.ones(u.shape[1]) if self.whitened else self._deviations()
        samples = (u * unit).numpy()
        found = self._select(*train_test_split(samples, test_size=0.2, random_state=0))
        mixture = Mixture(found.n_components, random_state=0).fit(samples)
        self.components_ = mixture.n_components
        self.weights_ = torch.from_numpy(mixture.weights_)
        self.means_ = torch.from_numpy(mixture.means_) / unit
        self.covariances_ = torch.from_numpy(mixture.covariances_) / unit / unit[:, None]

    def _select(self, kept: Any, held_out: Any) -> Any:
        if len(self.components) == 1:
            return Mixture(self.components[0])
        found = [Mixture(k, random_state=0).fit(kept) for k in self.components]
        return min(found, key=lambda mixture: mixture.bic(held_out))


def train(model: str, seed: int, steps: int, out: Path) -> lorae.Run:
    """Return a trained run, from an earlier call if there is one."""
    path = out / f"{model}-{seed}"
    if lorae.Run(path).exists:
        return lorae.Run(path)
    options = lorae.Options(
        data="mnist",
        model=model,
        weight=MODELS[model],
        width=0.25,
        latent=128,
        learning_rate=1e-3,
        steps=steps,
        evaluate_every=steps,
        seed=seed,
    )
    return lorae.train(options, path, show=False)


def distance(subject: Subject, density: Density) -> Interval:
    """Return the classifier distance of samples from the test images, over three draws."""
    assert subject.extractor is not None
    values = []
    for seed in subject.protocol.seeds:
        codes = density.sample(len(subject.test), torch.Generator().manual_seed(seed))
        features = extract_features(subject.extractor, subject.images(codes))
        found = compare_features(subject.real_features, features, subject.extractor)
        values.append(found["classifier distance"])
    return Interval(tuple(values))


def print_known() -> None:
    """Print how many components are found of 4 and 8 true ones, by dimension."""
    print("| dimensions | true | before | now |\n|---|---|---|---|")
    for dimension in (2, 10, 20):
        for k in (4, 8):
            draws = [known(dimension, k, seed) for seed in range(3)]
            before = [OneStart(AUTO, whitened=True).fit(x).components_ for x in draws]
            now = [GaussianMixture(AUTO).fit(x).components_ for x in draws]
            columns = (", ".join(map(str, found)) for found in (before, now))
            print(f"| {dimension} | {k} | {' | '.join(columns)} |", flush=True)


def known(dimension: int, k: int, seed: int) -> Tensor:
    """Return 2,000 codes of k components with variance 1, whose centres are about 8 apart."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(k, dimension)) * 8 / np.sqrt(2 * dimension)
    codes = centres[draw.integers(k, size=2000)] + draw.normal(size=(2000, dimension))
    return torch.tensor(codes, dtype=torch.float32)


def main() -> None:
    """Print a row for each model, number of components and way to fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--codes", type=int, default=10_000, help="training codes to fit to")
    parser.add_argument("--components", nargs="*", default=["4", "10", "auto"])
    parser.add_argument("--out", type=Path, default=Path("runs/mixtures"))
    parser.add_argument("--known", action="store_true", help="fit to codes of known components")
    arguments = parser.parse_args()
    if arguments.known:
        print_known()
        return
    print(f"{machine()}; {arguments.steps} steps, {arguments.codes} codes\n")
    print("| model | seed | rank | components | fit | k | log-density | classifier distance |")
    print("|---|---|---|---|---|---|---|---|")
    for model in MODELS:
        for seed in range(arguments.seeds):
            run = train(model, seed, arguments.steps, arguments.out)
            data = data_of(run)
            subject = Subject(run.model(), data, Protocol(fitted=arguments.codes))
            subject.extractor = build_extractor("classifier", data)
            test = encode_all(subject.model, data.test)
            for name in arguments.components:
                components = AUTO if name == "auto" else int(name)
                ways: dict[str, GaussianMixture] = {
                    "whitened": OneStart(components, whitened=True),
                    "codes": OneStart(components, whitened=False),
                    "starts": GaussianMixture(components),
                }
                for way, density in ways.items():
                    density.fit(subject.codes("train"))
                    logarithm = density.log_prob(test)
                    inside = logarithm[logarithm.isfinite()].mean()
                    print(
                        f"| {model} | {seed} | {density.rank} | {name} | {way} | "
                        f"{density.components_} | {inside:.2f} | {distance(subject, density)} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
