"""Layers are exchanged, composed and normalised as their formulas say."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lorae.errors import InputError
from lorae.nn.blocks import add_spectral_norm, downsampling, upsampling
from lorae.nn.folding import fold_output, output_layer, replace_output_layer, whiten_output
from lorae.nn.networks import NETWORKS, PAPER_SHAPES, build

SHAPES = PAPER_SHAPES | {"conv": (2, 9, 12), "mlp": (11,), "residual": (11,)}
NORMALISED = {
    "linear": (lambda: nn.Linear(7, 5), (7,)),
    "strided": (lambda: nn.Conv2d(2, 3, 4, 2, 1), (2, 7, 6)),
    "grouped and dilated": (lambda: nn.Conv2d(4, 6, 3, 1, 2, dilation=2, groups=2), (4, 5, 5)),
    "one pixel": (lambda: nn.ConvTranspose2d(5, 3, 2), (5, 1, 1)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 2, 4, 2, 1), (3, 4, 3)),
    "odd sides": (lambda: nn.ConvTranspose2d(3, 2, 4, 2, 1, output_padding=1), (3, 3, 3)),
    "signals": (lambda: nn.ConvTranspose1d(3, 2, 4, 2, 1), (3, 6)),
    "volumes": (lambda: nn.Conv3d(1, 2, 3, 2, 1), (1, 4, 3, 4)),
    "circular": (lambda: nn.Sequential(*downsampling(2, [3], circular=True)[:2]), (2, 6, 4)),
    "circular, transposed": (
        lambda: nn.Sequential(*upsampling([2, 1], circular=True)[:2]),
        (2, 3, 4),
    ),
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
    with pytest.raises(InputError, match=r"a layer of 3 outputs, .* got 2"):
        fold_output(nn.Linear(5, 2), torch.zeros(4, 3), torch.zeros(4))


def test_whitened_outputs_are_the_old_ones_times_the_matrix():
    torch.manual_seed(0)
    encoder, x = nn.Sequential(nn.Linear(9, 6), nn.Tanh(), nn.Linear(6, 4)), torch.randn(500, 9)
    encoder, x = encoder.double(), x.double()
    parameters, e = dict(encoder.named_parameters()), encoder(x).detach()
    A = whiten_output(encoder, e.mT.cov(), ridge=1e-9)
    found = encoder(x).detach()
    np.testing.assert_allclose(found, e.numpy() @ A.numpy().T, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.cov(found.numpy().T), np.eye(4), atol=1e-3)
    assert all(encoder.get_parameter(name) is one for name, one in parameters.items())


def test_whitening_again_and_again_enlarges_no_rounding():
    """With more outputs than inputs that vary, most directions of the outputs have no variance."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 60))
    x, ridge = torch.randn(300, 10), 1e-5
    with torch.no_grad():
        encoder[0].bias[:5] = -50  # units that are always 0
    before, total = encoder(x).detach().double(), torch.eye(60).double()
    for _ in range(10):
        total = whiten_output(encoder, encoder(x).detach().mT.cov(), ridge) @ total
    assert encoder[-1].weight.abs().max() < ridge**-0.5
    found = np.linalg.solve(total.numpy(), encoder(x).detach().double().numpy().T).T
    np.testing.assert_allclose(found, before.numpy(), atol=1e-3)


class Reversed(nn.Module):
    """A module whose last layer is not certain to run last."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x).flip(1)


@pytest.mark.parametrize(
    "encoder",
    [
        nn.Sequential(nn.Linear(3, 3), nn.ReLU()),
        Reversed(),
        nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))),
    ],
    ids=["an activation", "not a sequence", "a parametrized layer"],
)
def test_an_encoder_without_plain_last_weights_is_not_whitened(encoder):
    before = [p.clone() for p in encoder.parameters()]
    assert whiten_output(encoder, 4 * torch.eye(3), ridge=1e-5) is None
    assert all(torch.equal(p, q) for p, q in zip(encoder.parameters(), before, strict=True))


def dense_matrix(layer, shape):
    """Return the matrix of a layer without its bias on inputs of a shape, column by column."""
    units = torch.eye(math.prod(shape), dtype=torch.float64).unflatten(1, shape)
    with torch.no_grad():
        zero, images = layer(0 * units[:1]), layer(units)
    return (images - zero).flatten(1).T.numpy()


@pytest.mark.parametrize("kind", NORMALISED)
def test_a_normalised_layer_has_operator_norm_1_as_a_dense_matrix(kind):
    build_layer, shape = NORMALISED[kind]
    torch.manual_seed(1)
    layer = build_layer().double()
    before = dense_matrix(layer, shape)
    add_spectral_norm(layer, torch.zeros(1, *shape, dtype=torch.float64))
    for _ in range(3000):  # the power method, a step each
        _ = (layer[-1] if isinstance(layer, nn.Sequential) else layer).weight
    expected = before / np.linalg.svd(before, compute_uv=False)[0]
    np.testing.assert_allclose(dense_matrix(layer.eval(), shape), expected, rtol=1e-5, atol=1e-12)


def test_the_operator_norm_follows_the_weight_and_passes_its_gradient():
    torch.manual_seed(0)
    layer = add_spectral_norm(nn.Conv2d(2, 3, 3, 1, 1).double(), torch.zeros(1, 2, 5, 5).double())
    original = layer.parametrizations.weight.original
    x, target = torch.randn(2, 2, 5, 5).double(), torch.randn(2, 3, 5, 5).double()
    for _ in range(300):
        _ = layer.weight
    layer.eval()
    (layer(x) * target).sum().backward()
    step = 1e-6 * torch.randn_like(original)
    slope = (original.grad * step).sum().item()
    layer.train()
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            original.add_(step, alpha=sign if sign > 0 else -2)
            for _ in range(300):
                _ = layer.weight
            values.append((layer(x) * target).sum().item())
    assert (values[0] - values[1]) / 2 == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "residual"])
def test_a_normalised_decoder_is_1_lipschitz(network):
    """A residual network is not: a skip connection adds 1 to the constant of its block."""
    decoder = add_spectral_norm(build(network, SHAPES[network], 4, 0.1).decoder, torch.zeros(1, 4))
    a = torch.randn(50, 4)
    b = a + 1e-2 * torch.randn(50, 4)
    for _ in range(100):
        decoder(a[:1])
    decoder.double().eval()
    with torch.no_grad():
        a, b = a.double(), b.double()
        stretch = (decoder(a) - decoder(b)).flatten(1).norm(dim=1) / (a - b).norm(dim=1)
    assert stretch.max() <= 1.01
