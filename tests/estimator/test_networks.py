"""Networks that training starts from: their output at the start, and after a few steps."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from lorae.errors import InputError
from lorae.estimator.networks import build_model, scaling, wrap_modules

X = torch.randn(60, 2, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2, 5])


@pytest.mark.parametrize("standardize", [False, True])
def test_default_networks_start_as_pca_of_samples_of_any_shape(standardize):
    model = build_model(X, 3, standardize=standardize)
    flat = X.flatten(1).double().numpy()
    units = flat / flat.std(0) if standardize else flat
    pca = PCA(3).fit(units)
    expected = pca.inverse_transform(pca.transform(units)) * (flat.std(0) if standardize else 1)
    with torch.no_grad():
        found, codes = model(X).flatten(1).numpy(), model.encode(X)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert float(codes.square().mean().sqrt()) == pytest.approx(float(model.decoder[1].scale))


def test_values_that_do_not_vary_have_scale_one():
    shift, scale = scaling(torch.tensor([[1.0, 2.0], [1.0, 4.0]]), standardize=True)
    assert shift.tolist() == [1, 3]
    assert scale.tolist() == [1, 1]
    assert scaling(torch.ones(3, 2), standardize=False)[1].tolist() == [1, 1]


def test_wrapped_modules_compute_the_same_and_are_copies():
    torch.manual_seed(0)
    encoder, decoder = nn.Sequential(nn.Linear(5, 3), nn.Tanh()), nn.Linear(3, 5)
    x, shift, scale = torch.rand(4, 5), torch.rand(5), torch.rand(5) + 1
    model = wrap_modules(encoder, decoder, x, latent=3, shift=shift, scale=scale)
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
        wrap_modules(
            encoder, decoder, torch.rand(2, 5), latent=2, shift=torch.zeros(5), scale=torch.ones(5)
        )
