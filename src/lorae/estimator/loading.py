"""Loading of whatever was trained: the model of a run or a file, or a saved estimator."""

from pathlib import Path

from torch import nn

from lorae.estimator.estimator import LowRankAutoencoder
from lorae.estimator.serialization import holds_estimator
from lorae.nn import serialization
from lorae.nn.autoencoder import Autoencoder
from lorae.training.run_folder import Run


def load(
    path: str | Path,
    *,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    revision: str | None = None,
) -> Autoencoder | LowRankAutoencoder:
    """Return a saved model or estimator, with the units of its data, on the CPU.

    The model of a run knows the columns of its data, so that `encode`, `decode` and `reconstruct`
    take arrays and data frames as they are.

    Args:
        path: the folder of a run, a file of a model or of :meth:`LowRankAutoencoder.save`, a folder
            of `lorae export --to hub`, or a repository OWNER/NAME of the Hugging Face hub, if there
            is no such path (needs the package huggingface-hub: `pip install 'lorae[hub]'`). Only
            safetensors are read.
        encoder: for a model of the user's own modules (:func:`lorae.wrap`), an encoder like the
            one that was wrapped; it is copied.
        decoder: likewise a decoder.
        revision: of the repository on the hub, a branch, a tag or a commit.

    Raises:
        InputError: if there is no such file or repository, it is truncated, altered, of another
            version or not of lorae, or the modules are missing, not needed or of other sizes.

    Example:
        >>> from tempfile import mkdtemp
        >>> import numpy as np
        >>> X, file = np.random.default_rng(0).normal(size=(50, 3)), Path(mkdtemp()) / "reducer"
        >>> LowRankAutoencoder(n_components=2, steps=5).fit(X).save(file)
        >>> load(file).transform(X).shape
        (50, 2)
    """
    place = Path(path)
    if place.is_file() and holds_estimator(place):
        return LowRankAutoencoder.load(place, encoder=encoder, decoder=decoder)
    model = serialization.load(path, encoder=encoder, decoder=decoder, revision=revision)
    run = Run(place if place.is_dir() else place.parent)
    if (
        run.exists and (run.path / "metrics.jsonl").exists()
    ):  # a folder for the hub has another config.json
        model.schema = run.schema
    return model
