"""Networks that training starts from: their output at the start, and after a few steps."""

import numpy as np
import pytest
import torch
from torch import nn

from lorae import LowRankAutoencoder
from lorae.data import shapes
from lorae.errors import InputError
from lorae.estimator.inputs import InputFormat
from lorae.estimator.networks import build_model, start_from_colour, wrap_modules

IMAGES = torch.from_numpy(shapes.generate(200, 0)[0][:, :, ::2, ::2].copy())
RANGES = {
    "bytes": IMAGES,
    "in [0, 1]": IMAGES / 255,
    "in [-1, 1]": IMAGES / 127.5 - 1,
    "beyond": IMAGES * 3.0 - 100,
}


@pytest.mark.parametrize("kind", RANGES)
def test_networks_of_images_start_at_the_mean_colour(kind: str):
    samples = RANGES[kind]
    torch.manual_seed(0)
    model = build_model(samples, InputFormat("array", samples.shape[1:], samples.shape[1:]), 8)
    last = model.decoder[-2]
    before = torch.zeros(1, last.in_channels, 4, 4)
    colour = model.scaled(samples / 255 if kind == "bytes" else samples).mean((0, 2, 3))
    output = nn.Sequential(last, model.decoder[-1])(before)[0].flatten(1)
    torch.testing.assert_close(output, colour[:, None].expand_as(output), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("colour", "low"), [(0.0, 0.0), (1.0, 0.0), (-1.0, -1.0), (1.0, -1.0)])
def test_a_colour_at_an_end_of_the_range_leaves_a_slope(colour: float, low: float):
    end = nn.Sigmoid() if low == 0 else nn.Tanh()
    decoder = nn.Sequential(nn.ConvTranspose2d(2, 1, 1), end)
    start_from_colour(decoder, torch.tensor([colour]), (low, 1.0))
    output = decoder(torch.zeros(1, 2, 1, 1))
    assert float(output.detach()) == pytest.approx(colour, abs=0.01 * (1 - low) + 1e-6)
    output.backward()
    assert float(decoder[0].bias.grad.abs()) > 5e-3


def test_images_that_are_mostly_black_are_learnt():
    """If networks started from the middle of the range, they would return black for all codes."""
    assert np.mean(IMAGES.numpy() == 0) > 0.8
    arguments = {"n_components": 16, "latent": 16, "width": 0.25, "random_state": 0}
    fitted = LowRankAutoencoder(steps=80, batch_size=25, learning_rate=3e-3, **arguments)
    assert fitted.fit(IMAGES).score(IMAGES) > 0.2


@pytest.mark.parametrize(
    ("steps", "ends"),
    [(100, (10, 40, 100)), (300, (30, 120, 300)), (600, (60, 160, 600))],
)
def test_most_steps_are_at_the_final_rank(steps: int, ends: tuple[int, int, int]):
    """After a tenth without constraint, and a tenth, or 100 steps, in which the rank is lowered."""
    X = np.random.default_rng(0).normal(size=(30, 3))
    arguments = {"n_components": 1, "width": 0.05, "batch_size": 5, "random_state": 0}
    fitted = LowRankAutoencoder(steps=steps, **arguments).fit(X)
    last = {line["phase"]: line["step"] for line in fitted.history_}
    assert tuple(last[phase] for phase in ("training", "descent", "finishing")) == ends


def test_wrapped_modules_compute_the_same_and_are_copies():
    torch.manual_seed(0)
    encoder, decoder = nn.Sequential(nn.Linear(5, 3), nn.Tanh()), nn.Linear(3, 5)
    x, shift, scale = torch.rand(4, 5), torch.rand(5), torch.rand(5) + 1
    model = wrap_modules(encoder, decoder, x, shift, scale)
    expected = decoder(encoder((x - shift) / scale)) * scale + shift
    torch.testing.assert_close(model(x), expected)
    model.encoder[0][0].weight.data.zero_()
    assert encoder[0].weight.any()


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        (nn.Linear(4, 2), nn.Linear(2, 5), "encoder"),
        (nn.Linear(5, 2), nn.Linear(3, 5), "decoder"),
        (nn.Linear(5, 2), nn.Linear(2, 4), "decoder"),
        (nn.Unflatten(1, (5, 1)), nn.Flatten(), "encoder"),
    ],
)
def test_modules_that_do_not_fit_are_refused(encoder, decoder, message):
    with pytest.raises(InputError, match=message):
        wrap_modules(encoder, decoder, torch.rand(2, 5), torch.zeros(5), torch.ones(5))
