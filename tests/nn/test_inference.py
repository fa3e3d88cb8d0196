"""Codes, samples and errors: the same in parts as at once, in the precision of what is given."""

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from torch import nn

from lorae.nn.autoencoder import Architecture, Autoencoder, build, clone
from lorae.nn.inference import decode_all, encode_all, match_precision, squared_errors

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
    z = encode_all(model, x)
    assert z.dtype == (torch.float64 if wide else torch.float32)
    atol = 1e-12 if wide else 1e-5  # rounding, of sums in another order
    torch.testing.assert_close(z, whole.encode(floats).detach(), rtol=0, atol=atol)
    y = decode_all(model, z)
    assert y.dtype == z.dtype
    torch.testing.assert_close(y, whole.decode(z).detach(), rtol=0, atol=atol)
    assert not (z.requires_grad or y.requires_grad)


@pytest.mark.parametrize("batch_size", [1, 7, 500])
@pytest.mark.parametrize("training", [False, True])
def test_everything_runs_in_evaluation_mode_and_the_mode_is_restored(batch_size, training):
    model = build(Architecture("conv", (1, 8, 8), 4, "truncated", width=0.1)).train()
    x = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    model(x / 255)  # moves the running averages, which only evaluation uses
    model.train(training)
    z = encode_all(model, x, batch_size)
    y = decode_all(model, z, batch_size)
    squared_errors(model, x, x[0] / 255)
    assert model.training == training
    torch.testing.assert_close(z, model.eval().encode(x / 255).detach())
    torch.testing.assert_close(y, model(x / 255).detach())


def test_a_model_in_float64_stays_in_float64():
    model, x = model_of("vectors").double(), samples_of("vectors", torch.float32)
    z = encode_all(model, x)
    assert z.dtype == decode_all(model, z.float()).dtype == torch.float64
    assert torch.equal(z, model.encode(x.double()).detach())


@EVERY
def test_float64_is_computed_and_not_only_returned(name):
    model, x = model_of(name), samples_of(name, torch.float64)
    narrow = encode_all(model, x.float()).double()
    difference = float((encode_all(model, x) - narrow).abs().max())
    assert 0 < difference < 1e-5


@EVERY
@DTYPES
@pytest.mark.parametrize("part", [1, 4, 11])
def test_the_size_of_a_batch_changes_nothing(name, dtype, part):
    model, x = model_of(name), samples_of(name, dtype)

    def everything(*size: int) -> list[torch.Tensor]:
        z = encode_all(model, x, *size)
        return [z, decode_all(model, z, *size)]

    expected, found = everything(), everything(part)
    assert [len(one) for one in found] == [11] * 2
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@EVERY
@DTYPES
def test_a_model_is_left_as_it_is(name, dtype):
    model, x = model_of(name), samples_of(name, dtype)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    squared_errors(model, x, samples_of(name, torch.float32)[0])
    decode_all(model, encode_all(model, x))
    for key, tensor in model.state_dict().items():
        assert tensor.dtype == before[key].dtype
        assert torch.equal(tensor, before[key])
        assert tensor.grad is None


def test_only_float64_takes_a_copy():
    model = model_of("vectors")
    assert match_precision(model, torch.zeros(1)) is model
    assert match_precision(model, torch.zeros(1, dtype=torch.uint8)) is model
    wide = match_precision(model, torch.zeros(1, dtype=torch.float64))
    assert wide is not model
    assert wide.shift.dtype == torch.float64


@EVERY
@DTYPES
def test_squares_are_the_shares_of_the_coefficient_of_determination(name, dtype):
    """One minus the share of errors in squares is R^2 around the mean, of scaled values."""
    model, x = model_of(name), samples_of(name, dtype)
    units = x.double() / 255 if dtype == torch.uint8 else x.double()
    mean = units.mean(0)
    errors, apart = squared_errors(model, x, mean)
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
    errors, _ = squared_errors(identity, x, x[0])
    np.testing.assert_array_equal(errors, 0)
    _, apart = squared_errors(identity, x[:1], x[0])
    np.testing.assert_array_equal(apart, 0)


def test_codes_of_columns_far_from_zero_decode_in_every_precision():
    shift = torch.full((3,), 1e9, dtype=torch.float64)
    model = build(Architecture("mlp", (3,), 2, width=0.1, value_range=None), shift=shift)
    codes = torch.randn(4, 2)
    expected = model.decoder(codes).double() + shift
    for z in (codes, codes.double()):
        torch.testing.assert_close(decode_all(model, z), expected.detach(), rtol=0, atol=1e-6)
