"""Imputation of tables and fields by the estimator, scikit-learn's imputers and a soft-impute.

Values are hidden from a set, at random or as one run of neighbouring columns (cyclic) in each
sample; each method is given the incomplete set, in units of the observed deviations of its columns,
and predicts what is hidden. The error is the root mean square over the hidden values, in units of
the deviations of the complete columns. A split is another draw of up to 500 samples and of the
hidden values.

The estimator has half as many components as columns, and at most 10. This rule and its training
were chosen on Boston, athletes and wine, which are in the half "tuning"; the half "held" was
measured afterwards.

    python3 dev.py bench imputation
    python3 dev.py bench imputation --tables       # write results/imputation/imputation.md
"""

import argparse
import warnings
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from _cells import read, restart_beside_peers, run, stopwatch
from _sets import SETS
from _tables import half_width, markdown
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from lorae import LowRankAutoencoder
from lorae.linalg.incomplete import choose_factors

Array = np.ndarray
RESULTS = Path(__file__).resolve().parents[1] / "results" / "imputation"
USED = {
    "tuning": ("Boston", "athletes", "wine", "breast cancer", "leaves", "sines"),
    "held": (
        *("baseball", "colleges", "body dimensions", "cells", "diabetes"),
        "Kuramoto-Sivashinsky",
    ),
}
PEERS = ("mean", "KNNImputer", "IterativeImputer", "soft-impute")
PARTS = ("factor model",)
"""A part of ours: the Gaussian model that fills the encoder's input, alone."""
METHODS = ("ours", *PEERS)
KINDS = ("random", "blocks")
RATES = (0.1, 0.3, 0.5)
MOST, COLUMNS = 500, 64
PREFACE = """
Written by `python3 dev.py bench imputation --tables`; the protocol is in the script. Errors are in
units of the deviation of each column, with 95% intervals over splits; the least one of the methods
is bold. The last column is a part of ours alone, the Gaussian model that fills the encoder's input.
"""
COUNTS = """
Over the splits that all five have, ours has the least mean error at {best} of {places} places, and
at most that of the mean at {mean}.
"""


def complete(name: str, split: int) -> Array:
    """Return up to 500 samples of a set, and of more than 64 columns every few."""
    X = np.asarray(SETS[name].load().X, dtype=float)
    X = X.reshape(len(X), -1)
    X = X[np.random.default_rng(split).permutation(len(X))[:MOST]]
    X = X[:, :: -(-X.shape[1] // COLUMNS)]
    return X[:, X.std(0) > 0]


def hide(shape: tuple[int, int], kind: str, rate: float, split: int) -> Array:
    """Return which values are hidden; every sample and column keeps some."""
    n, d = shape
    rng = np.random.default_rng(1000 + split)
    if kind == "random":
        hidden = rng.random(shape) < rate
    else:
        start, length = rng.integers(d, size=(n, 1)), max(1, round(rate * d))
        hidden = (np.arange(d) - start) % d < length
    hidden[hidden.all(1), 0] = False
    hidden[0, hidden.all(0)] = False
    return hidden


def soft_impute(X: Array, rounds: int = 100) -> Array:
    """Return gaps filled by the nuclear norm, whose weight predicts a tenth of the values best.

    Mazumder, Hastie and Tibshirani, Spectral regularization algorithms for learning large
    incomplete matrices (JMLR 2010), with warm starts down a path of 20 weights.
    """
    missing = np.isnan(X)
    check = ~missing & (np.random.default_rng(0).random(X.shape) < 0.1)

    def path(hidden: Array, weights: Array) -> Any:
        filled = np.where(hidden, 0, np.nan_to_num(X))
        for weight in weights:
            for _ in range(rounds):
                U, s, Vh = np.linalg.svd(filled, full_matrices=False)
                low = (U * np.maximum(s - weight, 0)) @ Vh
                new = np.where(hidden, low, np.nan_to_num(X))
                done = np.linalg.norm(new - filled) < 1e-3 * np.linalg.norm(filled)
                filled = new
                if done:
                    break
            yield filled

    largest = np.linalg.svd(np.nan_to_num(X), compute_uv=False)[0]
    weights = largest * np.logspace(-0.05, -2, 20)
    errors = [np.mean((f - X)[check] ** 2) for f in path(missing | check, weights)]
    return list(path(missing, weights[: int(np.argmin(errors)) + 1]))[-1]


def impute(method: str, X: Array, split: int) -> Array:
    """Return X, whose columns have observed mean 0 and variance 1, with its gaps filled."""
    if method == "ours":
        count = max(1, min(10, X.shape[1] // 2))
        return LowRankAutoencoder(n_components=count, random_state=split).fit(X).impute(X)
    if method == "factor model":
        x = torch.from_numpy(X)
        return choose_factors(x).fill(x).numpy()
    if method == "soft-impute":
        return soft_impute(X)
    imputers = {
        "mean": SimpleImputer(),
        "KNNImputer": KNNImputer(),
        "IterativeImputer": IterativeImputer(random_state=split),
    }
    return imputers[method].fit_transform(X)


def measure(set: str, method: str, variant: str, split: int) -> dict[str, Any]:  # noqa: A002
    """Return the error of a method on a set; the variant is a kind and a rate."""
    kind, rate = variant.split()
    X = complete(set, split)
    hidden = hide(X.shape, kind, float(rate), split)
    gaps = np.where(hidden, np.nan, X)
    mean, scale = np.nanmean(gaps, 0), np.nanstd(gaps, 0)
    scale[scale == 0] = 1
    with warnings.catch_warnings(), stopwatch() as found:
        warnings.simplefilter("ignore")
        filled = impute(method, (gaps - mean) / scale, split) * scale + mean
    error = ((filled - X) / X.std(0))[hidden]
    return {"rmse": float(np.sqrt(np.mean(error**2)))} | found


def write_tables(folder: Path) -> None:
    """Write imputation.md from imputation.jsonl of a folder."""
    found: dict[tuple, dict[int, float]] = defaultdict(dict)
    for r in read(folder / "imputation.jsonl"):
        if "rmse" in r:
            found[r["set"], r["variant"], r["method"]][r["split"]] = r["rmse"]
    text = ["# Imputation: root mean squared error of hidden values\n", PREFACE]
    for half, names in USED.items():
        rows, best, mean, places = [], 0, 0, 0
        for name in names:
            for variant in dict.fromkeys(key[1] for key in found if key[0] == name):
                every = {m: found[name, variant, m] for m in (*METHODS, *PARTS)}
                splits = set.intersection(*(set(every[m]) for m in METHODS))
                if not splits:
                    continue
                cells = {m: {s: v for s, v in every[m].items() if s in splits} for m in every}
                means = {m: fmean(cells[m].values()) for m in METHODS}
                least = min(means, key=means.__getitem__)
                places += 1
                best += least == "ours"
                mean += means["ours"] <= means["mean"]
                texts = [
                    format_cell(values, bold=m == least) if values else "-"
                    for m, values in cells.items()
                ]
                rows.append([name, variant, len(splits), *texts])
        text += [
            f'## The half "{half}"\n',
            COUNTS.format(best=best, mean=mean, places=places),
            markdown(("set", "hidden", "splits", *METHODS, *PARTS), rows),
        ]
    (folder / "imputation.md").write_text("\n".join(text))


def format_cell(values: dict[int, float], *, bold: bool) -> str:
    """Return a mean over splits with its interval."""
    # Splits draw samples and hidden values anew; they share samples, as halves of a set do.
    width = half_width(list(values.values()), held=0.5)
    shown = f"{fmean(values.values()):.3f}" + ("" if width is None else f" ± {width:.3f}")
    return f"**{shown}**" if bold else shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=[*METHODS, *PARTS])
    parser.add_argument("--half", nargs="+", default=list(USED))
    parser.add_argument("--splits", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--seconds", type=int, default=900, help="wall-clock limit of a fit")
    parser.add_argument("--tables", action="store_true", help="only write the table")
    arguments = parser.parse_args()
    if not arguments.tables:
        restart_beside_peers()
        torch.set_num_threads(1)
        cells = [
            {"set": name, "method": method, "variant": f"{kind} {rate}", "split": split}
            for split in arguments.splits
            for half in arguments.half
            for method in arguments.methods
            for kind in KINDS
            for rate in RATES
            for name in USED[half]
        ]
        run(RESULTS / "imputation.jsonl", cells, measure, seconds=arguments.seconds)
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_tables(RESULTS)


if __name__ == "__main__":
    main()
