"""Options: their parts, their defaults for data, and what refuses them."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from small import SMALL
from torch import nn

from lorae.errors import InputError
from lorae.nn.autoencoder import build
from lorae.training.options import (
    DataOptions,
    EvaluationOptions,
    LaunchOptions,
    ModelOptions,
    OptimizerOptions,
    Options,
)

PARTS = (DataOptions, ModelOptions, OptimizerOptions, EvaluationOptions, LaunchOptions)


def names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def test_options_have_the_fields_of_their_parts_in_order():
    assert names(Options) == [name for part in PARTS for name in names(part)]


def test_options_survive_json():
    fields = json.loads(json.dumps(dataclasses.asdict(SMALL)))
    assert Options.from_dict(fields) == SMALL
    with pytest.raises(InputError, match="it has the options members, stack"):
        Options.from_dict(fields | {"stack": 1, "members": 2})


@pytest.mark.usefixtures("cached_data")
@pytest.mark.parametrize("model", ["lorae", "irmae", "rrae", "ae"])
def test_resolved_options_leave_nothing_open(model):
    options = Options(data="digits", model=model, network="mlp")
    data = options.load()
    resolved = options.resolve(data)
    assert resolved.resolve(data) == resolved
    assert resolved.steps == 3000  # more than 100 epochs of 16 batches
    assert (resolved.latent, resolved.learning_rate) == (64, 1e-3)
    assert resolved.evaluate_every == 30


def test_options_import_no_torch():
    """So that the command line can refuse a bad option at once."""
    code = "import sys, lorae.training.options; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.usefixtures("cached_data")
@pytest.mark.parametrize("model", ["lorae", "ae", "lorae-data-space"])
def test_sigmoid_ends_the_papers_network_in_a_sigmoid(model):
    digits = Options(data="digits").load()
    images = torch.zeros(4, 1, 32, 32)
    data = dataclasses.replace(digits, train=images, test=images, network="mnist")
    for sigmoid, last in ((False, nn.Tanh), (True, nn.Sigmoid)):
        options = Options(data="digits", model=model, width=0.1, sigmoid=sigmoid).resolve(data)
        assert isinstance(build(options.architecture(data)).decoder[-1], last)


def test_sigmoid_needs_values_from_0_to_1(tmp_path):
    np.save(tmp_path / "table.npy", np.random.default_rng(0).normal(size=(40, 5)))
    options = Options(data=str(tmp_path / "table.npy"), sigmoid=True)
    with pytest.raises(InputError, match="data must be scaled to values from 0 to 1 for sigmoid"):
        options.resolve(options.load())
