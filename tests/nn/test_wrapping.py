"""A user's own modules become a model that trains, folds, and comes back from a file."""

import copy
import re
from itertools import pairwise, product

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import lorae
from lorae.errors import InputError
from lorae.linalg import spectral
from lorae.nn.blocks import add_spectral_norm
from lorae.nn.bridges.low_rank import LowRank
from lorae.nn.bridges.registry import BRIDGES
from lorae.objectives.registry import METHODS
from lorae.utils.tensor_files import save_tensors

L = 4


class Last(nn.Module):
    """An encoder whose last layer is registered last, and is the last to run."""

    def __init__(self, inputs: int = 6, outputs: int = L) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, 8)
        self.out = nn.Linear(8, outputs, bias=False)

    def forward(self, x):
        return self.out(torch.relu(self.hidden(x)))


class OtherOrder(Last):
    """The same, registered the other way round."""

    def __init__(self) -> None:
        super().__init__()
        hidden = self.hidden
        del self.hidden
        self.hidden = hidden
        self.hidden_out = nn.Linear(8, 8)

    def forward(self, x):
        return self.out(torch.relu(self.hidden_out(self.hidden(x))))


class Squashed(Last):
    """An encoder that does something after its last layer."""

    def forward(self, x):
        return torch.tanh(super().forward(x))


class Twice(nn.Module):
    """A decoder that uses its codes twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(L, 6)
        self.second = nn.Linear(L, 6)

    def forward(self, z):
        return self.first(z) + self.second(z)


class Fixed(nn.Module):
    """A decoder that knows the size of its codes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(L, 6)

    def forward(self, z):
        return self.first(z.view(-1, L))


def dense(*sizes: int, bias: bool = True) -> nn.Sequential:
    layers = [nn.Linear(a, b, bias) for a, b in pairwise(sizes)]
    return nn.Sequential(*[one for layer in layers for one in (layer, nn.ELU())][:-1])


def images() -> tuple[nn.Module, nn.Module]:
    encoder = nn.Sequential(
        nn.Conv2d(2, 5, 3, 2, 1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, L, 4), nn.Flatten()
    )
    decoder = nn.Sequential(
        nn.Unflatten(1, (L, 1, 1)),
        nn.ConvTranspose2d(L, 5, 4),
        nn.ReLU(),
        nn.ConvTranspose2d(5, 2, 4, 2, 1),
    )
    return encoder, decoder


def nested() -> tuple[nn.Module, nn.Module]:
    inner = nn.Sequential(nn.Linear(6, 8), nn.ReLU())
    return nn.Sequential(inner, nn.Sequential(nn.Linear(8, L), nn.Dropout(0.5))), dense(L, 6)


def normal() -> tuple[nn.Module, nn.Module]:
    encoder = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), spectral_norm(nn.Linear(8, L)))
    return encoder, nn.Sequential(spectral_norm(nn.Linear(L, 8)), nn.ReLU(), nn.Linear(8, 6))


VECTOR, IMAGE = (6,), (2, 8, 8)
MODULES = {
    "dense": (lambda: (dense(6, 8, L), dense(L, 8, 6)), VECTOR),
    "no bias": (lambda: (dense(6, 8, L, bias=False), dense(L, 8, 6)), VECTOR),
    "one layer": (lambda: (nn.Linear(6, L), nn.Linear(L, 6)), VECTOR),
    "nested": (nested, VECTOR),
    "normal": (normal, VECTOR),
    "own class": (lambda: (Last(), dense(L, 8, 6)), VECTOR),
    "both own": (lambda: (Last(), Last(L, 6)), VECTOR),
    "images": (images, IMAGE),
}
BETWEEN = {
    "none": {},
    "low-rank": {},
    "chain": {"depth": 2},
    "factored": {"inner": 2},
    "data-space": {},
    "truncated": {"rank": 2},
    "truncated-gaussian": {"rank": 2},
}


def made(name: str, bridge: str = "low-rank") -> lorae.Autoencoder:
    """Return a wrapped model with units and running statistics, of rank 2 where it can be."""
    modules, shape = MODULES[name]
    sample = torch.randn(9, *shape)
    model = lorae.wrap(
        *modules(),
        bridge=bridge,
        settings=BETWEEN[bridge],
        sample=sample,
        shift=sample.mean(0),
        scale=torch.rand(shape) + 0.5,
    )
    for _ in range(3):
        model.train()(sample)
    with torch.no_grad():
        for key, weight in model.bridge.named_parameters():
            if key in ("weight", "layers.0.weight"):
                weight.copy_(spectral.truncate(weight, 2))
    return model.eval()


PAIRS = [*product(MODULES, ["low-rank", "data-space"]), *product(["dense", "images"], BETWEEN)]
every = pytest.mark.parametrize(("name", "bridge"), dict.fromkeys(PAIRS), ids=str)


@every
class TestOwnModules:
    def test_come_back_from_a_file(self, name, bridge, tmp_path):
        model = made(name, bridge)
        model.save(str(tmp_path / "model.safetensors"))
        given = MODULES[name][0]()
        before = [copy.deepcopy(module.state_dict()) for module in given]
        found = lorae.load(tmp_path, encoder=given[0], decoder=given[1])
        x = torch.randn(5, *MODULES[name][1])
        assert torch.equal(found(x), model(x))
        assert not found.training
        assert found.architecture == model.architecture
        for module, state in zip(given, before, strict=True):
            for key, tensor in module.state_dict().items():
                assert torch.equal(tensor, state[key])

    def test_fold_and_come_back(self, name, bridge, tmp_path):
        model = made(name, bridge)
        folded = model.fold()
        x = torch.randn(5, *MODULES[name][1])
        # Products of a few dozen float32 in another order.
        torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-5)
        folded.save(tmp_path / "model.safetensors")
        encoder, decoder = MODULES[name][0]()
        found = lorae.load(tmp_path, encoder=encoder, decoder=decoder)
        assert torch.equal(found(x), folded(x))

    def test_are_cut_and_come_back(self, name, bridge, tmp_path):
        model = made(name, bridge)
        if bridge == "none":
            with pytest.raises(InputError, match="learns a matrix to be cut"):
                model.cut()
            return
        small = model.cut()
        x = torch.randn(5, *MODULES[name][1])
        assert small.encode(x).shape == (5, 2)
        torch.testing.assert_close(small(x), model(x), rtol=1e-4, atol=1e-5)
        small.save(tmp_path / "model.safetensors")
        encoder, decoder = MODULES[name][0]()
        found = lorae.load(tmp_path, encoder=encoder, decoder=decoder)
        assert torch.equal(found(x), small(x))


@pytest.mark.parametrize("name", [n for n in METHODS if METHODS[n].bridge in BETWEEN])
def test_every_objective_trains_them(name):
    row = METHODS[name]
    traits, x = row.traits, torch.rand(32, 6)
    decoder = dense(L, 8, 6)
    model = lorae.wrap(
        dense(6, 8, L),
        add_spectral_norm(decoder, torch.zeros(1, L)) if traits.get("lipschitz") else decoder,
        bridge=row.bridge,
        settings=BETWEEN[row.bridge],
        sample=x,
        prior=traits.get("prior", False),
    )
    objective = row.build_objective(model)
    optimizer = torch.optim.Adam(objective.parameter_groups(1e-2))
    before = copy.deepcopy(model.state_dict())
    for _ in range(3):
        loss = torch.stack(list(objective(x).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step(1e-2)
    assert loss.isfinite()
    assert not torch.equal(model.encoder[0].weight, before["encoder.0.weight"])


def test_the_modules_are_parts_and_not_copies():
    encoder, decoder = dense(6, L), dense(L, 6)
    model = lorae.wrap(encoder, decoder)
    assert model.encoder is encoder
    assert model.decoder is decoder
    assert isinstance(model.bridge, LowRank)


def test_trying_them_changes_nothing():
    encoder, decoder = images()
    encoder[1].eval()
    before, sample = copy.deepcopy(encoder.state_dict()), torch.randn(3, *IMAGE)
    torch.manual_seed(5)
    lorae.wrap(encoder, decoder, bridge="none", sample=sample)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)
    assert encoder.training
    assert not encoder[1].training
    assert all(torch.equal(before[key], one) for key, one in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("encoder", "arguments", "latent"),
    [
        (dense(6, 5), {}, 5),
        (Last(), {"latent": L}, L),
        (Last(), {"sample": torch.rand(2, 6)}, L),
        (nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten()), {"sample": torch.rand(2, 1, 2, 4)}, 6),
        (dense(6, 8), {"latent": 4, "bridge": "gaussian"}, 4),
    ],
    ids=["last layer", "given", "tried", "places", "posterior"],
)
def test_the_latent_dimension_is_found(encoder, arguments, latent):
    shape = arguments["sample"].shape[1:] if "sample" in arguments else (6,)
    size = torch.Size(shape).numel()
    decoder = nn.Sequential(nn.Linear(latent, size), nn.Unflatten(1, tuple(shape)))
    model = lorae.wrap(encoder, decoder, **arguments)
    assert model.bridge.latent == latent
    assert model(torch.rand(3, *shape)).shape == (3, *shape)


def test_bridge_and_units_go_where_the_modules_are():
    model = lorae.wrap(dense(6, L).double(), dense(L, 6).double(), sample=torch.rand(2, 6))
    assert model.bridge.weight.dtype == model.shift.dtype == torch.float64
    assert model(torch.rand(2, 6)).dtype == torch.float64


def test_a_network_in_another_order_is_not_folded_wrongly():
    x = torch.randn(5, 6)
    for encoder in (OtherOrder(), Squashed()):
        with pytest.raises(InputError, match=r"must (output what its last|end in a layer of)"):
            lorae.wrap(encoder, dense(L, 6), sample=x).fold()
        with pytest.raises(InputError, match=r"or have been given a sample by lorae\.wrap"):
            lorae.wrap(Squashed(), dense(L, 6), latent=L).fold()


def test_an_activation_that_is_used_twice_is_seen():
    shared = nn.ReLU()
    encoder = nn.Sequential(nn.Linear(6, 8), shared, nn.Linear(8, L), shared)
    with pytest.raises(InputError, match="to be folded, got ReLU"):
        lorae.wrap(encoder, dense(L, 6), latent=L).fold()
    with pytest.raises(InputError, match="to be cut, got ReLU"):
        lorae.wrap(dense(6, L), nn.Sequential(nn.ReLU(), nn.Linear(L, 6))).cut()


@pytest.mark.parametrize("decoder", [Twice(), Fixed()], ids=["twice", "fixed"])
def test_a_decoder_that_cannot_be_cut_is_refused(decoder):
    model = lorae.wrap(dense(6, L), decoder)
    with torch.no_grad():
        model.bridge.weight.copy_(spectral.truncate(model.bridge.weight, 2))
    with pytest.raises(InputError, match="must use its codes in its first layer 'first' alone"):
        model.cut()
    model.fold()


def test_layers_in_groups_are_not_mixed():
    encoder = nn.Sequential(nn.Conv2d(4, L, 1, groups=2), nn.Flatten())
    decoder = nn.Sequential(nn.Unflatten(1, (L, 1, 1)), nn.ConvTranspose2d(L, 4, 1, groups=2))
    sample = torch.rand(3, 4, 1, 1)
    with pytest.raises(InputError, match="got Conv2d with 2 groups"):
        lorae.wrap(encoder, decoder, sample=sample).fold()
    with pytest.raises(InputError, match="got ConvTranspose2d with 2 groups"):
        lorae.wrap(nn.Sequential(nn.Flatten(), nn.Linear(4, L)), decoder, sample=sample).cut()


BAD = {
    "unknown latent": (
        lambda: lorae.wrap(Last(), dense(L, 6)),
        "latent must be given, or a sample",
    ),
    "latent 0": (
        lambda: lorae.wrap(Last(), dense(L, 6), latent=-1),
        "latent must be .*at least 1, got -1",
    ),
    "other latent": (
        lambda: lorae.wrap(dense(6, L), dense(3, 6), latent=3),
        "must have 3 outputs for a bridge 'low-rank' of latent 3, got 4",
    ),
    "posterior": (
        lambda: lorae.wrap(dense(6, L), dense(L, 6), bridge="gaussian"),
        "must have 8 outputs for a bridge 'gaussian' of latent 4, got 4",
    ),
    "bridge": (
        lambda: lorae.wrap(dense(6, L), dense(L, 6), bridge="lowrank"),
        r"unknown bridge 'lowrank' \(did you mean 'low-rank'\?\)",
    ),
    "settings": (
        lambda: lorae.wrap(dense(6, L), dense(L, 6), settings={"rank": 2}),
        "settings must be those of the bridge 'low-rank', got {'rank': 2}",
    ),
    "rank": (
        lambda: lorae.wrap(dense(6, L), dense(L, 6), bridge="truncated", settings={"rank": 5}),
        "rank must be .*at most 4",
    ),
    "one sample": (
        lambda: lorae.wrap(dense(6, L), dense(L, 6), sample=torch.rand(6)),
        r"sample must have shape \(n, \.\.\.\), got 6",
    ),
    "sample's shape": (
        lambda: lorae.wrap(dense(6, L), dense(L, 6), sample=torch.rand(2, 7)),
        "encoder must take samples of shape 7, and failed: ",
    ),
    "places": (
        lambda: lorae.wrap(nn.Conv2d(1, 2, 2), dense(L, 6), sample=torch.rand(2, 1, 3, 3)),
        "must map 2 samples to 2 x k codes, got 2 x 2 x 2 x 2: an nn.Flatten",
    ),
    "decoder's input": (
        lambda: lorae.wrap(dense(6, L), dense(5, 6), sample=torch.rand(2, 6)),
        "decoder must take codes of 4 dimensions, and failed: ",
    ),
    "decoder's output": (
        lambda: lorae.wrap(dense(6, L), dense(L, 7), sample=torch.rand(2, 6)),
        "decoder must output samples of shape 6, as the encoder takes, got 7",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused(case):
    call, pattern = BAD[case]
    with pytest.raises(InputError, match=pattern) as error:
        call()
    assert "\n" not in str(error.value)


def test_what_does_not_fit_a_file_is_refused(tmp_path):
    made("dense").save(tmp_path / "own")
    lorae.build(lorae.Architecture("mlp", (6,), 3)).save(tmp_path / "built")
    cases = [
        ("own", {}, "must be given for a model of the user's own modules"),
        ("own", {"encoder": dense(6, L)}, "must be given"),
        ("own", {"encoder": dense(6, 9, L), "decoder": dense(L, 8, 6)}, r"encoder\.0\.weight"),
        ("own", {"encoder": dense(6, L), "decoder": dense(L, 8, 6)}, "can build"),
        ("built", {"encoder": dense(6, L)}, "must not be given, the file has its own"),
    ]
    for file, given, pattern in cases:
        with pytest.raises(InputError, match=pattern) as error:
            lorae.load(tmp_path / file, **given)
        assert re.match(f"'[^']*{file}'", str(error.value))
        assert "\n" not in str(error.value)


def test_own_modules_have_no_name_among_the_networks():
    with pytest.raises(InputError, match="unknown network 'own'"):
        lorae.build(lorae.Architecture("own", (6,), 3))


def test_bridges_are_all_known():
    assert set(BETWEEN) | {"gaussian", "flow"} == set(BRIDGES)


def test_a_description_of_another_kind_is_refused(tmp_path):
    model = made("dense")
    save_tensors(tmp_path / "a", model.state_dict(), {"network": "own"})
    with pytest.raises(InputError, match="no model this version can build"):
        lorae.load(tmp_path / "a", encoder=dense(6, L), decoder=dense(L, 6))
