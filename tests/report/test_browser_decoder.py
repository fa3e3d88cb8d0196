"""Decoders as plain layers: same outputs, and refusals of what a browser cannot run."""

import pytest
import torch
from torch import nn

from lorae.nn import networks
from lorae.nn.blocks import add_spectral_norm
from lorae.report.browser_decoder import Unsupported, pack, round_to_half, simplify


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mnist", (1, 32, 32)),
        ("shapes", (3, 32, 32)),
        ("conv", (2, 9, 14)),
        ("mlp", (7,)),
        ("residual", (7,)),
    ],
)
def test_simplified_decoder_is_the_same_function(name, shape):
    torch.manual_seed(0)
    decoder = networks.build(name, shape, 5, 0.125, None)[1].eval()
    B, mean, u = torch.randn(5, 3), torch.randn(5), torch.randn(4, 3)
    layers = simplify(decoder, B, mean)
    expected = decoder(u @ B.mT + mean)
    assert torch.allclose(layers(u).view_as(expected), expected, atol=1e-5)
    packing = pack(layers)
    parameters = sum(p.numel() for p in layers.parameters())
    assert parameters <= packing.weights <= parameters + 100  # a bias of 0 may be added


def test_the_map_of_the_codes_becomes_part_of_a_linear_layer():
    layers = simplify(nn.Sequential(nn.Linear(5, 4), nn.ReLU()), torch.randn(5, 2), torch.randn(5))
    assert [type(layer) for layer in layers] == [nn.Linear, nn.ReLU]
    assert layers[0].in_features == 2


def test_spectral_norms_are_computed():
    torch.manual_seed(0)
    decoder = networks.build("conv", (1, 8, 8), 3, 0.125)[1]
    decoder = add_spectral_norm(decoder, torch.zeros(1, 3)).eval()
    u = torch.randn(4, 3)
    layers = simplify(decoder, torch.eye(3), torch.zeros(3))
    assert torch.allclose(layers(u), decoder(u), atol=1e-5)
    assert nn.utils.parametrize.is_parametrized(decoder[0])  # the decoder itself is unchanged


class Own(nn.Sequential):
    """A sequence that may compute anything."""


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ((nn.Linear(2, 3), Own(nn.Linear(3, 3))), "a layer Own"),
        ((nn.Linear(2, 3), nn.Softmax(1)), "a layer Softmax"),
        ((nn.Linear(2, 3), nn.Softplus(2.0)), "Softplus with its own constants"),
        ((nn.Unflatten(1, (2, 1)), nn.Conv1d(2, 2, 1, groups=2)), "convolution with groups"),
        ((nn.Unflatten(1, (2, 1)), nn.Linear(1, 3)), "the last of several axes"),
        ((nn.Linear(2, 3), nn.BatchNorm1d(3, track_running_stats=False)), "running statistics"),
        ((nn.Linear(2, 3000), nn.Linear(3000, 3000)), "million weights"),
    ],
)
def test_what_a_browser_cannot_run(layers, reason):
    layers = (layers[0], nn.ReLU(), *layers[1:])
    with pytest.raises(Unsupported, match=reason):
        pack(simplify(nn.Sequential(*layers), torch.eye(2), torch.zeros(2)))


def test_weights_are_rounded_in_a_copy():
    layers = nn.Sequential(nn.Linear(3, 2))
    before = layers[0].weight.clone()
    rounded = round_to_half(layers)
    assert torch.equal(layers[0].weight, before)
    assert torch.equal(rounded[0].weight, before.half().float())
