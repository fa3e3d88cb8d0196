"""Trained models to evaluate."""

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from evaluations import MODELS
from small import SMALL

from lorae.metrics import subject
from lorae.metrics.classifier import fit_or_load_classifier
from lorae.training.train import train


@pytest.fixture
def quick_classifier(cached_data, monkeypatch):
    """Train the classifier for a few steps only."""
    monkeypatch.setattr(
        subject, "fit_or_load_classifier", partial(fit_or_load_classifier, steps=30)
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """Runs of an autoencoder, a model with a prior and a GAN, on images and on a table."""
    folder = tmp_path_factory.mktemp("trained")
    values = np.random.default_rng(0).normal(size=(300, 2)) @ np.ones((2, 5))
    values += 0.1 * np.random.default_rng(1).normal(size=(300, 5))
    np.save(folder / "t.npy", values)
    for kind, source in (("image", "digits"), ("table", str(folder / "t.npy"))):
        for model in MODELS:
            options = dataclasses.replace(SMALL, data=source, model=model, steps=20, latent=4)
            train(options, folder / kind / model, show=False)
    return folder
