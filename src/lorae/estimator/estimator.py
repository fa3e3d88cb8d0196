r"""LowRankAutoencoder: a nonlinear PCA that finds its number of components, for scikit-learn.

Encoder and decoder are networks; between them lie exactly `n_components_` numbers, the coordinates
of :mod:`lorae.estimator.coordinates`: centred, uncorrelated, ordered by the variance that they carry.
"""

import dataclasses
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted
from torch import Tensor, nn

from lorae.errors import InputError, unknown
from lorae.estimator import archive
from lorae.estimator.attributes import TINY, set_attributes
from lorae.estimator.containers import Container, as_array, as_training, taken
from lorae.estimator.fitting import fresh_model, trained
from lorae.estimator.rank_reduction import Trainer
from lorae.estimator.validation import check_arguments, is_whole
from lorae.nn.autoencoder import Autoencoder, clone
from lorae.nn.inference import decode_all, encode_all, squared_errors
from lorae.objectives.base import AE
from lorae.sampling.interpolation import between
from lorae.sampling.registry import DENSITIES, fit_density
from lorae.utils.seeding import ALONE, seeded

Array = np.ndarray[Any, Any]


class LowRankAutoencoder(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    r"""Autoencoder of an exact, low rank, whose codes are coordinates like those of PCA.

    Samples are vectors (arrays, data frames, tensors of shape n x D) or images (arrays or tensors
    of shape n x h x w, n x h x w x c or n x c x h x w, with sides of 8 or more). Bytes are taken
    for images from 0 to 255. The networks fit the samples: convolutions for images, layers with a
    linear path that starts from principal components for vectors.

    Args:
        n_components: how many coordinates. A whole number: exactly so many. A share in (0, 1): the
            smallest number that keeps this share of the variance that the unconstrained
            autoencoder explains, on held-out samples. "auto": the smallest number whose held-out
            error is the least to one standard error, or to a hundredth of the explained variance
            (:mod:`lorae.estimator.model_selection`).
        latent: latent size to come down from; by default 64, or twice `n_components` and at least
            32 where that is a number, and never more than a sample has values.
        encoder: a module from samples, scaled, to n x latent; a copy of it is trained on. By
            default one that fits the samples.
        decoder: a module back; both or none must be given.
        width: factor on the hidden widths of the default networks.
        steps: optimizer steps of a single training; by default 100 passes over the samples, within
            300 and 10,000 steps. A chosen number of components takes about 2.5 times as many.
        batch_size: samples in a step, at most.
        learning_rate: step size of Adam.
        validation_fraction: share of the samples that is held out to choose the number of
            components, above 0 and at most 0.5; none are held out where it is given.
        standardize: whether columns of vectors are scaled to variance 1 before all else. If not,
            they are centred, and variances and errors have their units.
        whiten: whether coordinates are divided by their standard deviations.
        image_shape: shape of the images that flat samples are, such as (28, 28).
        density: what new codes are drawn from: gaussian, mixture-4, mixture-10, mixture-auto or
            flow.
        warm_start: whether `fit` goes on from the last fit, where samples are of the same shape
            and no more components are asked for.
        device: auto, cpu, cuda or mps.
        random_state: seed, or generator, of weights and batches.

    Attributes:
        n_components_: number of coordinates r; the networks have exactly so many codes.
        explained_variance_: variances of the coordinates over the training samples, descending.
            Their sum is the variance that reconstructions explain: that of the samples minus their
            squared error. Each is, to first order, the variance that its coordinate carries in the
            data: the mean squared length of what a unit step along it does there.
        explained_variance_ratio_: the same, divided by the variance of the samples.
        singular_values_: square roots of the explained variances times the number of samples
            minus one.
        components_: mean derivative of the reconstruction by each coordinate over training
            samples, r x n_features. Of linear networks these are PCA's components.
        mean_: mean of the training samples, in scaled units.
        reconstruction_error_: mean squared error over training samples and their values, in scaled
            units.
        ranks_: number of singular values above a share of the largest, at 1e-1 to 1e-6, of two
            matrices: the covariance of the whitened codes, and the one of the coordinates.
        path_: the points of the walk down the ranks, each with its model, where the number of
            components was chosen; else empty.
        history_: a line for every 50 steps: phase, step, loss and rank.
        model_: the autoencoder, whose codes are the coordinates.
        n_features_in_: number of values of a sample.
        feature_names_in_: names of the columns of a data frame.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X = load_iris().data
        >>> reducer = LowRankAutoencoder(n_components=2, random_state=0).fit(X)
        >>> reducer.transform(X).shape, reducer.score(X) > 0.95
        ((150, 2), True)
    """

    def __init__(  # as scikit-learn has it, `fit` checks what is stored here
        self,
        *,
        n_components: Any = "auto",
        latent: Any = None,
        encoder: Any = None,
        decoder: Any = None,
        width: Any = 1.0,
        steps: Any = None,
        batch_size: Any = 100,
        learning_rate: Any = 1e-3,
        validation_fraction: Any = 0.1,
        standardize: Any = True,
        whiten: Any = False,
        image_shape: Any = None,
        density: Any = "mixture-auto",
        warm_start: Any = False,
        device: Any = "auto",
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.latent = latent
        self.encoder = encoder
        self.decoder = decoder
        self.width = width
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.standardize = standardize
        self.whiten = whiten
        self.image_shape = image_shape
        self.density = density
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state

    # Fitting

    def fit(self, X: Any, y: object = None) -> Self:  # noqa: ARG002 - scikit-learn's signature
        """Train on samples, and return self.

        Raises:
            InputError: if an argument or the samples are unfit.
            Diverged: if the loss is not finite.

        Warns:
            ConvergenceWarning: if the networks explain less than a hundredth of the variance of
                held-out samples, or of the training samples where `n_components` is a number.
        """
        earlier = getattr(self, "container_", None)
        samples, self.container_ = taken(self, X, self.image_shape, reset=True)
        samples, n = as_training(samples), len(samples)
        check_arguments(self.get_params(deep=False), n, self.container_.values)
        share = 0.0 if is_whole(self.n_components) else max(self.validation_fraction, 2 / n)
        trainer = self._trainer(samples, share)
        steps = self.steps or min(max(100 * trainer.sampler.per_epoch, 300), 10_000)
        with seeded(trainer.seed):
            model = self._before(earlier)
            if model is None:
                with ALONE, seeded(trainer.seed):
                    model = self._fresh(trainer.training_samples.cpu())
            model = model.to(trainer.fabric.device)
            model, self.path_ = trained(trainer, model, self.n_components, steps)
            set_attributes(self, model, trainer.training_samples)
        self.history_ = trainer.history
        return self

    def partial_fit(self, X: Any, y: object = None) -> Self:
        """Train on one more batch of samples, and return self.

        The first call is a :meth:`fit`, which settles the number of components. Later ones make
        one pass over the new samples with the networks as they are, and then align the coordinates
        with these samples, so codes of earlier samples change.
        """
        if not hasattr(self, "model_"):
            return self.fit(X, y)
        samples = as_training(taken(self, X, self.image_shape, reset=False)[0])
        check_arguments(self.get_params(deep=False) | {"n_components": 1}, len(samples), 1)
        trainer = self._trainer(samples, 0.0)
        model = clone(self.model_).to(trainer.fabric.device)
        with seeded(trainer.seed):
            trainer.run("partial fit", AE(model), trainer.sampler.per_epoch)
            set_attributes(self, model, samples)
        self.history_ = [*self.history_, *trainer.history]
        return self

    def _trainer(self, samples: Tensor, share: float) -> Trainer:
        """Return what trains on samples, with a share of them held out."""
        return Trainer(
            samples,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            held_out=round(share * len(samples)),
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
            device=self.device,
        )

    def _before(self, container: Container | None) -> Autoencoder | None:
        """Return a copy of the model to go on from, if it fits; the container was its samples'."""
        if not self.warm_start or container is None or not hasattr(self, "model_"):
            return None
        wanted = self.n_components if is_whole(self.n_components) else 1
        same = container.shape == self.container_.shape and container.sample == (
            self.container_.sample
        )
        return clone(self.model_) if same and wanted <= self.n_components_ else None

    def _fresh(self, samples: Tensor) -> Autoencoder:
        wanted = self.n_components if is_whole(self.n_components) else 32
        own = None
        if self.encoder is not None and self.decoder is not None:
            own = self.encoder, self.decoder
        return fresh_model(
            samples,
            self.container_,
            self.latent or max(32, 2 * wanted),
            width=self.width,
            standardize=self.standardize,
            modules=own,
        )

    # Using

    def transform(self, X: Any) -> Any:
        """Return the coordinates of samples, n x n_components_: a tensor for a tensor.

        They are computed in the precision of the samples, bytes in float32.

        Raises:
            InputError: if the samples are not of the shape of those that were fitted.
        """
        codes = encode_all(self.model_, self._taken(X))
        if self.whiten:
            codes /= self._deviations(codes)
        return codes if isinstance(X, Tensor) else codes.numpy()

    def inverse_transform(self, codes: Any) -> Any:
        """Return the samples that coordinates stand for, in what the fitted samples were in.

        Args:
            codes: n x k with k at most n_components_: the first k coordinates, the others being at
                their mean, 0.

        Raises:
            InputError: if there are more columns.
        """
        check_is_fitted(self)
        array = check_array(as_array(codes), dtype=[np.float64, np.float32])
        missing = self.n_components_ - array.shape[1]
        if missing < 0:
            raise InputError(
                f"codes must have at most {self.n_components_} columns, got {array.shape[1]}"
            )
        z = torch.from_numpy(np.pad(array, [(0, 0), (0, missing)]))
        if self.whiten:
            z = z * self._deviations(z)
        return self.container_.give(decode_all(self.model_, z))

    def score_samples(self, X: Any) -> Array:
        """Return the reconstruction error of each sample, the mean square over its values."""
        errors: Array = self._squares(X)[0].numpy()
        return errors

    def score(self, X: Any, y: object = None) -> float:  # noqa: ARG002
        """Return the share of the variance of samples, around the training mean, that is explained.

        1 is best; 0 is what the training mean gets, and below is worse than that.
        """
        errors, apart = self._squares(X)
        return 1 - float(errors.sum() / apart.sum().clamp(min=TINY))

    def sample(
        self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> Any:
        """Return new samples, in what the fitted samples were in.

        Codes are drawn from the `density`, fitted to those of up to 10,000 training samples.

        Args:
            n_samples: how many, 1 or more.
            random_state: seed or generator; that of the estimator by default.
        """
        check_is_fitted(self)
        if not (is_whole(n_samples) and n_samples >= 1):
            raise InputError(f"n_samples must be a whole number of 1 or more, got {n_samples!r}")
        if self.density not in DENSITIES or self.density == "prior":
            raise unknown("density", self.density, set(DENSITIES) - {"prior"})
        state = self.random_state if random_state is None else random_state
        generator = torch.Generator().manual_seed(check_random_state(state).randint(2**31 - 1))
        density = fit_density(self.model_, lambda: self.codes_, self.density)
        return self.container_.give(
            decode_all(self.model_, density.sample(int(n_samples), generator))
        )

    def interpolate(self, starts: Any, ends: Any, steps: int = 10, kind: str = "linear") -> Any:
        """Return samples on the way between samples, both ends reconstructed.

        Args:
            starts: n samples.
            ends: n samples.
            steps: on each way, at least 2.
            kind: "linear" in the coordinates, or "spherical" around their mean.

        Returns:
            n x steps x the shape of a sample; an array for data frames.
        """
        a, b = (encode_all(self.model_, self._taken(part)) for part in (starts, ends))
        if len(a) != len(b):
            raise InputError(f"starts and ends must be as many, got {len(a)} and {len(b)}")
        paths = between(a, b, steps, kind)
        plain = dataclasses.replace(
            self.container_, kind="tensor" if self.container_.kind == "tensor" else "array"
        )
        samples = plain.give(decode_all(self.model_, paths.flatten(0, 1)))
        return samples.reshape(*paths.shape[:2], *self.container_.sample)

    def to(self, device: str) -> Self:
        """Move the model to a device, such as cpu or cuda, and return self."""
        check_is_fitted(self)
        try:
            self.model_.to(device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"device {device!r} cannot be used: {reason}") from None
        return self

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator to one safetensors file: no pickle, and a checksum.

        Modules of the user's own are not in it, only their weights.
        """
        check_is_fitted(self)
        archive.save(self, Path(path))

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> Self:
        """Return the estimator that :meth:`save` wrote, on the CPU.

        Args:
            path: of the file.
            encoder: where it was of the user's own, one of the same layers.
            decoder: the same.

        Raises:
            InputError: if the file is missing, cut short, altered, of a newer version or of other
                modules.
        """
        loaded: Self = archive.load(cls, Path(path), encoder, decoder)
        return loaded

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with the model on the CPU, for a machine that may have no other."""
        state: dict[str, Any] = super().__getstate__()
        if "model_" in state and state["model_"].shift.device.type != "cpu":
            state["model_"] = clone(state["model_"]).cpu()
        return state

    @property
    def _n_features_out(self) -> int:  # scikit-learn makes names from it
        return len(self.explained_variance_)

    def _taken(self, X: Any) -> Tensor:
        check_is_fitted(self)
        return taken(self, X, self.image_shape, reset=False)[0]

    def _deviations(self, like: Tensor) -> Tensor:
        return torch.from_numpy(np.sqrt(self.explained_variance_)).clamp(min=TINY).to(like)

    def _squares(self, X: Any) -> tuple[Tensor, Tensor]:
        samples = self._taken(X)
        mean = torch.from_numpy(self.mean_).view(samples.shape[1:])
        errors, apart = squared_errors(self.model_, samples, mean)
        return errors * self.unit_**2, apart * self.unit_**2
