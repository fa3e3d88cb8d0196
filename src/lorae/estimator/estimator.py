"""LowRankAutoencoder: a nonlinear PCA that finds its number of components, for scikit-learn."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import Tensor

from lorae.errors import InputError
from lorae.estimator import training
from lorae.estimator.anomalies import AnomalyMixin
from lorae.estimator.fitting import fit_components
from lorae.estimator.frames import is_frame
from lorae.estimator.generation import GenerationMixin
from lorae.estimator.imputation import ImputationMixin
from lorae.estimator.inputs import check_gaps, label_samples, read_samples, to_array, to_float
from lorae.estimator.nested import NestedModel
from lorae.estimator.networks import build_model, scaling
from lorae.estimator.plotting import PlotMixin
from lorae.estimator.scoring import ScoringMixin
from lorae.estimator.serialization import PersistenceMixin
from lorae.estimator.statistics import TINY, fit_statistics
from lorae.estimator.validation import (
    check_n_components,
    check_training,
    describe_components,
    describe_samples,
    is_integer,
    warn_about_samples,
)
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import decode_all, encode_all
from lorae.training.devices import single_process
from lorae.utils.samples import has_gaps
from lorae.utils.seeding import GENERATOR_LOCK, temporary_seed

_MAX_COMPONENTS = 64
_LEAST_PARTIAL = 10


class LowRankAutoencoder(
    ScoringMixin,  # before those that use it
    AnomalyMixin,
    GenerationMixin,
    ImputationMixin,
    PlotMixin,
    PersistenceMixin,
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Nonlinear PCA: an autoencoder with few, nested codes, whose number it can choose itself.

    Training starts from principal component analysis and adds to it what lowers the error on
    held-out samples, down to nothing (:mod:`lorae.estimator.training`). The coordinates are
    centred, uncorrelated and nested: the first j of them are a model of their own
    (:mod:`lorae.estimator.nested`).

    Samples are vectors (arrays, data frames or tensors, n x D) or signals, images or volumes
    (arrays, tensors or `xarray.DataArray`, with sides of 4 or more; :mod:`lorae.data.arrays`).
    Bytes of images are divided by 255. Samples are centred and divided by one number, as a whole.
    Values may be missing (NaN), and columns of data frames may be categories, text or booleans;
    then the numbers of the frame are scaled to variance 1 each.

    Args:
        n_components: number of coordinates. An integer: exactly that number. "auto": the number
            that the data have (:mod:`lorae.estimator.model_selection`). A share in (0, 1): the
            smallest number that keeps this share of the variance that a model of `max_components`
            explains on held-out samples.
        max_components: largest number that "auto" and a share consider; by default 64, and never
            more than a sample has values.
        encoder: module from scaled samples to n x latent, of which a copy is trained. By default a
            linear path beside two hidden layers.
        decoder: module from n x latent to scaled samples; give both or none.
        width: factor on the hidden widths of the default networks, which are 256 units.
        steps: optimizer steps, at most; by default ten passes, within 1,000 and 10,000.
        batch_size: samples in a step, at most.
        learning_rate: largest step size of Adam's cycle.
        validation_fraction: share of the samples, above 0 and at most 0.5, whose error decides how
            long is trained, and the number of components. By default that of 100 samples, within
            a twentieth and a fifth; of 200 and at least a tenth if the number is to be chosen.
        standardize: whether columns are scaled to variance 1 each first.
        whiten: whether coordinates are divided by their standard deviations.
        image_shape: shape of the images that flat samples are, such as (28, 28); with `layout`
            also that of signals or volumes.
        layout: axes of samples that are grids, where their shape leaves a doubt, such as NCL, NHW,
            NCHW, NHWC or NDHW: samples, channels, depth, height, width, length of signals.
        density: density of codes that :meth:`sample` draws from: gaussian, mixture-4, mixture-10,
            mixture-auto or flow.
        warm_start: whether `fit` continues from the last fit, if samples have the same shape as
            then and as many components are asked for.
        verbose: whether progress is printed.
        device: auto, cpu, cuda or mps.
        random_state: seed or generator of weights and batches.

    Attributes:
        n_components_: number r of coordinates, which is the number of codes of the networks.
        n_components_interval_: the middle ninety percent of this number over resamples of the
            held-out samples, where 0 stands for noise; both ends equal it if it was not chosen by
            "auto".
        explained_variance_: the variance of the samples that each coordinate adds to what those
            before it explain, which is the variance of the coordinate. Their sum is the variance
            of the training samples minus their squared error. Under `standardize`, of the scaled
            samples; of a frame with categories, of its scaled numbers and of the categories, each
            column of which has variance 1 (:meth:`score` is that of the numbers alone).
        explained_variance_ratio_: the same, divided by the variance of the samples.
        singular_values_: square roots of the explained variances times the number of samples
            minus one.
        components_: mean derivative of the reconstruction by each coordinate, over at most 256
            training samples, r x n_features, in units of the samples: `mean_ + Z @ components_` is
            the linear part of :meth:`inverse_transform`. For linear networks it is PCA's.
        mean_: mean of the training samples.
        reconstruction_error_: mean squared error over training samples and their values; under
            `standardize`, of scaled ones.
        ranks_: number of explained variances above a share of the largest, 1e-1 to 1e-6.
        path_: held-out errors by the number of codes, of one nested model, if the number of
            components was chosen; otherwise empty.
        history_: phase, step and loss every 50 steps.
        model_: the autoencoder, whose codes are the coordinates. It takes samples minus `offset_`.
        offset_: the mean of the samples if that is more than a thousand deviations from 0, in
            float64; otherwise 0.
        best_step_: the step after which held-out samples gained nothing more; 0 if the model is
            what training started from, which is PCA in most cases.
        fill_weight_: weight of the autoencoder in :meth:`impute` for each value.
        n_features_in_: number of values of a sample; of a data frame, its columns.
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
        n_components: Any = "auto",
        *,
        max_components: Any = None,
        encoder: Any = None,
        decoder: Any = None,
        width: Any = 1.0,
        steps: Any = None,
        batch_size: Any = 100,
        learning_rate: Any = 3e-3,
        validation_fraction: Any = None,
        standardize: Any = False,
        whiten: Any = False,
        image_shape: Any = None,
        layout: Any = None,
        density: Any = "mixture-auto",
        warm_start: Any = False,
        verbose: Any = 0,
        device: Any = "auto",
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.max_components = max_components
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
        self.layout = layout
        self.density = density
        self.warm_start = warm_start
        self.verbose = verbose
        self.device = device
        self.random_state = random_state

    # Fitting

    def fit(self, X: Any, y: object = None) -> Self:  # noqa: ARG002 - scikit-learn's signature
        """Train on samples, and return self.

        Raises:
            InputError: if an argument or the samples are invalid.
            Diverged: if the loss is not finite.

        Warns:
            DataWarning: if there are fewer than 10 samples, one is held out, half of them are
                copies, one column has 99 % of the variance, or there are more components than
                directions with variance.
            ConvergenceWarning: if no number of components predicts the values of held-out samples,
                or the largest one is chosen.
        """
        earlier: NestedModel | None = getattr(self, "nested_", None) if self.warm_start else None
        samples = self._center(self._read(X, reset=True))
        if earlier is not None and (
            earlier.model.shift.shape != samples.shape[1:]
            or (earlier.model.gaps is not None) != has_gaps(samples)
        ):
            earlier = None
        n, values = len(samples), self.input_format_.n_values
        check_training(self.get_params(deep=False), n)
        check_n_components(self.n_components, n, values)
        self.history_: list[dict[str, Any]] = []
        setting = self._setting(n)
        warn_about_samples(
            describe_samples(
                samples,
                setting.held_out,
                self.input_format_.columns,
                standardize=self.standardize,
            )
        )
        with GENERATOR_LOCK, temporary_seed(setting.seed):
            trained, self.n_components_interval_, self.path_ = fit_components(
                self.n_components,
                min(values, self.max_components or _MAX_COMPONENTS, n - 1),
                build=self._build,
                samples=samples,
                setting=setting,
                start=earlier,
            )
            self._set_model(NestedModel.from_objective(trained.objective), samples)
        self.best_step_, self.fill_weight_ = trained.best_step, trained.fill_weight.numpy()
        ratio = (trained.scale / self.model_.scale).double().square().mean()
        if is_integer(self.n_components):
            warn_about_samples(describe_components(self.explained_variance_ratio_))
        self.calibration_ = trained.held_out_errors.numpy() * float(ratio) * self.unit_**2
        return self

    def partial_fit(self, X: Any, y: object = None) -> Self:
        """Train on one more batch of samples, and return self.

        The first call is a :meth:`fit`, which determines the number of components. Later calls
        train the present networks in one pass over the new samples, at a tenth of the learning
        rate, and then compute the coordinates of these samples, so that the codes of earlier
        samples change.

        Raises:
            InputError: of a later call, if there are fewer than 10 samples, or than two for each
                coordinate.
        """
        if not hasattr(self, "nested_"):
            return self.fit(X, y)
        samples = self._read(X).float()
        least = max(_LEAST_PARTIAL, 2 * self.n_components_)
        if len(samples) < least:
            raise InputError(
                f"X must have at least {least} samples to compute {self.n_components_} coordinates "
                f"from, got {len(samples)}"
            )
        check_training(self.get_params(deep=False), len(samples))
        setting = self._setting(len(samples))
        with GENERATOR_LOCK, temporary_seed(setting.seed):
            objective = self.nested_.to_objective()
            training.one_pass(objective, samples, setting)
            self._set_model(NestedModel.from_objective(objective), samples)
        return self

    def _read(self, X: Any, *, reset: bool = False) -> Tensor:
        """Return samples as floats, minus the offset, and set (`reset`) or check their format."""
        if reset:
            array, found = read_samples(X, self.image_shape, self.layout)
        else:
            fitted = self.input_format_
            if fitted.schema is not None:
                if not is_frame(X):
                    raise InputError(
                        "X must be a data frame with the columns of the fit, got "
                        f"{type(X).__name__}"
                    )
                validate_data(self, X, reset=False, skip_check_array=True)
            fitted.check_like(X)
            array, found = read_samples(X, layout=fitted.own_layout, schema=fitted.schema)
        check_gaps(array, found.columns, fitting=reset)
        if not found.is_stack:
            validate_data(self, to_array(X), reset=reset, skip_check_array=True)
        elif reset:
            self.n_features_in_ = found.n_values
            self.__dict__.pop("feature_names_in_", None)
        if reset:
            self.input_format_ = found
            return to_float(found.to_tensor(array))
        samples = to_float(self.input_format_.to_tensor(array))
        return samples - self._offset if self.offset_.any() else samples

    def _center(self, samples: Tensor) -> Tensor:
        """Set the offset, and return samples minus it in float32."""
        mean, scale = scaling(samples, standardize=True)
        mean[len(mean) - sum(self.input_format_.categories) :] = 0
        far = bool((mean.abs() > 1e3 * scale).any())
        self.offset_ = (mean if far else torch.zeros_like(mean)).numpy()
        return (samples - self._offset if far else samples).float()

    @property
    def _offset(self) -> Tensor:
        return torch.from_numpy(self.offset_)

    def _setting(self, n: int) -> training.Setting:
        least, wanted = (0.05, 100) if is_integer(self.n_components) else (0.1, 200)
        share = self.validation_fraction or min(max(least, wanted / n), 0.2)
        return training.Setting(
            steps=self.steps or min(max(1000, round(10 * n / self.batch_size)), 10_000),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            held_out=share,
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
            fabric=single_process(self.device),
            report=self._reporter(),
        )

    def _reporter(self) -> Callable[[dict[str, Any]], None]:
        start = time.perf_counter()

        def report(line: dict[str, Any]) -> None:
            self.history_.append({key: line[key] for key in ("phase", "step", "loss")})
            if self.verbose:
                seconds = time.perf_counter() - start
                print(  # noqa: T201 - as scikit-learn does
                    f"{line['phase']}: step {line['step']} of at most {line['steps']}, loss "
                    f"{line['loss']:.4g}, {seconds:.1f} s"
                )

        return report

    def _build(self, samples: Tensor, latent: int) -> Autoencoder:
        return build_model(
            samples,
            latent,
            width=self.width,
            standardize=self.standardize,
            categories=self.input_format_.categories,
            modules=None if self.encoder is None else (self.encoder, self.decoder),
        )

    def _set_model(self, nested: NestedModel, samples: Tensor) -> None:
        """Set the attributes of a trained model and its training samples."""
        categories = self.input_format_.categories
        deviations = None
        if self.standardize or categories:
            deviations = scaling(samples, standardize=True, categories=categories)[1]
        fitted = fit_statistics(nested, samples, deviations)
        for field in dataclasses.fields(fitted):
            setattr(self, f"{field.name}_", getattr(fitted, field.name))
        self.mean_ = fitted.mean + self.offset_.flatten()
        self.n_components_ = len(fitted.explained_variance)

    @property
    def model_(self) -> Autoencoder:
        """The autoencoder, whose codes are the coordinates."""
        if "nested_" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no model_ before it is fitted")
        model: Autoencoder = self.nested_.model
        return model

    # Using

    def transform(self, X: Any) -> Any:
        """Return the coordinates of samples, n x `n_components_`.

        They are a tensor for a tensor, and an `xarray.DataArray` with the coordinates of the
        samples for another.

        They are computed in the precision of the samples, for bytes in float32.

        Raises:
            NotFittedError: before `fit`.
            InputError: if the samples do not have the shape of those that were fitted.
        """
        check_is_fitted(self)
        codes = encode_all(self.model_, self._read(X))
        if self.whiten:
            codes /= self._deviations(codes)
        return self.input_format_.return_codes(codes, X)

    def inverse_transform(self, codes: Any) -> Any:
        """Return the samples that coordinates decode to, in the container that was fitted.

        Args:
            codes: n x k with k at most `n_components_`: the first k coordinates, which are decoded
                by the model of k coordinates.

        Raises:
            NotFittedError: before `fit`.
            InputError: if there are more columns.
        """
        z = self._codes(codes)
        decoded = self._to_samples(decode_all(self.nested_.first(z.shape[1]), z))
        return label_samples(decoded, codes)

    def _codes(self, codes: Any) -> Tensor:
        """Return the first coordinates as a tensor, not whitened."""
        check_is_fitted(self)
        array = check_array(to_array(codes), dtype=[np.float64, np.float32])
        count = array.shape[1]
        if count > self.n_components_:
            raise InputError(f"codes must have at most {self.n_components_} columns, got {count}")
        z = torch.from_numpy(np.array(array))
        return z * self._deviations(z)[:count] if self.whiten else z

    def _to_samples(self, decoded: Tensor, *, frames: bool = True) -> Any:
        """Return decoded samples, with the offset, in the user's layout and container."""
        if self.offset_.any():
            decoded = decoded.double() + self._offset
        return self.input_format_.from_tensor(decoded, frames=frames)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:  # scikit-learn derives output names from it
        return len(self.explained_variance_)

    def _deviations(self, like: Tensor) -> Tensor:
        return torch.from_numpy(np.sqrt(self.explained_variance_)).clamp(min=TINY).to(like)
