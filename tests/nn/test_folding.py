"""Layers are exchanged, composed and normalised as their formulas say."""

import numpy as np
import pytest
import torch
from torch import nn

from lorae.errors import InputError
from lorae.nn.blocks import add_spectral_norm
from lorae.nn.folding import fold_output, output_layer, replace_output_layer
from lorae.nn.networks import NETWORKS, PAPER_SHAPES, build

SHAPES = PAPER_SHAPES | {"conv": (2, 9, 12), "mlp": (11,), "residual": (11,)}
NORMALISED = {
    "linear": (nn.Linear(7, 5), 0),
    "convolution": (nn.Conv2d(3, 6, 4, 2, 1), 0),
    "transposed": (nn.ConvTranspose2d(3, 6, 4, 2, 1), 1),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("outputs", [1, 5, 13])
def test_an_encoder_takes_any_number_of_outputs(network, outputs):
    encoder = build(network, SHAPES[network], 4, 0.1).encoder
    before = {name: p.clone() for name, p in encoder.named_parameters()}
    last, _ = output_layer(encoder)
    changed = replace_output_layer(encoder, outputs)
    assert changed(torch.rand(3, *SHAPES[network])).shape == (3, outputs)
    for name, parameter in changed.named_parameters():
        if not name.startswith(last):
            assert torch.equal(parameter, before[name])


def test_a_fresh_layer_starts_as_pytorchs():
    torch.manual_seed(3)
    fresh = replace_output_layer(nn.Linear(6, 2), 9)
    torch.manual_seed(3)
    nn.Linear(6, 2)
    assert torch.equal(fresh.weight, nn.Linear(6, 9).weight)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("rows", [1, 4, 6])
def test_an_affine_map_goes_into_the_last_layer(network, rows):
    encoder = build(network, SHAPES[network], 4, 0.1).encoder.double()
    A, b = torch.randn(rows, 4, dtype=torch.float64), torch.randn(rows, dtype=torch.float64)
    x = torch.rand(3, *SHAPES[network], dtype=torch.float64)
    expected = encoder(x) @ A.T + b
    torch.testing.assert_close(fold_output(encoder, A, b)(x), expected)


def test_a_map_of_another_size_is_refused():
    with pytest.raises(InputError, match=r"a layer of 3 outputs, .* it has 2"):
        fold_output(nn.Linear(5, 2), torch.zeros(4, 3), torch.zeros(4))


@pytest.mark.parametrize("kind", NORMALISED)
def test_the_spectral_norm_becomes_one(kind):
    layer, dim = NORMALISED[kind]
    weight = layer.weight.detach().clone()
    network = add_spectral_norm(nn.Sequential(layer))
    for _ in range(200):  # the power method, a step each
        _ = network[0].weight
    matrix = weight.movedim(dim, 0).flatten(1).double().numpy()
    expected = weight.numpy() / np.linalg.svd(matrix, compute_uv=False)[0]
    np.testing.assert_allclose(network[0].weight.detach().numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_normal_decoder_has_no_weight_that_stretches(network):
    decoder = add_spectral_norm(build(network, SHAPES[network], 4, 0.1).decoder)
    z = torch.randn(5, 4)
    for _ in range(100):
        decoder(z)
    for module in decoder.modules():
        if isinstance(module, nn.Linear | nn.ConvTranspose2d | nn.Conv2d):
            dim = 1 if isinstance(module, nn.ConvTranspose2d) else 0
            matrix = module.weight.detach().movedim(dim, 0).flatten(1)
            assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(1, abs=1e-2)


def test_a_normal_dense_decoder_is_lipschitz():
    decoder = add_spectral_norm(build("mlp", (11,), 4, 0.5).decoder)
    a, b = torch.randn(200, 4), torch.randn(200, 4)
    for _ in range(100):
        decoder(a)
    with torch.no_grad():
        ratio = (decoder(a) - decoder(b)).norm(dim=1) / (a - b).norm(dim=1)
    assert ratio.max() <= 1.01
