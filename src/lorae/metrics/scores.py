"""The scores of a model: of its reconstructions, samples, interpolations and codes.

Each part of an evaluation is a function from a :class:`lorae.metrics.subject.Subject` to scores. A
part that does not apply to a model or its data yields nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError
from lorae.linalg import spectral
from lorae.linalg.moments import Moments
from lorae.metrics import intrinsic_dimension, protocol
from lorae.metrics.features import Extractor, extract_features
from lorae.metrics.frechet import frechet_distance
from lorae.metrics.kernel_distance import kernel_distance
from lorae.metrics.precision_recall import precision_recall
from lorae.metrics.probes import PROBES, encode_labelled
from lorae.metrics.subject import Subject
from lorae.sampling.interpolation import detour, interpolate
from lorae.sampling.registry import fit_density
from lorae.training.evaluation import evaluate
from lorae.utils.intervals import Interval
from lorae.utils.samples import as_float


@dataclass(frozen=True)
class Score:
    """One figure of a model."""

    part: str
    name: str
    of: str
    values: tuple[float, ...]

    @property
    def interval(self) -> Interval:
        """Mean and 95% confidence interval."""
        return Interval(self.values)

    def to_dict(self) -> dict[str, Any]:
        """Return the score as values for JSON."""
        return vars(self) | self.interval.to_dict()


def compare_features(
    real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], extractor: Extractor
) -> dict[str, float]:
    """Return every distance of two sets of features by name.

    Only distances between features of Inception are called FID and KID.
    """
    inception = extractor.name == "inception"
    names = ("FID", "KID") if inception else ("classifier distance", "classifier kernel distance")
    dimension = real.shape[1]
    moments = [Moments(dimension).update(features) for features in (real, generated)]
    return {
        names[0]: frechet_distance(*moments),
        names[1]: kernel_distance(real, generated).value,
    } | vars(precision_recall(real, generated))


def reconstruction(subject: Subject) -> Iterator[Score]:
    """Yield the error on all test samples, and the distance of reconstructions from originals."""
    figures = evaluate(subject.model, subject.data.test)
    error = figures.reconstruction
    if error is None:
        return
    yield Score("reconstruction", "error", "test", (error,))
    if subject.data.schema is not None:
        for column, share in zip(subject.data.schema.categorical, figures.accuracy, strict=True):
            yield Score("reconstruction", f"accuracy of {column.name}", "test", (share,))
    if subject.extractor is not None:
        images = subject.images(subject.codes("test"))
        yield from _scores("reconstruction", "test", [_compare(subject, images, "reconstructions")])


def generation(subject: Subject) -> Iterator[Score]:
    """Yield the distances of images decoded from densities of the codes from the test images."""
    if subject.extractor is None:
        return
    default = ("prior",) if subject.model.prior else ("gaussian", "mixture-10")
    for name in subject.protocol.densities or default:
        density = fit_density(subject.model, lambda: subject.codes("train"), name)
        repeats = []
        for seed in subject.protocol.seeds:
            codes = density.sample(len(subject.test), torch.Generator().manual_seed(seed))
            repeats.append(_compare(subject, subject.images(codes), f"{name}, seed {seed}"))
        yield from _scores("generation", name, repeats)


def interpolation(subject: Subject) -> Iterator[Score]:
    """Yield the distances of images between pairs of test codes, and the detour of the paths."""
    if not subject.model.inverts or subject.extractor is None:
        return
    codes, repeats = subject.codes("test"), []
    for seed in subject.protocol.seeds:
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(codes), generator=generator)
        t = torch.rand(len(codes), 1, generator=generator)
        images = subject.images(torch.lerp(codes, codes[order], t))
        found = _compare(subject, images, f"interpolations, seed {seed}")
        pairs = min(50, len(codes) // 2)
        paths = interpolate(codes[order[:pairs]], codes[order[pairs : 2 * pairs]], 11)
        shown = subject.images(paths.flatten(0, 1))
        points = {
            "pixels": shown.float().flatten(1),
            "features": extract_features(subject.extractor, shown, f"paths, seed {seed}"),
        }
        for space, x in points.items():
            ratios = detour(x.view(*paths.shape[:2], -1))
            found[f"detour in {space}"] = float(ratios.nanmean())
        repeats.append(found)
    yield from _scores("interpolation", "linear", repeats)


def dimensions(subject: Subject) -> Iterator[Score]:
    """Yield the dimension of the codes and of the data by every estimator.

    The data are scaled as the model sees them, so that a column in large units does not decide.
    Training samples fill up a small test set.
    """
    data, population = subject.data, subject.population
    many = len(data.test) >= subject.protocol.samples
    found = evaluate(subject.model, data.test if many else population)
    spectra = {"codes": found.covariance}
    if subject.model.bridge.learns_matrix:
        spectra["M"] = found.matrix
    for of, sigma in spectra.items():
        for threshold, rank in spectral.rank_profile(sigma).items():
            yield Score("dimension", f"rank at {threshold:.0e}", of, (float(rank),))
    effective = float(spectral.effective_rank(found.covariance))
    yield Score("dimension", "effective rank", "codes", (effective,))
    estimators = {
        "PCA, 95%": intrinsic_dimension.pca_dimension,
        "TwoNN": intrinsic_dimension.two_nn,
        "maximum likelihood": intrinsic_dimension.maximum_likelihood,
    }
    samples = (as_float(population) - data.shift) / data.scale
    if subject.model.gaps is not None:
        samples = subject.model.gaps.fill(samples.to(subject.model.shift)).cpu()
    samples = samples.flatten(1)
    for of, points in (("codes", subject.codes("population")), ("data", samples)):
        for name, estimate in estimators.items():
            with suppress(InputError):  # too few distinct samples
                yield Score("dimension", name, of, (float(estimate(points)),))
        with suppress(InputError):
            for name, value in intrinsic_dimension.scikit_dimension(points).items():
                yield Score("dimension", name, of, (value,))
    with suppress(InputError):
        train, test = subject.codes("train"), subject.codes("test")
        ratios = intrinsic_dimension.relative_contrast(train, test)
        for share in (0.0, 0.05, 0.5):
            name = f"min-max distance ratio, quantile {share:g}"
            yield Score("dimension", name, "codes", (float(ratios.quantile(share)),))


def classification(subject: Subject) -> Iterator[Score]:
    """Yield the test accuracy of probes on codes of labelled samples."""
    data, protocol = subject.data, subject.protocol
    if data.train_labels is None or data.test_labels is None or data.train_labels.ndim != 1:
        return
    codes = encode_labelled(subject.model, data)
    for n in protocol.labels:
        draws = [codes.draw(n, seed) for seed in protocol.seeds]
        for name in protocol.probes:
            values = [PROBES[name](draw, seed=k) for k, draw in enumerate(draws)]
            yield Score("classification", f"{name}, {n} labels", "codes", tuple(values))


def _compare(subject: Subject, images: Tensor, label: str) -> dict[str, float]:
    """Return the distances of images from the test images in use."""
    assert subject.extractor is not None
    features = extract_features(subject.extractor, images, label)
    return compare_features(subject.real_features, features, subject.extractor)


def _scores(part: str, of: str, repeats: Sequence[Mapping[str, float]]) -> Iterator[Score]:
    """Yield a score for each name, with the values of all repeats."""
    for name in repeats[0]:
        yield Score(part, name, of, tuple(found[name] for found in repeats))


_FUNCTIONS = (reconstruction, generation, interpolation, dimensions, classification)
PARTS: dict[str, Callable[[Subject], Iterator[Score]]] = dict(
    zip(protocol.PARTS, _FUNCTIONS, strict=True)
)
"""The parts of an evaluation by name."""
