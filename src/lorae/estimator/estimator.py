"""LowRankAutoencoder: a nonlinear PCA that finds its number of components, for scikit-learn."""

import dataclasses
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import Tensor, nn

from lorae.errors import InputError
from lorae.estimator.inputs import InputFormat, read_samples, to_array, to_training_dtype
from lorae.estimator.model_selection import train_and_select
from lorae.estimator.networks import build_model
from lorae.estimator.rank_reduction import Trainer
from lorae.estimator.serialization import load_fitted, save_fitted
from lorae.estimator.statistics import TINY, fit_statistics
from lorae.estimator.validation import check_n_components, check_training, is_integer
from lorae.nn.autoencoder import Autoencoder, clone
from lorae.nn.inference import decode_all, encode_all, squared_errors
from lorae.objectives.base import AE
from lorae.sampling.interpolation import interpolate
from lorae.sampling.registry import fit_density
from lorae.utils.seeding import GENERATOR_LOCK, temporary_seed


class LowRankAutoencoder(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Autoencoder of exactly low rank whose codes are coordinates like those of PCA.

    The coordinates are centred, uncorrelated and ordered by the variance that they explain in the
    data (:mod:`lorae.estimator.coordinates`).

    Samples are vectors (arrays, data frames or tensors, n x D) or images (arrays or tensors,
    n x h x w, n x h x w x c or n x c x h x w, with sides of 8 or more). Images of bytes are scaled
    from 0 to 255. The default networks depend on the samples: convolutions for images, and for
    vectors layers beside a linear path that starts from principal components.

    Args:
        n_components: number of coordinates. An integer: exactly that number. A share in (0, 1): the
            smallest number that keeps this share of the variance that the unconstrained
            autoencoder explains on held-out samples. "auto": the smallest number whose held-out
            error is the least one up to one standard error, or up to a hundredth of the explained
            variance (:mod:`lorae.estimator.model_selection`).
        latent: number of codes before the rank is reduced; by default 64, or twice `n_components`
            and at least 32 if that is an integer, and never more than a sample has values.
        encoder: module from scaled samples to n x latent, of which a copy is trained. By default a
            network that fits the samples.
        decoder: module from n x latent to scaled samples; give both or none.
        width: factor on the hidden widths of the default networks.
        steps: optimizer steps of one training; by default 100 passes, within 300 and 10,000 steps.
            Choosing the number of components takes about 2.5 times as many.
        batch_size: samples in a step, at most.
        learning_rate: step size of Adam.
        validation_fraction: share of the samples that is held out to choose the number of
            components, above 0 and at most 0.5; none are held out if that is an integer.
        standardize: whether columns of vectors are scaled to variance 1 first. Otherwise they are
            centred, and variances and errors are in their units.
        whiten: whether coordinates are divided by their standard deviations.
        image_shape: shape of the images that flat samples are, such as (28, 28).
        density: density of codes that :meth:`sample` draws from: gaussian, mixture-4, mixture-10,
            mixture-auto or flow.
        warm_start: whether `fit` starts from the last fit, if samples have the same shape as then
            and no more components are asked for.
        device: auto, cpu, cuda or mps.
        random_state: seed or generator of weights and batches.

    Attributes:
        n_components_: number r of coordinates, which is the number of codes of the networks.
        explained_variance_: variances of the coordinates over the training samples, descending.
            Their sum is the variance that reconstructions explain: the variance of the samples
            minus their squared error. To first order, each is the part its coordinate explains.
        explained_variance_ratio_: the same, divided by the variance of the samples.
        singular_values_: square roots of the explained variances times the number of samples
            minus one.
        components_: mean derivative of the reconstruction by each coordinate over training
            samples, r x n_features. For linear networks these are the components of PCA.
        mean_: mean of the training samples, in scaled units.
        reconstruction_error_: mean squared error over training samples and their values, in scaled
            units.
        ranks_: number of singular values above a share of the largest, 1e-1 to 1e-6, for two
            matrices: the covariances of the "whitened" codes and of the "coordinates".
        path_: if the number of components was chosen, the points of the path over ranks, each with
            its model; otherwise empty.
        history_: phase, step, loss and rank every 50 steps.
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

    def __init__(  # only stores, as scikit-learn requires; `fit` checks
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
            InputError: if an argument or the samples are invalid.
            Diverged: if the loss is not finite.

        Warns:
            ConvergenceWarning: if the networks explain less than a hundredth of the variance of
                held-out samples, or of the training samples if `n_components` is an integer.
        """
        earlier = getattr(self, "input_format_", None)
        samples = to_training_dtype(self._read(X, reset=True))
        n = len(samples)
        check_training(self.get_params(deep=False), n)
        check_n_components(self.n_components, self.latent, n, self.input_format_.n_values)
        share = 0.0 if is_integer(self.n_components) else max(self.validation_fraction, 2 / n)
        trainer = self._trainer(samples, held_out=round(share * n))
        steps = self.steps or trainer.default_steps
        with temporary_seed(trainer.seed):
            model = self._initial_model(earlier, trainer)
            model, self.path_ = train_and_select(trainer, model, self.n_components, steps)
            self._set_model(model, trainer.training_samples)
        self.history_ = trainer.history
        return self

    def partial_fit(self, X: Any, y: object = None) -> Self:
        """Train on one more batch of samples, and return self.

        The first call is a :meth:`fit`, which determines the number of components. Later calls
        train the present networks in one pass over the new samples, and then align the coordinates
        with these samples, so that the codes of earlier samples change.
        """
        if not hasattr(self, "model_"):
            return self.fit(X, y)
        samples = to_training_dtype(self._read(X))
        check_training(self.get_params(deep=False), len(samples))
        trainer = self._trainer(samples)
        model = clone(self.model_).to(trainer.fabric.device)
        with temporary_seed(trainer.seed):
            trainer.run("partial fit", AE(model), trainer.sampler.per_epoch)
            self._set_model(model, samples)
        self.history_ = [*self.history_, *trainer.history]
        return self

    def _read(self, X: Any, *, reset: bool = False) -> Tensor:
        """Return samples as a tensor for the networks, and set (`reset`) or check their format."""
        array, found = read_samples(X, self.image_shape if reset else None)
        if not found.is_stack:
            validate_data(self, to_array(X), reset=reset, skip_check_array=True)
        elif reset:
            self.n_features_in_ = found.n_values
            self.__dict__.pop("feature_names_in_", None)
        if reset:
            self.input_format_ = found
        elif found.sample_shape != self.input_format_.sample_shape:
            raise InputError(
                f"X has samples of shape {found.sample_shape}, but {type(self).__name__} was "
                f"fitted to samples of shape {self.input_format_.sample_shape}"
            )
        return self.input_format_.to_tensor(array)

    def _trainer(self, samples: Tensor, held_out: int = 0) -> Trainer:
        return Trainer(
            samples,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            held_out=held_out,
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
            device=self.device,
        )

    def _initial_model(self, earlier: InputFormat | None, trainer: Trainer) -> Autoencoder:
        """Return a new model or, to start warm, a copy of the last one, of the `earlier` format."""
        wanted = self.n_components if is_integer(self.n_components) else None
        if self.warm_start and earlier is not None and hasattr(self, "model_"):
            shapes = {(one.shape, one.sample_shape) for one in (earlier, self.input_format_)}
            if len(shapes) == 1 and (wanted or 1) <= self.n_components_:
                return clone(self.model_).to(trainer.fabric.device)
        with GENERATOR_LOCK, temporary_seed(trainer.seed):
            model = build_model(
                trainer.training_samples.cpu(),
                self.input_format_,
                self.latent or max(32, 2 * (wanted or 32)),
                width=self.width,
                standardize=self.standardize,
                modules=None if self.encoder is None else (self.encoder, self.decoder),
            )
        return model.to(trainer.fabric.device)

    def _set_model(self, model: Autoencoder, samples: Tensor) -> None:
        """Set the attributes of a trained model and its training samples."""
        scaled_units = self.standardize or self.input_format_.is_image
        unit = 1.0 if scaled_units else float(model.scale.flatten()[0])
        fitted = fit_statistics(model, samples, unit)
        for field in dataclasses.fields(fitted):
            setattr(self, f"{field.name}_", getattr(fitted, field.name))
        self.n_components_ = len(fitted.explained_variance)

    # Using

    def transform(self, X: Any) -> Any:
        """Return the coordinates of samples, n x n_components_: a tensor for a tensor.

        They are computed in the precision of the samples, for bytes in float32.

        Raises:
            InputError: if the samples do not have the shape of those that were fitted.
        """
        check_is_fitted(self)
        codes = encode_all(self.model_, self._read(X))
        if self.whiten:
            codes /= self._deviations(codes)
        return codes if isinstance(X, Tensor) else codes.numpy()

    def inverse_transform(self, codes: Any) -> Any:
        """Return the samples that coordinates decode to, in the container that was fitted.

        Args:
            codes: n x k with k at most n_components_: the first k coordinates; the others are set
                to their mean, 0.

        Raises:
            InputError: if there are more columns.
        """
        check_is_fitted(self)
        array = check_array(to_array(codes), dtype=[np.float64, np.float32])
        largest, given = self.n_components_, array.shape[1]
        if given > largest:
            raise InputError(f"codes must have at most {largest} columns, got {given}")
        z = torch.from_numpy(np.pad(array, [(0, 0), (0, largest - given)]))
        if self.whiten:
            z = z * self._deviations(z)
        return self.input_format_.from_tensor(decode_all(self.model_, z))

    def score_samples(self, X: Any) -> "np.ndarray[Any, Any]":
        """Return the reconstruction error of each sample, the mean square over its values."""
        return self._squared_errors(X)[0].numpy()

    def score(self, X: Any, y: object = None) -> float:  # noqa: ARG002
        """Return the share of the variance of samples around the training mean that is explained.

        The best value is 1; reconstructing every sample by the training mean gives 0, and worse
        reconstructions give negative values.
        """
        errors, deviations = self._squared_errors(X)
        return 1 - float(errors.sum() / deviations.sum().clamp(min=TINY))

    def sample(
        self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> Any:
        """Return new samples, in the container that was fitted.

        Codes are drawn from the `density`, fitted to those of up to 10,000 training samples.

        Args:
            n_samples: number of samples, 1 or more.
            random_state: seed or generator; that of the estimator by default.
        """
        check_is_fitted(self)
        if not (is_integer(n_samples) and n_samples >= 1):
            raise InputError(f"n_samples must be an integer of at least 1, got {n_samples!r}")
        state = self.random_state if random_state is None else random_state
        generator = torch.Generator().manual_seed(check_random_state(state).randint(2**31 - 1))
        density = fit_density(self.model_, lambda: self.codes_, self.density)
        codes = density.sample(int(n_samples), generator)
        return self.input_format_.from_tensor(decode_all(self.model_, codes))

    def interpolate(self, starts: Any, ends: Any, steps: int = 10, kind: str = "linear") -> Any:
        """Return samples on paths between samples; both ends are reconstructed.

        Args:
            starts: n samples.
            ends: n samples.
            steps: samples of each path, at least 2.
            kind: "linear" in the coordinates, or "spherical" around their mean.

        Returns:
            n x steps x the shape of a sample; an array for data frames.
        """
        check_is_fitted(self)
        a, b = (encode_all(self.model_, self._read(part)) for part in (starts, ends))
        if len(a) != len(b):
            raise InputError(f"starts and ends must have equal length, got {len(a)} and {len(b)}")
        decoded = decode_all(self.model_, interpolate(a, b, steps, kind).flatten(0, 1))
        samples = self.input_format_.from_tensor(decoded, frames=False)
        return samples.reshape(len(a), steps, *self.input_format_.sample_shape)

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
        """Write the fitted estimator to one safetensors file, with a checksum and without pickle.

        Of the user's own modules, the file holds only the weights.
        """
        check_is_fitted(self)
        attributes = {name: value for name, value in vars(self).items() if name.endswith("_")}
        save_fitted(Path(path), self.get_params(deep=False), attributes)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> Self:
        """Return the estimator that :meth:`save` wrote, on the CPU; its `path_` is empty.

        Args:
            path: the file.
            encoder: for an estimator of the user's own modules, an encoder of the same layers.
            decoder: the decoder likewise.

        Raises:
            InputError: if the file is missing, damaged or of another version, or the modules do
                not fit.
        """
        arguments, attributes = load_fitted(Path(path), encoder, decoder)
        estimator = cls(**arguments)
        estimator.__dict__.update(attributes)
        return estimator

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickle, with the model on the CPU, which every machine has."""
        state: dict[str, Any] = super().__getstate__()
        if "model_" in state and state["model_"].shift.device.type != "cpu":
            state["model_"] = clone(state["model_"]).cpu()
        return state

    @property
    def _n_features_out(self) -> int:  # scikit-learn derives output names from it
        return len(self.explained_variance_)

    def _deviations(self, like: Tensor) -> Tensor:
        return torch.from_numpy(np.sqrt(self.explained_variance_)).clamp(min=TINY).to(like)

    def _squared_errors(self, X: Any) -> tuple[Tensor, Tensor]:
        """Return squared errors and squared deviations from the training mean of samples."""
        check_is_fitted(self)
        samples = self._read(X)
        mean = torch.from_numpy(self.mean_).view(samples.shape[1:])
        errors, deviations = squared_errors(self.model_, samples, mean)
        return errors * self.unit_**2, deviations * self.unit_**2
