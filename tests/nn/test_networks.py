"""Laws of the networks: the paper's layers and counts, shapes, ranges, gradients, bad input."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lorae.errors import InputError
from lorae.nn import networks

IMAGES = [(1, 8, 8), (3, 9, 31), (1, 28, 28), (3, 37, 64), (5, 100, 17), (12, 16, 16), (2, 15, 5)]
SIGNALS = [(1, 4), (2, 15), (3, 200)]
VOLUMES = [(1, 4, 5, 7), (2, 8, 17, 9)]
VECTORS = [(1,), (2,), (13,), (64,), (300,)]
RANGES = [(0.0, 1.0), (-1.0, 1.0), None]
CASES = [
    *(("conv", shape) for shape in [*IMAGES, *SIGNALS, *VOLUMES]),
    *(("mlp", shape) for shape in [*VECTORS, (2, 9), (1, 4, 4)]),
    *networks.PAPER_SHAPES.items(),
]
KINDS = [("conv", (1, 8, 8)), ("mlp", (13,)), ("mnist", (1, 32, 32))]
"""One network for each way in which `build` makes them."""
NARROW = 1 / 32


def samples(shape: tuple[int, ...], batch: int = 2) -> Tensor:
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(0))


def latent_of(shape: tuple[int, ...]) -> int:
    return min(6, math.prod(shape))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def layers(module: nn.Sequential) -> list[tuple[object, ...]]:
    """Return the layers as the paper lists them: kind, inputs, outputs, kernel, stride, padding."""
    rows: list[tuple[object, ...]] = []
    for layer in module:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            kind = "conv" if isinstance(layer, nn.Conv2d) else "convt"
            assert layer.bias is not None
            assert layer.groups == 1
            assert layer.dilation == (1, 1)
            if isinstance(layer, nn.ConvTranspose2d):
                assert tuple(layer.output_padding) == (0, 0)
            geometry = layer.kernel_size, layer.stride, layer.padding
            assert all(len(set(pair)) == 1 for pair in geometry)
            sizes = (pair[0] for pair in geometry)
            rows.append((kind, layer.in_channels, layer.out_channels, *sizes))
        elif isinstance(layer, nn.Linear):
            assert layer.bias is not None
            rows.append(("linear", layer.in_features, layer.out_features))
        elif isinstance(layer, nn.Unflatten):
            rows.append(("unflatten", *layer.unflattened_size))
        else:
            rows.append((type(layer).__name__.lower(),))
    return rows


RELU, FLATTEN, TANH = ("relu",), ("flatten",), ("tanh",)

PAPER = {
    "mnist": (
        128,
        [
            ("conv", 1, 32, 4, 2, 1), RELU,
            ("conv", 32, 64, 4, 2, 1), RELU,
            ("conv", 64, 128, 4, 2, 1), RELU,
            ("conv", 128, 256, 4, 2, 1), RELU,
            FLATTEN, ("linear", 1024, 128),
        ],
        [
            ("linear", 128, 8192), ("unflatten", 128, 8, 8), RELU,
            ("convt", 128, 64, 4, 2, 1), RELU,
            ("convt", 64, 32, 4, 2, 1), RELU,
            ("convt", 32, 1, 1, 1, 0), TANH,
        ],
        16 * (1 * 32 + 32 * 64 + 64 * 128 + 128 * 256) + 480 + 1024 * 128 + 128,
        128 * 8192 + 8192 + 16 * (128 * 64 + 64 * 32) + 96 + 32 + 1,
    ),
    "celeba": (
        128,
        [
            ("conv", 3, 128, 4, 2, 1), RELU,
            ("conv", 128, 256, 4, 2, 1), RELU,
            ("conv", 256, 512, 4, 2, 1), RELU,
            ("conv", 512, 1024, 4, 2, 1), RELU,
            FLATTEN, ("linear", 16384, 128),
        ],
        [
            ("linear", 128, 65536), ("unflatten", 1024, 8, 8),
            ("convt", 1024, 512, 4, 2, 1), RELU,
            ("convt", 512, 256, 4, 2, 1), RELU,
            ("convt", 256, 128, 4, 2, 1), RELU,
            ("convt", 128, 3, 1, 1, 0), TANH,
        ],
        16 * (3 * 128 + 128 * 256 + 256 * 512 + 512 * 1024) + 1920 + 16384 * 128 + 128,
        128 * 65536 + 65536 + 16 * (1024 * 512 + 512 * 256 + 256 * 128) + 896 + 3 * 128 + 3,
    ),
    "shapes": (
        32,
        [
            ("conv", 3, 32, 4, 2, 1), RELU,
            ("conv", 32, 64, 4, 2, 1), RELU,
            ("conv", 64, 128, 4, 2, 1), RELU,
            ("conv", 128, 256, 4, 2, 1), RELU,
            ("conv", 256, 32, 2, 1, 0), FLATTEN,
        ],
        [
            ("unflatten", 32, 1, 1),
            ("convt", 32, 256, 2, 1, 0), RELU,
            ("convt", 256, 128, 4, 2, 1), RELU,
            ("convt", 128, 64, 4, 2, 1), RELU,
            ("convt", 64, 32, 4, 2, 1), RELU,
            ("convt", 32, 3, 4, 2, 1), TANH,
        ],
        16 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256) + 480 + 4 * 256 * 32 + 32,
        4 * 32 * 256 + 256 + 16 * (256 * 128 + 128 * 64 + 64 * 32 + 32 * 3) + 224 + 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAPER)
def test_paper_networks_layer_by_layer(name):
    latent, encoder_layers, decoder_layers, encoder_count, decoder_count = PAPER[name]
    with torch.device("meta"):  # the celeba pair holds 33 million numbers that nobody reads
        encoder, decoder = networks.build(name, networks.PAPER_SHAPES[name], latent)
    assert layers(encoder) == encoder_layers
    assert layers(decoder) == decoder_layers
    assert count(encoder) == encoder_count
    assert count(decoder) == decoder_count


def test_width_multiplies_hidden_channels_only():
    narrow, _ = networks.shapes(32, width=0.25)
    assert [row[1:3] for row in layers(narrow) if row[0] == "conv"] == [
        (3, 8), (8, 16), (16, 32), (32, 64), (64, 32),
    ]  # fmt: skip
    _, decoder = networks.mnist(20, width=0.25)
    assert layers(decoder)[:2] == [("linear", 20, 32 * 8 * 8), ("unflatten", 32, 8, 8)]
    thin, _ = networks.celeba(2, width=1e-9)
    assert {row[2] for row in layers(thin) if row[0] == "conv"} == {1}
    wide, _ = networks.mnist(2, width=1.5)
    assert layers(wide)[0] == ("conv", 1, 48, 4, 2, 1)


def test_convolutional_channels_double_up_to_the_cap():
    with torch.device("meta"):
        encoder, decoder = networks.convolutional((3, 256, 300), 10)
    down = [(3, 32), (32, 64), (64, 128), (128, 256), (256, 256), (256, 256)]  # 256 to 4
    assert [row[1:3] for row in layers(encoder) if row[0] == "conv"] == down
    assert layers(encoder)[-1] == ("linear", 256 * 4 * 4, 10)
    up = [(m.in_channels, m.out_channels) for m in decoder if isinstance(m, nn.ConvTranspose2d)]
    assert up == [(b, a) for a, b in reversed(down)]


@pytest.mark.parametrize(
    ("dim", "hidden"), [(1, (128, 128)), (33, (256, 128)), (64, (256, 128)), (784, (1024, 512))]
)
def test_fully_connected_layers(dim, hidden):
    encoder, decoder = networks.fully_connected((dim,), 1)
    a, b = hidden
    down = [("linear", dim, a), RELU, ("linear", a, b), RELU, ("linear", b, 1)]
    up = [("linear", 1, b), RELU, ("linear", b, a), RELU, ("linear", a, dim), ("identity",)]
    assert layers(encoder) == down
    assert layers(decoder) == up


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_shapes_match(name, shape):
    latent = latent_of(shape)
    encoder, decoder = networks.build(name, shape, latent, NARROW)
    z = encoder(samples(shape, 3))
    assert z.shape == (3, latent)
    assert decoder(z).shape == (3, *shape)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    st.integers(1, 5),
    st.lists(st.integers(4, 70), min_size=1, max_size=3),
    st.integers(1, 20),
    st.sampled_from(networks.PADDINGS),
)
def test_convolutional_reproduces_any_shape(c, sides, latent, padding):
    shape = (c, *(side if len(sides) < 3 else side // 4 + 3 for side in sides))
    encoder, decoder = networks.convolutional(shape, latent, NARROW, padding=padding)
    seed = encoder[:-2](samples(shape))
    assert all(4 <= side <= 7 for side in seed.shape[2:])
    z = encoder(samples(shape))
    assert z.shape == (2, latent)
    assert decoder(z).shape == (2, *shape)


@pytest.mark.parametrize("padding", networks.PADDINGS)
@pytest.mark.parametrize("length", [4, 15, 64])
def test_a_signal_is_an_image_of_height_1(length, padding):
    """Along a side of 1 every kernel is 1, so the networks have the same weights."""

    def outputs(shape: tuple[int, ...], x: Tensor) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        encoder, decoder = networks.convolutional(shape, 5, 0.25, None, padding)
        z = encoder.double()(x.double().reshape(3, *shape))
        return z, decoder.double()(z).flatten(1)

    x = torch.randn(3, 2, length)
    signal, image = outputs((2, length), x), outputs((2, 1, length), x)
    volume = outputs((2, 1, length, 1), x)
    # Sums of at most 4 x 256 products in another order.
    torch.testing.assert_close(signal, image, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(signal, volume, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 64), (1, 32, 16), (1, 16, 8, 32)])
def test_circular_features_follow_shifts_by_the_stride(shape):
    encoder, decoder = networks.convolutional(shape, 5, 0.25, padding="circular")
    features = encoder[:-2].double()
    x = torch.randn(2, *shape, dtype=torch.float64)
    y = features(x)
    axes = tuple(range(2, x.ndim))
    strides = [a // b for a, b in zip(x.shape[2:], y.shape[2:], strict=True)]
    steps = list(range(1, len(axes) + 1))
    moved = features(x.roll([s * k for s, k in zip(strides, steps, strict=True)], axes))
    torch.testing.assert_close(moved, y.roll(steps, axes), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(moved, y)
    # The decoder, after its linear map, moves its output with its input.
    up = decoder[3:].double()
    seed = torch.randn(2, *y.shape[1:], dtype=torch.float64)
    expected = up(seed).roll([s * k for s, k in zip(strides, steps, strict=True)], axes)
    torch.testing.assert_close(up(seed.roll(steps, axes)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value_range", RANGES)
@pytest.mark.parametrize(("name", "shape"), [("conv", (2, 9, 11)), ("mlp", (7,))])
def test_values_fill_their_range(name, shape, value_range):
    torch.manual_seed(0)
    _, decoder = networks.build(name, shape, 3, 0.5, value_range)
    values = decoder(1e4 * torch.randn(64, 3))  # so large that every activation saturates
    low, high = value_range or (-10.0, 10.0)
    assert values.min() <= low + 0.01
    assert values.max() >= high - 0.01
    if value_range is not None:
        assert values.min() >= low
        assert values.max() <= high


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_gradients_reach_every_parameter(name, shape):
    torch.manual_seed(0)
    encoder, decoder = networks.build(name, shape, latent_of(shape), 0.25)
    x = samples(shape, 16)
    (decoder(encoder(x)) - x).square().mean().backward()
    for parameter in [*encoder.parameters(), *decoder.parameters()]:
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_a_seed_determines_the_parameters(name, shape):
    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        pair = networks.build(name, shape, 1, NARROW)
        return nn.utils.parameters_to_vector(p for net in pair for p in net.parameters())

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_latent_may_exceed_the_values_of_a_sample(name, shape):
    latent = math.prod(shape) + 1
    encoder, decoder = networks.build(name, shape, latent, NARROW)[:2]
    codes = encoder(torch.rand(2, *shape))
    assert codes.shape == (2, latent)
    assert decoder(codes).shape == (2, *shape)
    with pytest.raises(InputError, match=r"latent must be .*at least 1, got 0"):
        networks.build(name, shape, 0, NARROW)


@pytest.mark.parametrize(("name", "shape"), KINDS)
@pytest.mark.parametrize("width", [0.0, -1.0, math.nan, math.inf])
def test_width_is_positive(name, shape, width):
    with pytest.raises(InputError, match=f"width must be (finite, )?greater than 0, got {width:g}"):
        networks.build(name, shape, 1, width)


@pytest.mark.parametrize("value_range", [(0.0, 255.0), (1.0, 0.0), (-0.5, 0.5), (0.0, math.nan)])
@pytest.mark.parametrize(("name", "shape"), KINDS)
def test_value_range_is_known(name, shape, value_range):
    with pytest.raises(InputError, match=r"value_range must be \(0, 1\), \(-1, 1\) or None, got"):
        networks.build(name, shape, 1, NARROW, value_range)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mnist", (1, 28, 28)), ("mnist", (3, 32, 32)), ("mnist", (1024,)),
        ("celeba", (3, 32, 32)), ("shapes", (1, 32, 32)), ("shapes", (2, 3, 32, 32)),
        ("conv", (1, 3, 8)), ("conv", (3, 64, 2)), ("conv", (0, 8, 8)), ("conv", (64,)),
        ("conv", (8, 3)), ("conv", (1, 1, 1)), ("conv", (1, 8, 8, 8, 8)), ("mlp", (0,)),
        ("mlp", ()),
    ],
)  # fmt: skip
def test_networks_refuse_other_shapes(name, shape):
    with pytest.raises(InputError, match="shape") as error:
        networks.build(name, shape, 1, NARROW)
    assert str(shape) in str(error.value)


def test_unknown_name():
    with pytest.raises(InputError, match=r"unknown network 'mnits' \(did you mean 'mnist'\?\)"):
        networks.build("mnits", (1, 32, 32), 8)


@pytest.mark.parametrize("name", [name for name in networks.NETWORKS if name != "conv"])
def test_only_convolutions_are_circular(name):
    shape = networks.PAPER_SHAPES.get(name, (16,))
    with pytest.raises(InputError, match=f"padding must be zeros for the network '{name}'"):
        networks.build(name, shape, 4, NARROW, padding="circular")
    with pytest.raises(InputError, match="padding must be one of zeros, circular, got 'reflect'"):
        networks.build("conv", (1, 8), 4, padding="reflect")
