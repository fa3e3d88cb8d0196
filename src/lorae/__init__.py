"""Autoencoders that find their own latent dimension.

Importing the package sets `OMP_WAIT_POLICY=passive` unless it is set already and torch was
imported before: threads that wait by spinning make a training step on a shared processor several
times slower.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from lorae.errors import Diverged, InputError, Interrupted
from lorae.nn.autoencoder import Architecture, Autoencoder, build, encode_all
from lorae.nn.serialization import load
from lorae.nn.wrapping import wrap
from lorae.training.evaluation import Evaluation, evaluate
from lorae.training.options import Options
from lorae.training.run_folder import Run
from lorae.utils.samples import as_float

if TYPE_CHECKING:
    from lorae.estimator.estimator import LowRankAutoencoder
    from lorae.estimator.path import RankPath, lorae_path
    from lorae.estimator.seeded_path import SeededPath, lorae_paths
    from lorae.training.loop import train

__version__ = "0.1.0"

__all__ = [
    "Architecture",
    "Autoencoder",
    "Diverged",
    "Evaluation",
    "InputError",
    "Interrupted",
    "LowRankAutoencoder",
    "Options",
    "RankPath",
    "Run",
    "SeededPath",
    "__version__",
    "as_float",
    "build",
    "encode_all",
    "evaluate",
    "load",
    "lorae_path",
    "lorae_paths",
    "train",
    "wrap",
]


_LATER = {
    "LowRankAutoencoder": "lorae.estimator.estimator",
    "RankPath": "lorae.estimator.path",
    "lorae_path": "lorae.estimator.path",
    "SeededPath": "lorae.estimator.seeded_path",
    "lorae_paths": "lorae.estimator.seeded_path",
    "train": "lorae.training.loop",
}


def __getattr__(name: str) -> Any:
    """Import what trains when it is first asked for: Fabric takes seconds to import."""
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'lorae' has no attribute {name!r}")
