"""Autoencoders that find their own latent dimension.

Importing the package sets `OMP_WAIT_POLICY=passive` unless it is set already and torch was
imported before: threads that wait by spinning make a training step on a shared processor several
times slower.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from lorae.autoencoder import Architecture, Autoencoder, as_float, build, encode_all
from lorae.errors import Diverged, InputError, Interrupted
from lorae.evaluation import Evaluation, evaluate
from lorae.loading import load
from lorae.options import Options
from lorae.runs import Run
from lorae.wrapping import wrap

if TYPE_CHECKING:
    from lorae.estimator import LowRankAutoencoder
    from lorae.frontier import RankPath, lorae_path
    from lorae.seeded import SeededPath, lorae_paths
    from lorae.training import train

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
    "LowRankAutoencoder": "lorae.estimator",
    "RankPath": "lorae.frontier",
    "SeededPath": "lorae.seeded",
    "lorae_path": "lorae.frontier",
    "lorae_paths": "lorae.seeded",
    "train": "lorae.training",
}


def __getattr__(name: str) -> Any:
    """Import what trains when it is first asked for: Fabric takes seconds to import."""
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'lorae' has no attribute {name!r}")
