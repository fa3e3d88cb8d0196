"""The number of components that "auto" chooses on data of known dimension.

PCA (95% of the variance), TwoNN and maximum likelihood estimate the same samples. An autoencoder
needs as many codes as the smallest flat space that holds the manifold without self-intersection has
dimensions, which for closed manifolds is one more than their dimension.

    python3 dev.py bench dimension
    python3 dev.py bench dimension --samples 1000 --steps 500
"""

import argparse
import time

import numpy as np
import torch
from _manifolds import MANIFOLDS

from lorae import LowRankAutoencoder, data
from lorae.metrics import intrinsic_dimension as dimension


def main() -> None:
    """Print a row for each set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--width", type=float, default=0.25, help="of the networks of images")
    parser.add_argument("--only", nargs="*", default=[*MANIFOLDS, "shapes"])
    arguments = parser.parse_args()
    print(
        f"torch {torch.__version__}, {arguments.samples} samples, {arguments.steps} steps, seed 0"
    )
    print(
        "data                   dimension  needs   auto  explained  PCA 95%  TwoNN    ML  seconds"
    )
    for name in arguments.only:
        if name == "shapes":
            x = data.load("shapes", count=arguments.samples).train
            truth, needs = 7, 7
        else:
            truth, needs, draw = MANIFOLDS[name]
            x = draw(arguments.samples, np.random.default_rng(0))
        width = arguments.width if x.ndim == 4 else 1.0
        start = time.perf_counter()
        reducer = LowRankAutoencoder(steps=arguments.steps, width=width, random_state=0).fit(x)
        seconds = time.perf_counter() - start
        flat = x.flatten(1).float()
        print(
            f"{name:22} {truth:9} {needs:6} {reducer.n_components_:6} {reducer.score(x):10.3f} "
            f"{dimension.pca_dimension(flat):8} {dimension.two_nn(flat):6.1f} "
            f"{dimension.maximum_likelihood(flat):5.1f} {seconds:8.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
