"""Every model's loss is the sum it says, falls, and does to the bridge what its method does."""

import numpy as np
import pytest
import torch
from torch import nn

from lorae import objectives, spectral
from lorae.autoencoder import Architecture, Autoencoder, build
from lorae.bridges import LowRank, NoBridge, ScaleFree
from lorae.errors import InputError
from lorae.objectives import AE, METHODS, LoRAE, Method, Objective, ProximalLoRAE, method

LATENT = 6


def images() -> torch.Tensor:
    """Return blurred spots, which a few numbers describe."""
    place = torch.rand(64, 2, 1, 1) * 8
    rows, columns = torch.arange(8.0)[:, None], torch.arange(8.0)
    distance = (rows - place[:, :1]).square() + (columns - place[:, 1:]).square()
    return torch.exp(-distance / 4)


def vectors() -> torch.Tensor:
    return torch.randn(64, 3) @ torch.randn(3, 10)


KINDS = {
    "image": (images, "conv", (0.0, 1.0)),
    "vector": (vectors, "mlp", None),
}


def made(name: str, kind: str = "vector", **arguments: float) -> tuple[Objective, torch.Tensor]:
    """Return the objective of that name over a new small model, and a batch."""
    samples, network, value_range = KINDS[kind]
    x = samples()
    row = METHODS[name]
    model = build(
        Architecture(network, tuple(x.shape[1:]), LATENT, row.bridge, 0.25, 3, value_range)
    )
    return row.objective(model, **arguments), x


def trained(objective: Objective, x: torch.Tensor, steps: int = 30) -> list[float]:
    """Return the losses of a plain training loop over one batch."""
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
    losses = []
    for _ in range(steps):
        loss = torch.stack(list(objective(x).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step(3e-3)
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    def test_has_named_terms_the_first_of_which_is_the_mean_square(self, name, kind):
        objective, x = made(name, kind)
        terms = objective(x)
        assert all(term.shape == () and term.isfinite() for term in terms.values())
        objective, x = made(name, kind)
        objective.model.shift.fill_(0.3)
        objective.model.scale.fill_(2.0)
        y = objective.model(x)
        expected = np.mean(np.square((y - x).detach().double().numpy() / 2))  # in scaled units
        assert next(iter(objective(x))) == "reconstruction"
        assert objective(x)["reconstruction"].item() == pytest.approx(expected, rel=1e-5)

    def test_has_finite_gradients_in_every_parameter(self, name, kind):
        objective, x = made(name, kind)
        torch.stack(list(objective(x).values())).sum().backward()
        for key, parameter in objective.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key

    def test_falls_and_depends_on_the_seed_alone(self, name, kind):
        losses = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            losses.append(trained(*made(name, kind)))
        assert losses[0] == losses[1] != losses[2]
        for run in losses:
            assert run[-1] < 0.9 * run[0]
            assert all(np.isfinite(run))


@pytest.mark.parametrize("name", ["lorae", "lorae-scale-free"])
@pytest.mark.parametrize("weight", [0, 1e-3, 2.5])
@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_the_penalty_is_the_weighted_sum_of_singular_values(name, weight, strength):
    objective, x = made(name, weight=weight)
    objective.strength = strength
    matrix = objective.model.bridge.weight.detach().numpy()
    norm = np.linalg.svd(matrix, compute_uv=False).sum()
    if name == "lorae-scale-free":
        norm /= np.linalg.norm(matrix)
        assert 1 <= norm <= np.sqrt(LATENT)
    terms = objective(x)
    assert list(terms) == ["reconstruction", "nuclear_norm"]
    assert terms["nuclear_norm"].item() == pytest.approx(weight * strength * norm, rel=1e-5)


def test_the_subgradient_of_the_penalty_is_the_papers():
    objective, x = made("lorae", weight=0.7)
    objective(x)["nuclear_norm"].backward()
    U, _, Vh = np.linalg.svd(objective.model.bridge.weight.detach().double().numpy())
    found = objective.model.bridge.weight.grad.numpy()
    np.testing.assert_allclose(found, 0.7 * U @ Vh, atol=1e-5)


@pytest.mark.parametrize("weight", [0, 0.5, 20])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_proximal_step_takes_from_each_singular_value_what_is_due(weight, strength):
    objective, x = made("lorae-proximal", weight=weight)
    objective.strength = strength
    before = np.linalg.svd(objective.model.bridge.weight.detach().double().numpy())[1]
    assert list(objective(x)) == ["reconstruction"]
    objective.after_step(learning_rate=0.1)
    after = np.linalg.svd(objective.model.bridge.weight.detach().double().numpy())[1]
    expected = np.maximum(before - 0.1 * weight * strength, 0)
    np.testing.assert_allclose(after, expected, atol=1e-6)


def test_the_proximal_form_finds_an_exact_rank():
    objective, x = made("lorae-proximal", weight=3.0)
    trained(objective, x, steps=150)
    sigma = torch.linalg.svdvals(objective.model.bridge.weight.detach().double())
    rank = int((sigma > 1e-6 * sigma[0]).sum())  # float32 leaves 1e-7 of the largest
    assert 1 <= rank < LATENT
    assert spectral.rank(sigma, 1e-2) == rank


@pytest.mark.parametrize("bridge", [NoBridge(3), ScaleFree(3)])
def test_the_proximal_step_needs_a_low_rank_bridge(bridge):
    objective = ProximalLoRAE(Autoencoder(nn.Linear(5, 3), bridge, nn.Linear(3, 5)))
    with pytest.raises(InputError, match=r"needs a low-rank bridge, got (NoBridge|ScaleFree)"):
        objective.after_step(0.1)


@pytest.mark.parametrize("factor", [1e-2, 7.0, 1e3])
def test_the_scale_free_loss_does_not_see_the_scale_of_encoder_or_matrix(factor):
    objective, x = made("lorae-scale-free")
    model = objective.model
    model.bridge.epsilon = 0.0
    before = objective(x)
    sigma = torch.linalg.svdvals(model.bridge.matrix().detach())
    with torch.no_grad():
        model.encoder[-1].weight.mul_(factor)
        model.encoder[-1].bias.mul_(factor)
        model.bridge.weight.mul_(factor)
    for name, term in objective(x).items():
        torch.testing.assert_close(term, before[name], rtol=1e-4, atol=1e-6)
    found = torch.linalg.svdvals(model.bridge.matrix().detach())
    torch.testing.assert_close(found, sigma)


def test_the_papers_penalty_does_see_the_scale_which_the_encoder_can_hide_in():
    objective, x = made("lorae")
    before = {name: term.item() for name, term in objective(x).items()}
    with torch.no_grad():
        objective.model.encoder[-1].weight.mul_(10)
        objective.model.encoder[-1].bias.mul_(10)
        objective.model.bridge.weight.div_(10)
    after = {name: term.item() for name, term in objective(x).items()}
    assert after["reconstruction"] == pytest.approx(before["reconstruction"], rel=1e-4)
    assert after["nuclear_norm"] == pytest.approx(before["nuclear_norm"] / 10, rel=1e-4)


@pytest.mark.parametrize("weight", [-1e-9, -1.0, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("objective", [LoRAE, ProximalLoRAE])
def test_a_weight_that_is_no_weight_is_refused(objective, weight):
    model = Autoencoder(nn.Linear(5, 3), LowRank(3), nn.Linear(3, 5))
    with pytest.raises(InputError, match="weight must be a finite number of at least 0, got"):
        objective(model, weight)


@pytest.mark.parametrize(
    ("name", "close"),
    [("lorea", "lorae"), ("lorae-scalefree", "lorae-scale-free"), ("irma", "irmae"), ("AE", None)],
)
def test_an_unknown_model_is_told_with_the_closest(name, close):
    hint = f"did you mean '{close}'" if close else "known: ae, irmae"
    with pytest.raises(InputError, match=hint):
        method(name)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_its_objective_the_weight_asked_for_or_its_own(name):
    row, (objective, _) = method(name), made(name)
    assert row is METHODS[name]
    assert row.summary
    assert type(row.objective_for(objective.model, None)) is row.objective
    if row.weight is None:
        with pytest.raises(InputError, match="weight is not an option of"):
            row.objective_for(objective.model, 0.5)
    else:
        assert row.objective_for(objective.model, None).weight == row.weight
        assert row.objective_for(objective.model, 0.5).weight == 0.5


class Sparse(AE):
    """A method of one class: L1 on the codes."""

    def __init__(self, model: Autoencoder, weight: float = 0.25) -> None:
        super().__init__(model)
        self.weight = weight

    def forward(self, x):
        return super().forward(x) | {"l1": self.weight * self.model.encode(x).abs().mean()}


def test_a_new_method_takes_one_class_and_one_row(monkeypatch, tmp_path):
    from lorae.options import Options
    from lorae.training import train

    monkeypatch.setitem(METHODS, "sparse", Method(Sparse, "none", "L1 on the codes"))
    assert objectives.method("sparse").weight == 0.25
    options = Options(data="digits", model="sparse", steps=4, width=0.1, latent=4)
    run = train(options, tmp_path, show=False)
    assert set(run.metrics()[0]["train"]) == {"loss", "reconstruction", "l1"}
    assert run.options["weight"] == 0.25
    assert run.model().encode(torch.rand(2, 1, 8, 8)).shape == (2, 4)
