"""A fitted estimator as one safetensors file: weights, statistics and arguments, without pickle.

The description in the header has a version of its own; a file of another version is refused.
"""

import dataclasses
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from lorae.errors import InputError
from lorae.estimator.inputs import InputFormat
from lorae.estimator.model_selection import Point
from lorae.estimator.nested import NestedModel
from lorae.estimator.networks import add_linear_layers
from lorae.nn.autoencoder import Architecture, Autoencoder, clone
from lorae.nn.serialization import rebuild
from lorae.utils.tensor_files import load_tensors, read_description, save_tensors

VERSION = 4
_KIND = "LowRankAutoencoder"
_ARRAYS = (
    "explained_variance_",
    "explained_variance_ratio_",
    "singular_values_",
    "components_",
    "mean_",
    "offset_",
    "calibration_",
    "fill_weight_",
)
_VALUES = (
    "n_components_",
    "n_components_interval_",
    "n_features_in_",
    "reconstruction_error_",
    "unit_",
    "history_",
    "best_step_",
)
_NESTED = ("weight", "biases", "mean", "inverse")


class PersistenceMixin(BaseEstimator):  # type: ignore[misc]
    """Saving, loading, pickling and moving a fitted estimator."""

    nested_: NestedModel

    def to(self, device: str) -> Self:
        """Move the model to a device, such as cpu or cuda, and return self."""
        check_is_fitted(self)
        try:
            self.nested_.model.to(device)
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

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickle, with the model on the CPU, which every machine has."""
        state: dict[str, Any] = super().__getstate__()
        if "nested_" in state and self.nested_.model.shift.device.type != "cpu":
            model = clone(self.nested_.model).cpu()
            state["nested_"] = dataclasses.replace(self.nested_, model=model)
        return state


def save_fitted(path: Path, arguments: dict[str, Any], attributes: dict[str, Any]) -> None:
    """Write a fitted estimator to a file, atomically.

    Args:
        path: the file; an existing one is replaced.
        arguments: those of the constructor. Modules and generators are not written.
        attributes: the fitted attributes.
    """
    nested: NestedModel = attributes["nested_"]
    model = nested.model
    assert model.architecture is not None
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {name: torch.from_numpy(attributes[name]) for name in _ARRAYS}
    tensors |= {f"nested.{name}": getattr(nested, name) for name in _NESTED}
    tensors["codes_"] = attributes["codes_"]
    names = attributes.get("feature_names_in_")
    about = {
        "kind": _KIND,
        "version": VERSION,
        "arguments": _to_json(arguments),
        "architecture": dataclasses.asdict(model.architecture),
        "input_format": dataclasses.asdict(attributes["input_format_"]),
        "feature_names": None if names is None else list(names),
        "ranks": list(attributes["ranks_"].items()),
        "path": [dataclasses.asdict(point) for point in attributes["path_"]],
        "values": {name: attributes[name] for name in _VALUES},
    }
    save_tensors(
        path, {k: t.clone(memory_format=torch.contiguous_format) for k, t in tensors.items()}, about
    )


def holds_estimator(path: Path) -> bool:
    """Return whether a file was written by :func:`save_fitted`, by its header."""
    try:
        about = read_description(path)
    except InputError:
        return False
    return isinstance(about, dict) and about.get("kind") == _KIND


def load_fitted(
    path: Path, encoder: nn.Module | None = None, decoder: nn.Module | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments and the fitted attributes in a file, on the CPU.

    Args:
        path: the file.
        encoder: if it holds weights of the user's modules, an encoder of the same layers.
        decoder: the decoder likewise.

    Raises:
        InputError: if the file is missing, damaged or of another version, or the modules do not
            fit.
    """
    tensors, about = load_tensors(path)
    if not isinstance(about, dict) or about.get("kind") != _KIND:
        raise InputError(f"{str(path)!r} holds no {_KIND}: give a file that its save method wrote")
    if about["version"] != VERSION:
        age = "a newer" if about["version"] > VERSION else "an older"
        raise InputError(
            f"{str(path)!r} was written by {age} lorae: its version is {about['version']}, and "
            f"this one reads version {VERSION}"
        )
    arguments = about["arguments"] | {"encoder": encoder, "decoder": decoder}
    if arguments["image_shape"] is not None:
        arguments["image_shape"] = tuple(arguments["image_shape"])
    attributes = about["values"] | {name: tensors[name].numpy() for name in _ARRAYS}
    attributes |= {
        "codes_": tensors["codes_"],
        "input_format_": InputFormat.from_dict(about["input_format"]),
        "nested_": NestedModel(
            _load_model(path, tensors, about["architecture"], encoder, decoder),
            *(tensors[f"nested.{name}"] for name in _NESTED),
        ),
        "path_": [Point(**point) for point in about["path"]],
        "ranks_": dict(map(tuple, about["ranks"])),
    }
    attributes["n_components_interval_"] = tuple(attributes["n_components_interval_"])
    if about["feature_names"] is not None:
        attributes["feature_names_in_"] = np.array(about["feature_names"], dtype=object)
    return arguments, attributes


def _to_json(arguments: dict[str, Any]) -> dict[str, Any]:
    values = {k: v.item() if isinstance(v, np.generic) else v for k, v in arguments.items()}
    seed = values["random_state"] if isinstance(values["random_state"], int) else None
    return values | {"encoder": None, "decoder": None, "random_state": seed}


def _load_model(
    path: Path,
    tensors: dict[str, Tensor],
    architecture: dict[str, Any],
    encoder: nn.Module | None,
    decoder: nn.Module | None,
) -> Autoencoder:
    state = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    modules: tuple[nn.Module | None, nn.Module | None] = None, None
    is_own = architecture["network"] == "own"
    if is_own and (encoder is None or decoder is None):
        raise InputError(
            f"{str(path)!r} holds only the weights of the user's modules: give encoder and "
            "decoder, of the same layers, to load"
        )
    try:
        if is_own and encoder is not None and decoder is not None:
            latent, own = state["encoder.1.weight"].shape
            modules = add_linear_layers(encoder, decoder, own, latent)
        model = rebuild(Architecture.from_dict(architecture), state, *modules)
        model.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError, InputError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{str(path)!r} holds no model that this version, or these modules, can load ({reason})"
        ) from None
    return model.eval()
