"""LowRankAutoencoder at its defaults and its peers, by held-out reconstruction at equal k.

Of each set (`_sets.py`) a quarter of the samples is held out, five times. Recorded for each method
and number of codes k:

- lost: squared error of held-out samples, as a share of their squared deviation from the training
  samples' mean;
- first: the same from the first j codes of that fit alone, for methods whose codes are ordered;
- wrong: error of 5 nearest neighbours in the codes, where the set has labels;
- seconds: of `fit`, processor time of one thread.

    python3 dev.py bench estimator --methods peers --splits 1    # measure what is missing
    python3 dev.py bench estimator --methods ours
    python3 dev.py bench estimator --tables                      # write results/estimator/*.md

Peers are in `_peers.py`, with their settings. They need an environment of their own, which is
created at first use. The measurements are in results/estimator/peers.jsonl and ours.jsonl; delete a
file, or lines of it, to measure again. `faces` needs CelebA (see `lorae.data`).
"""

import argparse
from typing import Any

import numpy as np
import torch
from _cells import RESULTS, restart_beside_peers, run, stopwatch
from _peers import PEERS
from _sets import SETS, Split, split
from _tables import write_reconstruction
from sklearn.neighbors import KNeighborsClassifier

import lorae

KS = (1, 2, 3, 5, 10, 20)
SPLITS = 5
EARLY = ("PCA", "plain", "plain, no path", "plain, early")
"""Peers that are measured first, and the only ones for sets of many samples or values."""


class Ours:
    """The estimator at its defaults. Images give the same networks as their columns."""

    def __init__(self, k: int, seed: int) -> None:
        self.model = lorae.LowRankAutoencoder(n_components=k, random_state=seed)

    def fit(self, X: np.ndarray) -> None:
        self.model.fit(X)

    def encode(self, X: np.ndarray) -> np.ndarray:
        return self.model.transform(X)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return np.asarray(self.model.inverse_transform(codes)).reshape(len(codes), -1)


OURS = ("ours",)
ORDERED = ("PCA", *OURS)


def obstacle(method: str, k: int, parts: Split) -> str | None:
    """Return why a method is not run, or None."""
    n, d = parts.train.shape
    if method == "UMAP" and not (2 <= k <= 5 and n <= 3000):
        return "the inverse needs 2 to 5 codes; at most 3,000 samples"
    if method not in (*EARLY, *OURS) and n * d > 3_000_000:
        return "too large for what it takes"
    return None


def measure(set: str, method: str, k: int, split: int) -> dict[str, Any]:  # noqa: A002
    """Return the figures of one fit."""
    parts = load(set, split)
    reason = obstacle(method, k, parts)
    if reason:
        return {"skipped": reason}
    model = Ours(k, split) if method in OURS else PEERS[method](k, split)
    with stopwatch() as watch:
        model.fit(parts.train)
    codes = np.asarray(model.encode(parts.test))
    found: dict[str, Any] = {"lost": lost(parts, model.decode(codes)), **watch}
    if method in ORDERED:
        cut = codes.shape[1] if method == "PCA" else 0  # which takes all its codes, or zeros
        alone = {j: np.pad(codes[:, :j], [(0, 0), (0, max(0, cut - j))]) for j in KS if j < k}
        found["first"] = {j: lost(parts, model.decode(part)) for j, part in alone.items()}
    if parts.train_labels is not None:
        neighbours = KNeighborsClassifier(5).fit(model.encode(parts.train), parts.train_labels)
        found["wrong"] = 1 - float(neighbours.score(codes, parts.test_labels))
    return found


def lost(parts: Split, decoded: np.ndarray) -> float:
    deviation = parts.test - parts.train.mean(0)
    return float(((decoded - parts.test) ** 2).sum() / (deviation**2).sum())


def load(name: str, seed: int, last: dict = {}) -> Split:  # noqa: B006 - keeps the last split
    """Return a split; the last one is kept, as the cells of a set follow one another."""
    if (name, seed) not in last:
        last.clear()
        last[name, seed] = split(name, seed)
    return last[name, seed]


def cells(methods: list[str], sets: list[str], splits: int) -> list[dict[str, Any]]:
    """Return the cells in the order in which they are measured, small sets first."""
    first = [method for method in methods if method in (*EARLY, *OURS)]
    rest = [method for method in methods if method not in first]
    shapes = {}
    for name in sets:
        parts = load(name, 0)
        shapes[name] = parts.train.shape
    ordered = sorted(sets, key=lambda name: np.prod(shapes[name]))
    return [
        {"set": name, "method": method, "k": k, "split": number}
        for number in range(splits)
        for group in (first, *([method] for method in rest))
        for name in ordered
        for method in group
        for k in KS
        if k < min(shapes[name])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["ours"], help="names, ours or peers")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="names")
    parser.add_argument("--half", choices=("tuning", "held"), help="only the sets of a half")
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--seconds", type=int, default=300, help="wall-clock limit of a fit")
    parser.add_argument("--file", help="name in results/estimator, instead of ours or peers")
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    arguments = parser.parse_args()
    if arguments.tables:
        write_reconstruction(RESULTS)
        return
    restart_beside_peers()
    torch.set_num_threads(1)
    expanded = {"ours": list(OURS), "peers": list(PEERS)}
    methods = [name for given in arguments.methods for name in expanded.get(given, [given])]
    sets = [n for n in arguments.sets if arguments.half in (None, SETS[n].half)]
    for kind, names in (("ours", OURS), ("peers", PEERS)):
        chosen = [method for method in methods if method in names]
        path = RESULTS / f"{arguments.file or kind}.jsonl"
        run(path, cells(chosen, sets, arguments.splits), measure, seconds=arguments.seconds)


if __name__ == "__main__":
    main()
