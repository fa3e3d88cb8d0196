"""The number of components that "auto" chooses, on data of known dimension and on resamples.

Each set of `_sets.TRUTHS` is drawn with five seeds, and a third more samples than are fitted are
held out. Recorded are the number, its interval, the held-out loss of ours and of PCA with as many
components, PCA's number for 95% of the variance, TwoNN and maximum likelihood, and the warnings of
`fit`, which for noise have to say what it is.

`--stability` instead fits four sets with 5 seeds to each of 5 random subsamples of 80%, and for the
first subsample also with an outlier, near-copies, a column of noise, and 4 times the training.

    python3 dev.py bench dimension --seeds 1
    python3 dev.py bench dimension --stability
    python3 dev.py bench dimension --tables            # write results/estimator/dimension.md
"""

import argparse
import warnings
from typing import Any

import numpy as np
import torch
from _cells import RESULTS, restart_beside_peers, run, stopwatch
from _sets import TRUTHS, split
from _tables import write_dimension
from sklearn.decomposition import PCA

from lorae import LowRankAutoencoder
from lorae.metrics import intrinsic_dimension as dimension

SEEDS = 5
RESAMPLED = ("digits", "breast cancer", "swiss roll", "factors, noise 0.3")
VARIANTS = ("as it is", "one outlier", "near-copies", "a column of noise", "4x training")


def lost(decoded: np.ndarray, test: np.ndarray, train: np.ndarray) -> float:
    flat, mean = test.reshape(len(test), -1), train.reshape(len(train), -1).mean(0)
    return float(((decoded.reshape(flat.shape) - flat) ** 2).sum() / ((flat - mean) ** 2).sum())


def choose(X: np.ndarray, seed: int, **settings: Any) -> tuple[LowRankAutoencoder, dict[str, Any]]:
    """Return the fitted estimator, and its number, interval, seconds and warnings."""
    with warnings.catch_warnings(record=True) as caught, stopwatch() as watch:
        warnings.simplefilter("always")
        model = LowRankAutoencoder(n_components="auto", random_state=seed, **settings).fit(X)
    interval = [int(bound) for bound in getattr(model, "n_components_interval_", ())]
    said = sorted({str(warning.message) for warning in caught})
    return model, {"n": int(model.n_components_), "interval": interval, "said": said, **watch}


def of_truth(set: str, seed: int) -> dict[str, Any]:  # noqa: A002
    """Return what is recorded of a set of known dimension."""
    truth = TRUTHS[set]
    drawn = truth.draw(truth.n + truth.n // 3, np.random.default_rng(seed))
    train, test = drawn[: truth.n], drawn[truth.n :]
    model, found = choose(train, seed)
    flat = train.reshape(len(train), -1)
    decoded = np.asarray(model.inverse_transform(model.transform(test)))
    pca = PCA(min(found["n"], *flat.shape), random_state=seed).fit(flat)
    by_pca = pca.inverse_transform(pca.transform(test.reshape(len(test), -1)))
    samples = torch.from_numpy(flat).float()
    return {
        **found,
        "needs": truth.needs,
        "lost": lost(decoded, test, train),
        "lost_pca": lost(by_pca, test, train),
        "pca_95": dimension.pca_dimension(samples),
        "two_nn": dimension.two_nn(samples),
        "likelihood": dimension.maximum_likelihood(samples),
    }


def of_resample(set: str, variant: str, split: int, seed: int) -> dict[str, Any]:  # noqa: A002
    """Return what is recorded of a subsample, changed or not."""
    X = resample(set, split)
    settings: dict[str, Any] = {}
    generator = np.random.default_rng(split)
    if variant == "one outlier":
        X[0] = X.mean(0) + 100 * X.std() * generator.choice([-1, 1], X.shape[1])
    elif variant == "near-copies":
        X = np.concatenate([X, X + 1e-3 * X.std() * generator.normal(size=X.shape)])
    elif variant == "a column of noise":
        X = np.column_stack([X, X.std() * generator.normal(size=len(X))])
    elif variant == "4x training":
        settings["steps"] = 4 * steps_of(X, seed)
    return choose(X, seed, **settings)[1]


def steps_of(X: np.ndarray, seed: int) -> int:
    """Return the optimizer steps that the default spends on samples."""
    history = choose(X, seed)[0].history_
    return int(max(row["step"] for row in history))


def resample(name: str, number: int) -> np.ndarray:
    """Return a random subsample of 80%."""
    parts = split(name, 0)
    X = np.concatenate([parts.train, parts.test])
    kept = np.random.default_rng(number).permutation(len(X))[: round(0.8 * len(X))]
    return X[kept]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--stability", action="store_true", help="seeds, resamples and changes")
    parser.add_argument("--seconds", type=int, default=900, help="wall-clock limit of a fit")
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    arguments = parser.parse_args()
    if arguments.tables:
        write_dimension(RESULTS)
        return
    restart_beside_peers()
    torch.set_num_threads(1)
    seeds = range(arguments.seeds)
    if arguments.stability:
        cells = [
            {"set": name, "variant": variant, "split": part, "seed": seed}
            for name in arguments.sets or RESAMPLED
            for variant in VARIANTS
            for part in (seeds if variant == VARIANTS[0] else (0,))
            for seed in seeds
        ]
        run(RESULTS / "stability.jsonl", cells, of_resample, seconds=arguments.seconds)
    else:
        names = arguments.sets or TRUTHS
        cells = [{"set": name, "seed": seed} for seed in seeds for name in names]
        run(RESULTS / "dimension.jsonl", cells, of_truth, seconds=arguments.seconds)


if __name__ == "__main__":
    main()
