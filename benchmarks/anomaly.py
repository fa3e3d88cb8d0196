"""Anomaly scores of the estimator, of PCA's reconstruction error and of IsolationForest.

Fitted to normal samples, three quarters of them; scored are the others and the anomalies. Recorded
are the area under the ROC curve, and for the estimator the share of held-out normal samples whose
p-value is at most 0.05.

- breast cancer: benign tumours are normal, malignant ones are not;
- digits: 0 to 8 are normal, 9 is not;
- Kuramoto-Sivashinsky: snapshots are normal, fields with the same spectrum and random phases are
  not.

    python3 dev.py bench anomaly
    python3 dev.py bench anomaly --tables       # write results/estimator/anomaly.md
"""

import argparse
from typing import Any

import numpy as np
import torch
from _cells import RESULTS, restart_beside_peers, run
from _fields import kuramoto_sivashinsky
from _tables import write_anomaly
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from lorae import LowRankAutoencoder

Array = np.ndarray
METHODS = ("ours", "PCA", "IsolationForest")


def breast_cancer() -> tuple[Array, Array]:
    X, benign = load_breast_cancer(return_X_y=True)
    normal = X[benign == 1]
    scaled = (X - normal.mean(0)) / normal.std(0)
    return scaled[benign == 1], scaled[benign == 0]


def digits() -> tuple[Array, Array]:
    X, labels = load_digits(return_X_y=True)
    return X[labels < 9], X[labels == 9]


def scrambled_fields() -> tuple[Array, Array]:
    X = kuramoto_sivashinsky(4000, seed=0)
    normal, others = X[:3000], np.fft.rfft(X[3000:])
    turns = np.random.default_rng(0).uniform(0, 2 * np.pi, size=others.shape)
    return normal, np.fft.irfft(others * np.exp(1j * turns), X.shape[1])


SETS = {
    "breast cancer": breast_cancer,
    "digits": digits,
    "Kuramoto-Sivashinsky": scrambled_fields,
}
"""Normal samples and anomalies by name."""


def measure(set: str, method: str, split: int) -> dict[str, Any]:  # noqa: A002
    """Return the figures of one method; scores are higher for anomalies."""
    normal, anomalies = SETS[set]()
    train, test = train_test_split(normal, test_size=0.25, random_state=split)
    alarms = None
    if method == "ours":
        model = LowRankAutoencoder(n_components="auto", random_state=split).fit(train)
        scores = [-np.asarray(model.score_samples(part)) for part in (test, anomalies)]
        alarms = false_alarms(model, test)
    elif method == "PCA":
        pca = PCA(0.95, svd_solver="full").fit(train)
        scores = [
            ((pca.inverse_transform(pca.transform(part)) - part) ** 2).sum(1)
            for part in (test, anomalies)
        ]
    else:
        forest = IsolationForest(random_state=split).fit(train)
        scores = [-forest.score_samples(part) for part in (test, anomalies)]
    truth = np.repeat([0, 1], [len(test), len(anomalies)])
    return {"area": float(roc_auc_score(truth, np.concatenate(scores))), "alarms": alarms}


def false_alarms(model: LowRankAutoencoder, test: Array) -> float | None:
    """Return the share of normal samples with a p-value of at most 0.05, if the model has them."""
    if not hasattr(model, "anomaly_score"):
        return None
    return float((np.asarray(model.anomaly_score(test)) >= 0.95).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=900, help="wall-clock limit of a fit")
    parser.add_argument("--tables", action="store_true", help="only write the table")
    arguments = parser.parse_args()
    if not arguments.tables:
        restart_beside_peers()
        torch.set_num_threads(1)
        cells = [
            {"set": name, "method": method, "split": split}
            for split in range(arguments.splits)
            for method in arguments.methods
            for name in arguments.sets
        ]
        run(RESULTS / "anomaly.jsonl", cells, measure, seconds=arguments.seconds)
    write_anomaly(RESULTS)


if __name__ == "__main__":
    main()
