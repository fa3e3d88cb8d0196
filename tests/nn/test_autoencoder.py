"""Encode, decode, fold and save, for every network over every bridge."""

import dataclasses
import json
from itertools import product

import pytest
import torch
from torch import nn

from lorae.errors import InputError
from lorae.linalg import spectral
from lorae.nn.autoencoder import Architecture, Autoencoder, build
from lorae.nn.bridges.base import NoBridge
from lorae.nn.bridges.data_space import DataSpace
from lorae.nn.bridges.low_rank import LowRank
from lorae.nn.bridges.registry import BRIDGES
from lorae.nn.networks import PAPER_SHAPES
from lorae.nn.serialization import load
from lorae.utils.tensor_files import save_tensors

SHAPES = PAPER_SHAPES | {"conv": (2, 9, 12), "mlp": (11,), "residual": (11,)}
ARCHITECTURES = [
    Architecture(network, SHAPES[network], latent=5, bridge=bridge, width=0.05)
    for network, bridge in product(SHAPES, BRIDGES)
]
ARCHITECTURES += [
    Architecture("mlp", (4,), latent=4, bridge="data-space", value_range=None),
    Architecture("conv", (1, 8, 8), latent=1, bridge="low-rank", value_range=(-1.0, 1.0)),
    Architecture("conv", (1, 8, 8), latent=4, bridge="truncated", settings={"rank": 2}),
    Architecture("conv", (2, 11), 3, "low-rank", width=0.05, value_range=None),
    Architecture("conv", (1, 4, 9, 5), 3, "truncated", {"rank": 2}, 0.05, None, "circular"),
    Architecture("conv", (2, 16), latent=3, width=0.05, padding="circular", lipschitz=True),
    Architecture("mnist", (1, 32, 32), latent=4, width=0.05, lipschitz=True),
    Architecture("shapes", (3, 32, 32), 4, "gaussian", width=0.05, probabilities=True, prior=True),
]
FOLDABLE = [a for a in ARCHITECTURES if a.bridge != "flow"]


def name(architecture: Architecture) -> str:
    sides = "x".join(map(str, architecture.shape))
    return f"{architecture.network}-{sides}-{architecture.bridge}-{architecture.latent}"


every = pytest.mark.parametrize("architecture", ARCHITECTURES, ids=name)
every_foldable = pytest.mark.parametrize("architecture", FOLDABLE, ids=name)


def trained(architecture: Architecture) -> Autoencoder:
    """Return a model with units, random weights and running statistics, in evaluation mode."""
    shape = architecture.shape
    model = build(architecture, shift=torch.randn(shape), scale=torch.rand(shape) + 0.5)
    for _ in range(5):
        model.train()(torch.randn(10, *shape))
    return model.eval()


@every_foldable
class TestEveryModelThatFolds:
    def test_folds_into_one_without_bridge_that_does_the_same(self, architecture):
        model = trained(architecture)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        folded = model.fold()
        x = torch.randn(20, *architecture.shape)
        z = model.encode(x)
        # The last layer's sums of some dozens of float32 products come in another order.
        torch.testing.assert_close(folded.encode(x), z, rtol=1e-4, atol=1e-5 * z.abs().max().item())
        torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-5)
        assert isinstance(folded.bridge, NoBridge)
        assert not folded.training
        theirs = {tensor.data_ptr() for tensor in model.state_dict().values()}
        assert not theirs & {tensor.data_ptr() for tensor in folded.state_dict().values()}
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        again = folded.fold()
        assert torch.equal(again.encode(x), folded.encode(x))

    def test_folds_exactly_in_float64(self, architecture):
        model = trained(architecture).double()
        x = torch.randn(5, *architecture.shape, dtype=torch.float64)
        torch.testing.assert_close(model.fold().encode(x), model.encode(x))

    def test_is_the_same_after_it_is_folded_and_saved(self, architecture, tmp_path):
        model = trained(architecture).fold()
        model.save(tmp_path / "model.safetensors")
        x = torch.randn(4, *architecture.shape)
        assert torch.equal(load(tmp_path)(x), model(x))


@every
class TestEveryModel:
    def test_gives_back_the_shape_it_takes(self, architecture):
        model = trained(architecture)
        x = torch.randn(3, *architecture.shape)
        z = model.encode(x)
        assert z.shape == (3, architecture.latent)
        assert model.decode(z).shape == x.shape
        assert torch.equal(model(x), model.decode(model.encode(x)))

    def test_is_the_same_after_it_is_saved(self, architecture, tmp_path):
        model = trained(architecture)
        model.train().save(tmp_path / "model.safetensors")
        x = torch.randn(4, *architecture.shape)
        for path in (tmp_path, tmp_path / "model.safetensors", str(tmp_path)):
            found = load(path)
            assert not found.training
            assert found.architecture == model.architecture
            assert (found.prior, found.inverts) == (architecture.prior, architecture.inverts)
            assert torch.equal(found(x), model.eval()(x))

    def test_is_described_by_json(self, architecture):
        fields = json.loads(json.dumps(dataclasses.asdict(architecture)))
        assert Architecture.from_dict(fields) == architecture


class Squares(nn.Module):
    """An encoder that does not end in a linear layer."""

    def forward(self, x):
        return x.square()


def own(encoder: nn.Module, bridge: nn.Module | None = None) -> Autoencoder:
    return Autoencoder(encoder, bridge or LowRank(3), nn.Linear(3, 6), shift=1.0, scale=2.0)


def test_a_table_comes_out_in_the_units_it_came_in():
    table = torch.tensor([1000.0, 1e-3]) * torch.randn(50, 2) + torch.tensor([5000.0, 7.0])
    model = Autoencoder(
        nn.Identity(), NoBridge(2), nn.Identity(), shift=table.mean(0), scale=table.std(0)
    )
    torch.testing.assert_close(model(table), table)
    torch.testing.assert_close(model.encode(table).std(0), torch.ones(2), rtol=1e-3, atol=0)


def test_a_model_of_own_modules_does_everything_but_be_saved(tmp_path):
    model = own(nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3, bias=False)))
    x = torch.randn(5, 6)
    assert model(x).shape == x.shape
    folded = model.fold()
    torch.testing.assert_close(folded.encode(x), model.encode(x))
    for each in (model, folded):
        with pytest.raises(InputError, match="must have an architecture to be saved"):
            each.save(tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_bias_appears_where_folding_needs_one():
    bridge = DataSpace(3)
    bridge.mean.fill_(2.0)
    model = own(nn.Linear(6, 3, bias=False), bridge).eval()
    x = torch.randn(5, 6)
    torch.testing.assert_close(model.fold().encode(x), model.encode(x))


@pytest.mark.parametrize(
    ("encoder", "last"),
    [
        (nn.Sequential(nn.Linear(6, 3), nn.ReLU()), "ReLU"),
        (nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)), "BatchNorm1d"),
        (nn.Sequential(nn.Linear(6, 3), Squares()), "Squares"),
        (Squares(), "Squares"),
        (nn.Flatten(), "Flatten"),
    ],
    ids=str,
)
def test_an_encoder_without_a_linear_end_cannot_be_folded(encoder, last):
    with pytest.raises(InputError, match=f"to be folded, got {last}"):
        own(encoder).fold()


def test_an_encoder_whose_convolution_leaves_several_places_cannot_be_folded():
    encoder = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten())
    model = Autoencoder(encoder, LowRank(12), nn.Linear(12, 16))
    assert model.encode(torch.randn(2, 1, 4, 4)).shape == (2, 12)
    with pytest.raises(InputError, match=r"layer of 12 outputs.* got 3"):
        model.fold()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bridge": "low-rnk"}, r"unknown bridge 'low-rnk' \(did you mean 'low-rank'\?\)"),
        ({"network": "con"}, r"unknown network 'con' \(did you mean 'conv'\?\)"),
        ({"latent": 0}, "latent must be"),
        ({"bridge": "chain", "settings": {"depth": 0}}, "depth must be .*at least 1"),
    ],
    ids=str,
)
def test_what_cannot_be_built_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        build(dataclasses.replace(Architecture("conv", (1, 8, 8), 4), **change))


CUT = [a for a in FOLDABLE if a.bridge not in ("none", "gaussian")]


@pytest.mark.parametrize("architecture", CUT, ids=name)
class TestCut:
    def test_leaves_as_many_dimensions_as_the_matrix_has(self, architecture, tmp_path):
        model = trained(architecture).double()
        low_rank(model, 2)
        rank = int(torch.linalg.matrix_rank(model.bridge.matrix(), rtol=1e-6))
        x = torch.randn(7, *architecture.shape, dtype=torch.float64)
        small = model.cut()
        assert rank <= 2
        assert small.encode(x).shape == (7, rank)
        torch.testing.assert_close(small(x), model(x))
        small.float().save(tmp_path / "model.safetensors")
        found = load(tmp_path)
        assert torch.equal(found(x.float()), small(x.float()))
        assert (
            sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
            or rank == architecture.latent
        )

    def test_keeps_what_is_above_the_threshold(self, architecture):
        model = trained(architecture).double()
        sigma = torch.linalg.svdvals(model.bridge.matrix())
        for threshold in (0.0, 0.3, 0.9):
            expected = int((sigma > threshold * sigma[0]).sum())
            assert model.cut(threshold).bridge.latent == expected


def low_rank(model: Autoencoder, rank: int) -> None:
    """Give a bridge's matrix a rank of at most so many, where it is a parameter."""
    bridge = model.bridge
    with torch.no_grad():
        for weight in [
            p for n, p in bridge.named_parameters() if n in ("weight", "left", "layers.0.weight")
        ]:
            weight.copy_(spectral.truncate(weight, rank))
        if hasattr(bridge, "kept"):
            bridge.kept.fill_(min(rank, bridge.latent))


@pytest.mark.parametrize("bridge", ["none", "gaussian"])
def test_a_model_without_a_matrix_cannot_be_cut(bridge):
    with pytest.raises(InputError, match="a bridge that learns a matrix to be cut"):
        build(Architecture("mlp", (6,), 3, bridge)).cut()


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_a_threshold_that_is_none_is_refused(threshold):
    with pytest.raises(InputError, match=r"threshold must be .*at least 0 and below 1"):
        build(Architecture("mlp", (6,), 3, "low-rank")).cut(threshold)


def test_a_decoder_that_cannot_be_cut_is_refused():
    model = Autoencoder(nn.Linear(6, 3), LowRank(3), nn.ReLU())
    with pytest.raises(InputError, match="decoder must begin with a Linear layer"):
        model.cut()
    model = Autoencoder(nn.Linear(6, 3), LowRank(3), nn.Linear(4, 6))
    with pytest.raises(InputError, match="begin with a layer of 3 inputs, got 4"):
        model.cut()


def test_a_prior_is_kept_by_folding_where_it_fills_the_space():
    kept = build(Architecture("mlp", (6,), 3, "gaussian", prior=True)).fold()
    lost = build(Architecture("mlp", (6,), 3, "truncated-gaussian", {"rank": 2}, prior=True)).fold()
    assert kept.prior
    assert kept.architecture.prior
    assert not lost.prior
    assert not lost.architecture.prior


@pytest.mark.parametrize("network", ["mnist", "conv", "mlp"])
def test_probabilities_are_between_0_and_1_whatever_the_network_ends_in(network):
    model = build(Architecture(network, SHAPES[network], 3, width=0.05, probabilities=True))
    x = model.decode(100 * torch.randn(50, 3))
    assert 0 <= x.min() < 0.4
    assert 0.6 < x.max() <= 1


def test_a_file_that_holds_no_model_is_refused(tmp_path):
    model = trained(ARCHITECTURES[0])
    about, tensors = dataclasses.asdict(model.architecture), model.state_dict()
    unlike = dict(tensors, shift=torch.zeros(1, 1, 1)) | {"more": torch.ones(1)}
    fewer = {name: tensor for name, tensor in tensors.items() if "bias" not in name}
    for wrong, description in (
        (tensors, {"step": 3}),
        (tensors, []),
        (tensors, None),
        (tensors, about | {"latent": 6}),
        (tensors, about | {"network": "unheard-of"}),
        (tensors, about | {"shape": 3}),
        (tensors, about | {"strange": 3}),
        (unlike, about),
        (fewer, about),
        ({}, about),
    ):
        save_tensors(tmp_path / "model.safetensors", wrong, description)
        with pytest.raises(InputError) as error:
            load(tmp_path)
        assert "\n" not in str(error.value)
