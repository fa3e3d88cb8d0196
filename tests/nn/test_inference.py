"""Codes, samples and errors: the same in parts as at once, in the precision of what is given."""

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from torch import nn

from lorae.nn import inference
from lorae.nn.autoencoder import Architecture, Autoencoder, build, clone
from lorae.nn.inference import decoded, encoded, like, squares

MODELS = {
    "vectors": (Architecture("mlp", (7,), 3, "low-rank", value_range=None), 2.0, 3.0),
    "residual": (Architecture("residual", (7,), 3, value_range=None), 0.0, 1.0),
    "images": (Architecture("conv", (2, 9, 8), 4, "low-rank", width=0.1), 0.25, 0.5),
}


def model_of(name: str) -> Autoencoder:
    architecture, shift, scale = MODELS[name]
    return build(architecture, shift, scale).eval()


def samples_of(name: str, dtype: torch.dtype, n: int = 11) -> torch.Tensor:
    values = torch.rand(n, *MODELS[name][0].shape, generator=torch.Generator().manual_seed(0))
    return (255 * values).to(torch.uint8) if dtype == torch.uint8 else values.to(dtype)


EVERY = pytest.mark.parametrize("name", MODELS)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8], ids=str)


@EVERY
@DTYPES
def test_codes_and_samples_are_the_models_own(name, dtype):
    model, x = model_of(name), samples_of(name, dtype)
    wide = dtype == torch.float64
    whole = clone(model).double() if wide else model
    floats = x / 255 if dtype == torch.uint8 else x
    z = encoded(model, x)
    assert z.dtype == (torch.float64 if wide else torch.float32)
    atol = 1e-12 if wide else 1e-5  # rounding, of sums in another order
    torch.testing.assert_close(z, whole.encode(floats).detach(), rtol=0, atol=atol)
    y = decoded(model, z)
    assert y.dtype == z.dtype
    torch.testing.assert_close(y, whole.decode(z).detach(), rtol=0, atol=atol)
    assert not (z.requires_grad or y.requires_grad)


@EVERY
def test_float64_is_computed_and_not_only_returned(name):
    model, x = model_of(name), samples_of(name, torch.float64)
    narrow = encoded(model, x.float()).double()
    difference = float((encoded(model, x) - narrow).abs().max())
    assert 0 < difference < 1e-5


@EVERY
@DTYPES
@pytest.mark.parametrize("part", [1, 4, 11, 500])
def test_the_size_of_a_part_changes_nothing(name, dtype, part, monkeypatch):
    model, x = model_of(name), samples_of(name, dtype)
    mean = samples_of(name, torch.float32).mean(0)

    def everything() -> list[torch.Tensor]:
        z = encoded(model, x)
        return [z, decoded(model, z), *squares(model, x, mean)]

    expected = everything()
    monkeypatch.setattr(inference, "_PART", part)
    found = everything()
    assert [len(one) for one in found] == [11] * 4
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@EVERY
@DTYPES
def test_a_model_is_left_as_it_is(name, dtype):
    model, x = model_of(name), samples_of(name, dtype)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    squares(model, x, samples_of(name, torch.float32)[0])
    decoded(model, encoded(model, x))
    for key, tensor in model.state_dict().items():
        assert tensor.dtype == before[key].dtype
        assert torch.equal(tensor, before[key])
        assert tensor.grad is None


def test_only_float64_takes_a_copy():
    model = model_of("vectors")
    assert like(model, torch.zeros(1)) is model
    assert like(model, torch.zeros(1, dtype=torch.uint8)) is model
    wide = like(model, torch.zeros(1, dtype=torch.float64))
    assert wide is not model
    assert wide.shift.dtype == torch.float64


@EVERY
@DTYPES
def test_squares_are_the_shares_of_the_coefficient_of_determination(name, dtype):
    """One minus the share of errors in squares is R^2 around the mean, of scaled values."""
    model, x = model_of(name), samples_of(name, dtype)
    units = x.double() / 255 if dtype == torch.uint8 else x.double()
    mean = units.mean(0)
    errors, apart = squares(model, x, mean)
    assert errors.dtype == apart.dtype == torch.float64
    scaled = model.scaled(units.float()).double()
    made = model.decoder(model.bridge(model.encoder(scaled.float()))).detach().double()
    expected = (made - scaled).flatten(1).square().mean(1)
    torch.testing.assert_close(errors, expected, rtol=1e-4, atol=1e-5)
    r2 = r2_score(
        scaled.flatten(1).numpy(), made.flatten(1).numpy(), multioutput="variance_weighted"
    )
    assert 1 - float(errors.sum() / apart.sum()) == pytest.approx(r2, rel=1e-4, abs=1e-4)


def test_squares_of_the_mean_and_of_a_perfect_model_are_0():
    identity = Autoencoder(nn.Identity(), model_of("vectors").bridge, nn.Identity(), shift=1.0)
    identity.bridge = nn.Identity()
    x = samples_of("vectors", torch.float64)
    errors, _ = squares(identity, x, x[0])
    np.testing.assert_array_equal(errors, 0)
    _, apart = squares(identity, x[:1], x[0])
    np.testing.assert_array_equal(apart, 0)
