"""Gaps in the input of an encoder."""

import pytest
import torch

from lorae.errors import InputError
from lorae.export.programs import export_onnx, export_torch
from lorae.nn.autoencoder import Architecture, build
from lorae.nn.serialization import load

SHAPES = {"residual": (5,), "mlp": (5,), "conv": (2, 8, 9)}


@pytest.mark.parametrize("network", SHAPES)
def test_models_with_gaps_encode_them_and_are_loaded_alike(network, tmp_path):
    torch.manual_seed(0)
    shape = SHAPES[network]
    model = build(Architecture(network, shape, 3, value_range=None, factors=2)).eval()
    model.gaps.loadings.normal_()
    x = torch.randn(4, *shape)
    x.view(4, -1)[:, 1] = torch.nan
    codes = model.encode(x)
    assert codes.isfinite().all()
    filled = model.gaps.fill(x)
    assert torch.equal(filled[~x.isnan()], x[~x.isnan()])
    assert not torch.equal(model.encode(filled), codes)  # the encoder is told where they were
    model.save(tmp_path / "model.safetensors")
    assert torch.equal(load(tmp_path / "model.safetensors").encode(x), codes)
    smaller = model.change_codes(torch.eye(3)[:2], torch.zeros(2), torch.eye(3)[:, :2])
    torch.testing.assert_close(smaller.encode(x), codes[:, :2])


def test_networks_of_the_paper_take_no_gaps():
    with pytest.raises(InputError, match="network must be"):
        build(Architecture("mnist", (1, 32, 32), 3, factors=2))


def test_models_with_gaps_are_exported_to_torch_and_not_to_onnx(tmp_path):
    model = build(Architecture("mlp", (5,), 3, value_range=None, factors=2)).eval()
    assert max(export_torch(model, tmp_path).values()) < 1e-5
    with pytest.raises(InputError, match="complete samples to be exported to ONNX"):
        export_onnx(model, tmp_path)
