"""Paths of several seeds: each is the path of its seed alone, and their spread is told."""

import json

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from test_frontier import curved

import lorae
from lorae import seeded, stacking
from lorae.frontier import beginning, lorae_path
from lorae.inference import squares
from lorae.intervals import Interval
from lorae.loading import load
from lorae.objectives import AE
from lorae.reduction import walk
from lorae.seeded import SeededPath, lorae_paths

pytest_plugins = ["commands"]

VECTORS = curved(300) + 0.05 * np.random.default_rng(1).normal(size=(300, 8))
KINDS = {
    "vectors": (VECTORS, {"latent": 8, "width": 0.3}),
    "images": (load_digits().images[:200], {"latent": 12, "width": 0.2}),
}
COMMON = {
    "steps": None,
    "batch_size": 50,
    "learning_rate": 1e-3,
    "validation_fraction": 0.1,
    "standardize": True,
    "image_shape": None,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def paths() -> SeededPath:
    return lorae_paths(VECTORS, seeds=(0, 1, 2), ranks=[4, 3, 2, 1], latent=6, steps=100)


def begun(kind: str, seed: int):
    """Return a trainer and its model in float64, where rounding cannot hide a difference."""
    samples, how = KINDS[kind]
    with torch.random.fork_rng():
        trainer, model = beginning(samples, **how, **COMMON).at(seed)
    return trainer, model.double()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in turn"])
def test_each_walk_is_that_of_its_seed_alone(kind, at_once, monkeypatch):
    """The singular values that a descent lowers are had in float32, whatever the weights are."""
    monkeypatch.setattr(stacking, "pays", lambda *_: at_once)
    trainers, models = zip(*(begun(kind, seed) for seed in (0, 1)), strict=True)
    seeded.train(trainers, [AE(model) for model in models], 20)
    together = list(zip(*seeded.walks(trainers, models, 30, (4, 2)), strict=True))
    for seed, points in zip((0, 1), together, strict=True):
        trainer, model = begun(kind, seed)
        trainer.run("training", AE(model), 20)
        alone = list(walk(trainer, model, 30, ranks=(4, 2)))
        assert [p.rank for p in points] == [p.rank for p in alone]
        for name in ("error", "deviation", "weight"):
            found, expected = ([getattr(p, name) for p in one] for one in (points, alone))
            assert found == pytest.approx(expected, rel=1e-5)


def test_each_path_is_that_of_its_seed_alone(monkeypatch):
    monkeypatch.setattr(stacking, "pays", lambda *_: False)  # as many roundings as alone
    how = {"ranks": [3, 1], "steps": 40}
    for seed, path in zip((2, 5), lorae_paths(VECTORS, seeds=(2, 5), **how).paths, strict=True):
        alone = lorae_path(VECTORS, random_state=seed, **how)
        assert [p.rank for p in path.points] == [p.rank for p in alone.points] == [8, 3, 1]
        assert path.mean_error == alone.mean_error
        assert path.knee.rank == alone.knee.rank
        errors, expected = ([p.error for p in one.points] for one in (path, alone))
        assert errors == pytest.approx(expected, rel=1e-3)


@torch.no_grad()
def test_a_model_of_an_earlier_stop_is_no_view_of_what_is_trained_later(paths):
    """Its error is still the one that was told, up to which samples are held out."""
    x = torch.from_numpy(VECTORS).float()
    for path in paths.paths:
        for point in path.points:
            found = float(squares(point.model, x, x.mean(0))[0].mean())
            assert found == pytest.approx(point.error, rel=0.6)


def test_errors_and_knees_come_with_their_interval(paths):
    for k, error in enumerate(paths.errors):
        assert error == Interval(tuple(path.points[k].error for path in paths.paths))
    assert paths.knees.values == tuple(path.knee.rank for path in paths.paths)
    assert paths.knee == 3
    told = paths.about()
    json.dumps(told)
    assert told["ranks"] == [6, 4, 3, 2, 1]
    assert told["errors"][-1]["half_width"] > 0
    assert "<- knee of 3 of 3 seeds" in paths.table()
    assert " ± " in paths.table()
    assert b"PolyCollection" in paths.picture()  # the band


def test_one_seed_has_no_interval():
    path = lorae_paths(curved(200), seeds=(4,), ranks=[2], steps=20)
    assert [error.half_width for error in path.errors] == [None, None]
    assert "±" not in path.table()
    assert path.picture()


def test_a_seed_that_diverges_is_named(monkeypatch):
    real = seeded.Stack.backward

    def spoilt(self, x):
        terms = real(self, x)
        return {name: term + torch.tensor([0.0, torch.inf]) for name, term in terms.items()}

    monkeypatch.setattr(seeded.Stack, "backward", spoilt)
    with pytest.raises(lorae.Diverged, match="the loss of seed 7 is no longer finite at step 20"):
        lorae_paths(curved(200), seeds=(3, 7), ranks=[2], steps=20)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"seeds": ()}, "seeds must name at least one"),
        ({"seeds": (1, 1)}, "and none twice, got"),
        ({"seeds": (-1,)}, "seed must be finite, at least 0"),
        ({"ranks": [2, 3]}, "ranks must fall from below the latent size, 8, to 1 at least"),
        ({"width": -1.0}, "width must be"),
    ],
)
def test_bad_input(arguments, said):
    with pytest.raises(lorae.InputError, match=said):
        lorae_paths(curved(), steps=10, **arguments)


def test_the_command_keeps_the_models_of_every_seed(lorae, tmp_path):
    np.save("table.npy", curved().astype("float32"))
    asked = ("path", "--data", "table.npy", "--ranks", 3, 1, "--steps", 40, "--seeds", 0, 5)
    status, out, _ = lorae(*asked, "--out", "kept")
    assert status == 0
    assert "seeds" in out
    for seed in (0, 5):
        model = load(f"kept/seed-{seed}/rank-003.safetensors")
        assert model.encode(torch.zeros(1, 8)).shape == (1, 3)
    told = json.loads((tmp_path / "kept" / "path.json").read_text())
    assert (told["seeds"], told["ranks"]) == ([0, 5], [8, 3, 1])
    assert (tmp_path / "kept" / "path.svg").read_text().startswith("<?xml")
    for more in (("--weights", 1.0), ("--features", "classifier")):
        status, _, err = lorae(*asked, *more)
        assert (status, err) == (2, f"lorae: give seeds or {more[0][2:]}, not both\n")
