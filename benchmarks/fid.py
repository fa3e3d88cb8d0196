"""How reliable an FID is: agreement with independent computations, and the effect of each choice.

First the distance of the same features in three ways: by this package, by torchmetrics, and by
SciPy's square root of the product of the covariances. Then, on MNIST, the effect of the number of
images, of resizing and of the precision of the extractor. Generated images are decoded from a
mixture of 10 fitted to the training codes of a run; real images are test images, and other test
images stand for a perfect model.

On one CPU core Inception takes about 0.15 s per image and SciPy's square root minutes, so the
benchmark takes half an hour.

    python3 dev.py bench fid runs/demo/lorae-data-space
    python3 dev.py bench fid runs/demo/lorae-data-space --counts 100 --photos celeba
"""

import argparse
import warnings
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from _timing import machine
from scipy.linalg import sqrtm
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from lorae import data
from lorae.cli.samples import sample_run
from lorae.linalg.moments import Moments
from lorae.metrics.features import as_bytes, extract_features
from lorae.metrics.frechet import frechet_distance
from lorae.metrics.inception import RESIZES, Inception
from lorae.metrics.kernel_distance import kernel_distance
from lorae.training.options import data_of
from lorae.training.run_folder import Run
from lorae.utils.samples import subsample

FEW = 40  # far fewer than the 2,048 features, so that the covariances are singular


class Identity(nn.Module):
    """Stands in for torchmetrics' extractor, and returns the features it is given."""

    num_features = 2048

    def forward(self, x: Tensor) -> Tensor:
        """Return the features."""
        return x


def ours(x: Tensor, y: Tensor) -> float:
    return frechet_distance(Moments(x.shape[1]).update(x), Moments(y.shape[1]).update(y))


def by_torchmetrics(x: Tensor, y: Tensor) -> float:
    metric = FrechetInceptionDistance(feature=Identity()).set_dtype(torch.float64)
    metric.update(x.double(), real=True)
    metric.update(y.double(), real=False)
    return float(metric.compute())


def by_scipy(x: Tensor, y: Tensor) -> float:
    a, b = x.double().numpy(), y.double().numpy()
    A, B = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    with warnings.catch_warnings():  # of singular matrices, which these may be
        warnings.simplefilter("ignore")
        root = sqrtm(A @ B)
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return float(shift + np.trace(A) + np.trace(B) - 2 * np.trace(root.real))


def parity(pairs: dict[str, tuple[Tensor, Tensor]]) -> Iterator[str]:
    """Yield the table of distances, a row for each pair of sets of features."""
    yield "| sets | images of each | ours | torchmetrics | SciPy | largest relative difference |"
    yield "|---|---|---|---|---|---|"
    for name, (x, y) in pairs.items():
        found = [ours(x, y), by_torchmetrics(x, y), by_scipy(x, y)]
        apart = max(abs(other - found[0]) for other in found[1:]) / max(found[0], 1e-12)
        shown = " | ".join(f"{value:.5f}" for value in found)
        difference = f"{apart:.1e}" if found[0] > 1e-6 else "-"
        yield f"| {name} | {len(x):,} | {shown} | {difference} |"


def budget(sets: dict[str, tuple[Tensor, Tensor, Tensor]], counts: list[int]) -> Iterator[str]:
    """Yield the table of effects, from features of real, other real and generated images."""
    yield "| extractor | images of each | FID generated | FID real | KID generated | KID real |"
    yield "|---|---|---|---|---|---|"
    for name, every in sets.items():
        for count in counts:
            real, other, generated = (x[:count] for x in every)
            kid = [kernel_distance(real, x) for x in (generated, other)]
            kids = " | ".join(f"{1e3 * k.value:.2f} ± {1e3 * k.error:.2g}" for k in kid)
            fid = " | ".join(f"{ours(real, x):.2f}" for x in (generated, other))
            yield f"| {name} | {count:,} | {fid} | {kids} |"


def photos(name: str, count: int) -> tuple[Tensor, Tensor]:
    """Return two sets of images from a folder or named data set."""
    found = data.load(name) if name in data.DATASETS else data.load(name, size=64)
    images = subsample(torch.cat([found.train[:count], found.test[:count]]), 2 * count)
    a, b = (as_bytes(found.unit(part)) for part in images.chunk(2))
    return a, b


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run on MNIST")
    parser.add_argument("--counts", type=int, nargs="*", default=[250, 500, 1000])
    parser.add_argument("--photos", help="a folder of photographs, or celeba: a row of parity")
    arguments = parser.parse_args()
    run, counts = Run.open(arguments.run), sorted(arguments.counts)
    origin, most = data_of(run), max(counts)
    test = as_bytes(origin.unit(subsample(origin.test, 2 * most)))
    images = (*test.chunk(2), torch.cat(list(sample_run(run, origin, most, "mixture-10", 0))))
    extractors = {f"float32, {resize}": Inception(resize) for resize in RESIZES}
    extractors |= {"bfloat16, bicubic": Inception(precision="bfloat16")}
    sets = {
        name: tuple(extract_features(extractor, x, name) for x in images)
        for name, extractor in extractors.items()
    }
    real, other, generated = sets["float32, bicubic"]
    pairs = {
        "generated, real": (real, generated),
        "generated, real: singular covariances": (real[:FEW], generated[:FEW]),
        "real, other real": (real, other),
        "real, the same": (real, real),
        "generated, real: features rounded to half precision": (
            real.half().float(),
            generated.half().float(),
        ),
    }
    if arguments.photos:
        halves = photos(arguments.photos, min(most, 300))
        x, y = (extract_features(extractors["float32, bicubic"], part, "photos") for part in halves)
        pairs["photographs, others"] = (x, y)
    print(f"{machine()}; {run.name} on {origin.name}\n")
    for row in chain(parity(pairs), [""], budget(sets, counts)):
        print(row, flush=True)


if __name__ == "__main__":
    main()
