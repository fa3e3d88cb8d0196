"""The recipes of Theorems 1 and 2 and of Proposition 1: what they measure, and what they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from small import SMALL

from lorae.nn.autoencoder import build
from lorae.nn.inference import encode_all
from lorae.objectives.registry import METHODS
from lorae.paper.measures import distance_ratios
from lorae.paper.recipe import Plan
from lorae.paper.recipes import RECIPES
from lorae.paper.scales import SCALES
from lorae.paper.theorem1 import descent
from lorae.training.train import train
from lorae.utils.plots import COLOURS
from lorae.utils.samples import as_float, subsample

PLAN = Plan(SCALES["smoke"], (0, 1))


@pytest.fixture(scope="module")
def found():
    """Return what Theorem 1's cells at the scale smoke give."""
    cells = RECIPES["theorem1"].cells(PLAN)
    return {key: cell.measure(**cell.settings) for key, cell in cells.items()}


class TestTheorem1:
    def test_the_first_gradient_is_that_of_the_whole_training_set(self, found):
        cell = RECIPES["theorem1"].cells(PLAN)["LoRAE", 1]
        options = PLAN.options("MNIST", "lorae", 1)
        data = options.load()
        resolved = options.resolve(data)
        torch.manual_seed(1)
        model = build(resolved.architecture(data), data.shift, data.scale)
        objective = METHODS["lorae"].build_objective(model, resolved.weight)
        x = as_float(subsample(data.train, cell.settings["samples"]))
        torch.stack(list(objective(x).values())).sum().backward()
        squares = sum(float(p.grad.double().square().sum()) for p in model.parameters())
        assert found["LoRAE", 1]["start"] == pytest.approx(squares**0.5, rel=1e-4)

    def test_least_gradients_fall_and_constants_fit_together(self, found):
        for one in found.values():
            for way in ("adam", "1e-08", "1e+00"):
                least = list(one[way].values())
                if way == "adam":  # one run, looked at after T steps; the others are a run each
                    assert least == sorted(least, reverse=True)
                assert 0 < min(least) <= max(least) <= one["start"] * (1 + 1e-6)
            assert one["gradient"] >= one["start"] > 0
            rates = one["rates 1e+00"]
            assert rates["4"] == pytest.approx(2 * rates["16"])
            delta = one["gradient"] / 1.0
            expected = np.sqrt(2 * one["gap"] / (one["lipschitz"] * delta**2 * 4))
            assert rates["4"] == pytest.approx(expected)

    def test_the_same_seed_gives_the_same(self, found):
        cell = RECIPES["theorem1"].cells(PLAN)["LoRAE", 0]
        assert descent(**cell.settings) == found["LoRAE", 0]

    def test_its_page_says_what_a_tiny_epsilon_does(self, found):
        page = RECIPES["theorem1"].page(PLAN, found)
        assert "the least gradient 100, 100% of the first" in page.words[0]
        assert [words[:9] for words in page.words] == ["ε = 1e-08", "ε = 1e+00"]
        rows = page.tables[0].rows
        exponent = rows["the theorem's rate, ε = 1e-08"]["exponent"]
        assert exponent.published == -0.25
        assert max(map(abs, exponent.values)) < 0.01
        plot = page.images[0][0].content.decode()
        assert plot.startswith("<?xml")
        assert all(colour in plot for colour in COLOURS[:4])  # three rates and the slope


def test_ratios_of_theorem_2_are_those_of_the_distances(tmp_path):
    run = train(replace(SMALL, steps=3), tmp_path, show=False)
    data = SMALL.load()
    levels = [0.0, 0.5, 1.0]
    result = distance_ratios(run, codes=100, queries=30, levels=levels)
    near, far = subsample(data.train, 100), subsample(data.test, 30)
    model = run.model()
    codes, queries = (encode_all(model, part).double().numpy() for part in (near, far))
    distances = cdist(queries, codes)
    ratios = distances.max(1) / distances.min(1) - 1
    np.testing.assert_allclose(
        list(result["quantiles"].values()), np.quantile(ratios, levels), 1e-6
    )
    assert result["rank"] == SMALL.latent


def spectra_of(ranks: dict[float, int], latent: int = 16) -> dict:
    """Return results of Proposition 1 with these ranks by weight, the same at every threshold."""
    results = {}
    for form, weight, seed in RECIPES["proposition1"].cells(PLAN):
        rank = ranks[weight]
        sigma = [1.0] * rank + [0.0] * (latent - rank)
        results[form, weight, seed] = {
            str(length): {"covariance": sigma} for length in PLAN.scale.lengths
        }
    return results


def entries_of(page, kind: str) -> list[list]:
    """Return the values of the columns whose name begins with a word, row by row."""
    rows = [row for table in page.tables for row in table.rows.values()]
    return [[e.values for name, e in row.items() if name.startswith(kind)] for row in rows]


class TestProposition1:
    def test_finds_the_exponent(self):
        weights = PLAN.scale.weights
        assert len(weights) == 2
        found = spectra_of({weights[0]: 2, weights[1]: 8})
        page = RECIPES["proposition1"].page(PLAN, found)
        slope = np.log(2 / 8) / np.log(weights[0] / weights[1])
        for row in entries_of(page, "rank"):
            for values in row:
                assert values == pytest.approx([slope] * len(values))
        assert len(page.tables[0].rows["30 steps"]["rank at 1e-02"].values) == 2
        assert len(page.tables[1].rows["30 steps"]["rank at 1e-02"].values) == 1
        assert set(page.tables[0].verdicts.values()) == {"no: no interval holds -1"}
        assert set(page.tables[1].verdicts.values()) == {"one seed"}

    @pytest.mark.parametrize(("ranks", "left"), [((1, 8), 1), ((2, 16), 1), ((1, 16), 0)])
    def test_a_rank_that_can_go_no_further_is_left_out_and_counted(self, ranks, left):
        found = spectra_of(dict(zip(PLAN.scale.weights, ranks, strict=True)))
        page = RECIPES["proposition1"].page(PLAN, found)
        assert all(values == () for row in entries_of(page, "rank") for values in row)
        assert {v for row in entries_of(page, "points") for vs in row for v in vs} == {left}
        assert all("is not known" in words for words in page.words)

    def test_a_seed_that_lacks_a_weight_counts_for_nothing(self):
        found = spectra_of({PLAN.scale.weights[0]: 2, PLAN.scale.weights[1]: 8})
        del found["LoRAE", PLAN.scale.weights[0], 1]
        page = RECIPES["proposition1"].page(PLAN, found)
        assert len(page.tables[0].rows["30 steps"]["rank at 1e-02"].values) == 1
        assert len(page.tables[0].rows["30 steps"]["points at 1e-02"].values) == 1
