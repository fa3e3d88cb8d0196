"""Laws of every model, on images and on vectors."""

import ast
import inspect
import math
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from models import PAIRS, loss, make_objective, train_on, vectors

import lorae
from lorae.errors import InputError
from lorae.nn.autoencoder import Architecture, Autoencoder, build
from lorae.nn.bridges.registry import BRIDGES
from lorae.objectives.base import AE
from lorae.objectives.registry import METHODS, Method, Setting, method
from lorae.sampling.densities import Gaussian, Prior
from lorae.sampling.registry import density_for
from lorae.training.evaluation import evaluate
from lorae.training.options import Options
from lorae.training.train import train

AFTER_THE_STEP = ("lorae-proximal", "lorae-data-space", "irmae-wd")
"""Methods whose penalty acts after the optimizer's step, not in the loss."""


@pytest.mark.parametrize(("name", "kind"), PAIRS)
class TestEveryModel:
    def test_has_named_finite_terms_whose_sum_is_the_loss(self, name, kind):
        objective, x = make_objective(name, kind)
        terms = objective(x)
        assert terms
        assert all(term.shape == () and term.isfinite() for term in terms.values())
        if method(name).weight is not None:
            objective.model.decoder.eval()  # a spectral norm must not move between the two
            torch.manual_seed(1)
            one = objective(x)
            objective.weight *= 2
            torch.manual_seed(1)
            other = objective(x)
            changed = [key for key in one if one[key] != other[key]]
            assert len(changed) == (name not in AFTER_THE_STEP)
            for key in changed:
                torch.testing.assert_close(other[key], 2 * one[key])

    def test_has_the_mean_square_as_its_error(self, name, kind):
        objective, x = make_objective(name, kind)
        model = objective.model.eval()
        model.shift.fill_(0.3)
        model.scale.fill_(2.0)
        found = evaluate(model, x)
        if not model.inverts:
            assert found.reconstruction is None
            return
        scaled = (model(x) - x).detach().double().numpy() / 2
        assert found.reconstruction == pytest.approx(np.mean(scaled**2), rel=1e-5)
        z = model.encode(x)
        assert objective.error(z, model.scaled(x)).item() == pytest.approx(found.reconstruction)

    def test_has_a_finite_gradient_in_every_parameter(self, name, kind):
        objective, x = make_objective(name, kind)
        loss(objective, x).backward()
        for key, parameter in objective.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
            if "bridge" not in key:  # what scales or standardises may leave a bias without one
                assert parameter.grad.abs().sum() > 0 or key.endswith("bias"), key

    def test_learns(self, name, kind):
        objective, x = make_objective(name, kind)
        before = evaluate(objective.model, x).reconstruction
        assert all(math.isfinite(value) for value in train_on(objective, x, steps=60))
        if before is not None:  # what a GAN learns: tests/test_adversarial.py
            assert evaluate(objective.model, x).reconstruction < 0.95 * before

    def test_depends_on_the_seed_alone(self, name, kind):
        losses = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            losses.append(train_on(*make_objective(name, kind), steps=5))
        assert losses[0] == losses[1] != losses[2]

    def test_encodes_and_decodes(self, name, kind):
        objective, x = make_objective(name, kind)
        train_on(objective, x, steps=3)
        model = objective.model.eval()
        z = model.encode(x)
        assert z.shape == (len(x), model.bridge.latent)
        assert model.decode(z).shape == x.shape
        assert torch.equal(model(x), model.decode(z))  # no randomness in evaluation
        assert torch.equal(model.encode(x[:5]), model.encode(x)[:5]) or torch.allclose(
            model.encode(x[:5]), z[:5], atol=1e-5
        )
        assert model.encode(model.decode(z)).shape == z.shape

    def test_folds_where_its_bridge_is_affine(self, name, kind):
        objective, x = make_objective(name, kind)
        train_on(objective, x, steps=3)
        model = objective.model.eval()
        if name == "vae-flow":
            with pytest.raises(InputError, match="must be affine to be folded, got a flow"):
                model.fold()
            return
        z = model.encode(x)
        torch.testing.assert_close(model.fold().encode(x), z, rtol=1e-3, atol=1e-4)

    def test_can_be_sampled_from(self, name, kind):
        objective, x = make_objective(name, kind)
        train_on(objective, x, steps=3)
        model = objective.model.eval()
        density = density_for(model)
        assert isinstance(density, Prior if model.prior else Gaussian)
        codes = density.fit(model.encode(x).detach()).sample(9, torch.Generator().manual_seed(3))
        again = density.sample(9, torch.Generator().manual_seed(3))
        assert torch.equal(codes, again)
        samples = model.decode(codes)
        assert samples.shape == (9, *x.shape[1:])
        assert samples.isfinite().all()

    def test_is_evaluated_in_its_own_precision(self, name, kind):
        objective, x = make_objective(name, kind)
        model = objective.model.double().eval()
        density = density_for(model).fit(model.encode(x).detach())
        assert model.decode(density.sample(3)).dtype == torch.float64
        found = evaluate(model, x)
        assert found.covariance.isfinite().all()
        assert (found.spread is None) == (not model.prior)

    def test_needs_the_batch_that_it_says(self, name, kind):
        objective, x = make_objective(name, kind)
        least = objective.min_batch_size
        assert all(term.isfinite() for term in objective(x[:least]).values())
        if least > 1:
            with pytest.raises(InputError, match=r"batch|at least"):
                objective(x[: least - 1])


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_its_objective_the_weight_asked_for_or_its_own(name):
    row, (objective, _) = method(name), make_objective(name, "image")
    assert row is METHODS[name]
    assert row.summary
    assert row.purpose
    assert row.reference
    assert type(row.build_objective(objective.model)) is row.load_objective()
    if row.weight is None:
        with pytest.raises(InputError, match=r"weight must be None .* got 0\.5"):
            row.build_objective(objective.model, 0.5)
    else:
        assert row.build_objective(objective.model).weight == row.weight
        assert row.build_objective(objective.model, 0.5).weight == 0.5
        for wrong in (-1e-9, float("nan"), float("inf")):
            with pytest.raises(InputError, match=r"weight must be .*at least 0"):
                row.build_objective(objective.model, wrong)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_no_longer_than_a_page(name):
    """One class of about 40 lines at most, apart from its docstring."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(METHODS[name].load_objective())))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    lines = [line for line in ast.unparse(tree).splitlines() if line.strip()]
    assert len(lines) <= 50


@pytest.mark.parametrize(
    ("name", "close"),
    [("lorea", "lorae"), ("lorae-dataspace", "lorae-data-space"), ("irma", "irmae"), ("XX", None)],
)
def test_an_unknown_model_is_refused_with_the_closest_name(name, close):
    hint = f"did you mean '{close}'" if close else "known: ae, gan, irmae"
    with pytest.raises(InputError, match=hint):
        method(name)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("ae", {"rank": 3}, "settings must be empty for this model, got 'rank'"),
        ("rrae", {"rnk": 3}, r"unknown setting of the model 'rnk' \(did you mean 'rank'\?\)"),
        ("rrae", {"rank": 2.5}, "rank must be an integer, got 2.5"),
        ("rrae", {"rank": 0}, "rank must be .*at least 1, got 0"),
        ("gan", {"momentum": 1}, "momentum must be .*at least 0 and below 1, got 1"),
    ],
)
def test_a_wrong_setting_is_refused(name, given, message):
    with pytest.raises(InputError, match=message):
        method(name).resolve_settings(given)


def test_settings_take_the_type_of_their_default():
    found = method("least-volume").resolve_settings({"eta": 2})
    assert found == {"eta": 2.0}
    assert isinstance(found["eta"], float)
    assert method("irmae").resolve_settings({"depth": 3.0}) == {"depth": 3}


@pytest.mark.parametrize("name", METHODS)
def test_the_table_has_the_arguments_of_objective_and_bridge_with_their_defaults(name):
    row = METHODS[name]

    def defaults(kind):
        parameters = inspect.signature(kind).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}

    table = {key: setting.default for key, setting in row.settings.items()}
    of_bridge, of_objective = defaults(BRIDGES[row.bridge]), defaults(row.load_objective())
    weight = of_objective.pop("weight", None)
    assert row.weight == (weight or getattr(row.load_objective(), "weight", None))
    assert table == of_bridge | of_objective
    assert row.bridge_settings(dict.fromkeys(table, 1)).keys() == of_bridge.keys()


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        (name, key, value)
        for name, row in METHODS.items()
        for key, one in row.settings.items()
        for value in (one.low - 1, one.high and one.high + 1)
        if value is not None
    ],
)
def test_objective_and_bridge_refuse_what_the_table_refuses(name, key, value):
    with pytest.raises(InputError, match=key):
        method(name).resolve_settings({key: value})
    with pytest.raises(InputError, match=key):
        make_objective(name, "image", **{key: value})


def test_the_table_needs_no_torch():
    """Read alone: the package's own initialisation is another matter."""
    code = (
        "import importlib.machinery, sys, types\n"
        "package = types.ModuleType('lorae'); package.__path__ = [sys.argv[1]]\n"
        "sys.modules['lorae'] = package\n"
        "from lorae.objectives.registry import METHODS, method\n"
        "method('rrae').resolve_settings({'rank': 3})\n"
        "assert len(METHODS) > 20 and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(Path(lorae.__file__).parent)], check=True)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("least-volume", {"eta": -1.0}, "eta must be .*at least 0, got -1"),
        ("nested-dropout", {"rho": 0.0}, "rho must be .*greater than 0 and below 1, got 0"),
        ("nested-dropout", {"rho": 1.0}, "rho must be .*greater than 0 and below 1, got 1"),
        ("rae-l2", {"smoothness": -1.0}, "smoothness must be .*at least 0"),
        ("rae-gp", {"smoothness": float("nan")}, "smoothness must be finite"),
        ("gan", {"momentum": 1.0}, "momentum must be .*at least 0 and below 1, got 1"),
        ("gan", {"critic_rate": 0.0}, "critic_rate must be .*greater than 0, got 0"),
        ("rrae-adaptive", {"patience": 0}, "patience must be .*at least 1, got 0"),
        ("rrae-adaptive", {"tolerance": 1.0}, "tolerance must be .*at least 0 and below 1, got 1"),
    ],
)
def test_a_value_out_of_range_is_refused(name, arguments, message):
    with pytest.raises(InputError, match=message):
        make_objective(name, "image", **arguments)


@pytest.mark.parametrize("name", ["vae", "vae-bernoulli", "vrrae", "rrae-adaptive"])
def test_an_objective_over_the_wrong_bridge_is_refused(name):
    model = make_objective("ae", "image")[0].model
    with pytest.raises(InputError, match=r"bridge must be .*got NoBridge"):
        METHODS[name].build_objective(model)


@pytest.mark.parametrize("name", ["rae-sn", "least-volume"])
def test_an_objective_over_a_decoder_that_is_not_lipschitz_is_refused(name):
    model = make_objective("ae", "image")[0].model
    with pytest.raises(InputError, match="decoder must have layers of operator norm 1"):
        METHODS[name].build_objective(model)


def test_a_bernoulli_likelihood_needs_data_from_0_to_1():
    with pytest.raises(InputError, match=r"data must be from 0 to 1 .* unbounded range: use vae"):
        make_objective("vae-bernoulli", "vector")


class Sparse(AE):
    """A method of one class: L1 on the codes."""

    def __init__(self, model: Autoencoder, weight: float = 0.25, power: float = 1.0) -> None:
        super().__init__(model)
        self.weight, self.power = weight, power

    def forward(self, x):
        size = self.model.encode(x).abs().pow(self.power).mean()
        return super().forward(x) | {"l1": self.weight * size}


def test_a_new_method_takes_one_class_and_one_row(monkeypatch, tmp_path):
    row = Method(
        objective=f"{__name__}:Sparse",
        bridge="none",
        summary="L1 on the codes",
        weight=0.25,
        objective_settings={"power": Setting(1.0)},
    )
    monkeypatch.setitem(METHODS, "sparse", row)
    assert method("sparse") is row
    options = Options(data="digits", model="sparse", steps=4, width=0.1, latent=4)
    run = train(options, tmp_path, show=False)
    assert set(run.metrics()[0]["train"]) == {"loss", "reconstruction", "l1"}
    assert run.options["weight"] == 0.25
    assert run.options["settings"] == {"power": 1.0}
    assert run.model().encode(torch.rand(2, 1, 8, 8)).shape == (2, 4)


def test_the_docs_page_lists_every_model():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    for name, row in METHODS.items():
        settings = row.format_settings()
        line = f"| `{name}` | {row.summary} | {row.purpose} | {settings or '-'} | {row.reference} |"
        assert line in page.splitlines(), line
    table = page.partition("## All models")[2]
    listed = [line for line in table.splitlines() if line.startswith("| `")]
    assert len(listed) == len(METHODS)


RECONSTRUCTING = [
    name
    for name, row in METHODS.items()
    if row.traits.get("inverts", True) and name != "vae-bernoulli"
]


@pytest.mark.parametrize("name", RECONSTRUCTING)
def test_reconstructing_models_train_on_gaps_and_categories(name):
    x, row = vectors()[:, :5], METHODS[name]
    kinds = torch.eye(3)[(x[:, 0] > 0).long() + (x[:, 1] > 0).long()]
    x = torch.cat([x, kinds], 1)
    x[::3, 1] = x[1::4, 4] = torch.nan
    x[::5, 5:] = torch.nan
    shift, scale = torch.tensor([0.0] * 5 + [1 / 3] * 3), torch.tensor([1.0] * 5 + [0.8] * 3)
    settings = row.bridge_settings({"depth": 3, "rank": 2})
    architecture = Architecture(
        "mlp", (8,), 3, row.bridge, settings, 0.25, None, factors=2, categories=(3,), **row.traits
    )
    objective = row.build_objective(build(architecture, shift, scale))
    losses = train_on(objective, x, steps=20)
    assert all(map(math.isfinite, losses))
    assert all(p.isfinite().all() for p in objective.parameters())
    found = evaluate(objective.model, x)
    assert found.reconstruction is not None
    assert math.isfinite(found.reconstruction)
    assert 0 <= found.accuracy[0] <= 1
