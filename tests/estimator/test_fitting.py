"""Networks to start from: what they put out before anything has trained them, and after little."""

import numpy as np
import pytest
import torch
from torch import nn

from lorae import LowRankAutoencoder
from lorae.data import shapes
from lorae.estimator.containers import Container
from lorae.estimator.fitting import fresh_model, start_from_colour

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
    model = fresh_model(samples, Container("array", samples.shape[1:], samples.shape[1:]), 8)
    last = model.decoder[-2]
    before = torch.zeros(1, last.in_channels, 4, 4)
    colour = model.scaled(samples / 255 if kind == "bytes" else samples).mean((0, 2, 3))
    put_out = nn.Sequential(last, model.decoder[-1])(before)[0].flatten(1)
    torch.testing.assert_close(put_out, colour[:, None].expand_as(put_out), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("colour", "low"), [(0.0, 0.0), (1.0, 0.0), (-1.0, -1.0), (1.0, -1.0)])
def test_a_colour_at_an_end_of_the_range_leaves_a_slope(colour: float, low: float):
    end = nn.Sigmoid() if low == 0 else nn.Tanh()
    decoder = nn.Sequential(nn.ConvTranspose2d(2, 1, 1), end)
    start_from_colour(decoder, torch.tensor([colour]), (low, 1.0))
    put_out = decoder(torch.zeros(1, 2, 1, 1))
    assert float(put_out.detach()) == pytest.approx(colour, abs=0.01 * (1 - low) + 1e-6)
    put_out.backward()
    assert float(decoder[0].bias.grad.abs()) > 5e-3


def test_images_mostly_black_are_learnt():
    """From the middle of the range training ends at black, whatever the codes are."""
    assert np.mean(IMAGES.numpy() == 0) > 0.8
    arguments = {"n_components": 16, "latent": 16, "width": 0.25, "random_state": 0}
    fitted = LowRankAutoencoder(steps=80, batch_size=25, learning_rate=3e-3, **arguments)
    assert fitted.fit(IMAGES).score(IMAGES) > 0.2


@pytest.mark.parametrize(
    ("steps", "ends"),
    [(100, (10, 40, 100)), (300, (30, 120, 300)), (600, (60, 160, 600))],
)
def test_most_steps_are_made_at_the_rank_that_is_given(steps: int, ends: tuple[int, int, int]):
    """After a tenth without constraint, and a tenth on the way down, or 100 steps if few."""
    X = np.random.default_rng(0).normal(size=(30, 3))
    arguments = {"n_components": 1, "width": 0.05, "batch_size": 5, "random_state": 0}
    fitted = LowRankAutoencoder(steps=steps, **arguments).fit(X)
    last = {line["phase"]: line["step"] for line in fitted.history_}
    assert tuple(last[phase] for phase in ("training", "descent", "finishing")) == ends
