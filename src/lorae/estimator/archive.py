"""A fitted estimator as one safetensors file: weights, figures, arguments; never a pickle.

The description in the header has a version of its own. A file of a newer one is refused in one
sentence; an older one is read as long as this module says how.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lorae.errors import InputError
from lorae.estimator.containers import Container
from lorae.estimator.fitting import own_model
from lorae.nn.autoencoder import Architecture, Autoencoder, build
from lorae.utils.files import load_tensors, save_tensors

if TYPE_CHECKING:
    from lorae.estimator.estimator import LowRankAutoencoder

VERSION = 1
_KIND = "LowRankAutoencoder"
_ARRAYS = (
    "explained_variance_",
    "explained_variance_ratio_",
    "singular_values_",
    "components_",
    "mean_",
)


def save(estimator: "LowRankAutoencoder", path: Path) -> None:
    """Write a fitted estimator to a file, atomically."""
    model = estimator.model_
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {name: torch.from_numpy(getattr(estimator, name)) for name in _ARRAYS}
    tensors["codes_"] = estimator.codes_
    names = getattr(estimator, "feature_names_in_", None)
    about = {
        "kind": _KIND,
        "version": VERSION,
        "arguments": _arguments(estimator),
        "architecture": None
        if model.architecture is None
        else dataclasses.asdict(model.architecture),
        "container": dataclasses.asdict(estimator.container_),
        "features": estimator.n_features_in_,
        "names": None if names is None else list(names),
        "error": estimator.reconstruction_error_,
        "unit": estimator.unit_,
        "ranks": {
            key: [[t, r] for t, r in profile.items()] for key, profile in estimator.ranks_.items()
        },
        "history": estimator.history_,
    }
    save_tensors(path, tensors, about)


def load(
    cls: Any, path: Path, encoder: nn.Module | None = None, decoder: nn.Module | None = None
) -> Any:
    """Return the fitted estimator of a file, on the CPU; its path is not kept.

    Raises:
        InputError: if the file is none, damaged, of a newer version or of other modules.
    """
    tensors, about = load_tensors(path)
    if not isinstance(about, dict) or about.get("kind") != _KIND:
        raise InputError(f"{str(path)!r} holds no {_KIND}: give the file that its save wrote")
    if about["version"] > VERSION:
        raise InputError(
            f"{str(path)!r} was written by a newer lorae: its version is {about['version']}, and "
            f"this one reads up to {VERSION}"
        )
    arguments = about["arguments"] | {"encoder": encoder, "decoder": decoder}
    if arguments["image_shape"] is not None:
        arguments["image_shape"] = tuple(arguments["image_shape"])
    estimator = cls(**arguments)
    estimator.model_ = _model(path, tensors, about, encoder, decoder)
    for name in _ARRAYS:
        setattr(estimator, name, tensors[name].numpy())
    estimator.codes_ = tensors["codes_"]
    estimator.container_ = Container.from_dict(about["container"])
    estimator.n_features_in_ = about["features"]
    if about["names"] is not None:
        estimator.feature_names_in_ = np.array(about["names"], dtype=object)
    estimator.n_components_ = len(tensors["explained_variance_"])
    estimator.reconstruction_error_, estimator.unit_ = about["error"], about["unit"]
    estimator.ranks_ = {key: dict(map(tuple, rows)) for key, rows in about["ranks"].items()}
    estimator.history_, estimator.path_ = about["history"], []
    return estimator


def _arguments(estimator: "LowRankAutoencoder") -> dict[str, Any]:
    """Return what the constructor was given, as far as JSON can hold it."""
    given = dict(estimator.get_params(deep=False))
    for name in ("encoder", "decoder"):
        given[name] = None
    for name, value in given.items():
        if isinstance(value, np.generic):
            given[name] = value.item()
    if not isinstance(given["random_state"], int):
        given["random_state"] = None
    return given


def _model(
    path: Path,
    tensors: dict[str, Tensor],
    about: dict[str, Any],
    encoder: nn.Module | None,
    decoder: nn.Module | None,
) -> Autoencoder:
    state = {
        name.removeprefix("model."): tensor
        for name, tensor in tensors.items()
        if name.startswith("model.")
    }
    shift, scale = state["shift"], state["scale"]
    try:
        if about["architecture"] is not None:
            model = build(Architecture.from_dict(about["architecture"]), shift, scale)
        else:
            model = _of_modules(path, state, encoder, decoder)
        model.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{str(path)!r} holds no model that this version, or these modules, can take up "
            f"({reason})"
        ) from None
    return model.eval()


def _of_modules(
    path: Path, state: dict[str, Tensor], encoder: nn.Module | None, decoder: nn.Module | None
) -> Autoencoder:
    if encoder is None or decoder is None:
        raise InputError(
            f"{str(path)!r} holds weights of modules of the user's own: give encoder and decoder, "
            f"of the same layers, to load"
        )
    first, last = state["encoder.1.weight"], state["decoder.0.weight"]
    model = own_model(encoder, decoder, first.shape[1], state["shift"], state["scale"])
    model.encoder.add_module("1", nn.Linear(first.shape[1], first.shape[0]))
    model.decoder.add_module("0", nn.Linear(last.shape[1], last.shape[0]))
    model.bridge = type(model.bridge)(first.shape[0])
    return model
