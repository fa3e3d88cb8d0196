"""Recipes: their cells, their pages, and the results that they write."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import scipy
import torch
from small import SMALL

from lorae.data.datasets import load
from lorae.metrics.features import as_bytes
from lorae.metrics.probes import LabelledCodes, accuracies
from lorae.metrics.protocol import Protocol
from lorae.metrics.scores import generation
from lorae.metrics.subject import Subject, build_extractor
from lorae.objectives.registry import METHODS
from lorae.paper import measures, results
from lorae.paper.common import MODELS
from lorae.paper.queue import Queue, portable_options
from lorae.paper.recipe import Entry, Plan, Table, values, verdict
from lorae.paper.recipes import RECIPES
from lorae.paper.scales import SCALES
from lorae.paper.table7 import describe_trend
from lorae.sampling import densities
from lorae.sampling.densities import Gaussian
from lorae.training.train import train
from lorae.utils.intervals import Interval
from lorae.utils.samples import as_float, subsample

PAPER_FEATURES = SCALES["paper"].sets["MNIST"].features
PLANS = [Plan(scale, (0, 1)) for scale in SCALES.values()]
ALL = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
EVERY_PLAN = pytest.mark.parametrize("plan", PLANS, ids=SCALES)


@ALL
@EVERY_PLAN
def test_cells_are_distinct_and_their_options_valid(recipe, plan):
    cells = recipe.cells(plan)
    assert cells
    assert len({cell.key for cell in cells.values()}) == len(set(map(repr, cells.values())))
    for cell in cells.values():
        json.dumps(cell.about)
        if cell.options is not None:
            cell.options.check()


@ALL
@EVERY_PLAN
def test_a_page_without_results_has_no_figures(recipe, plan):
    page = recipe.page(plan, {})
    entries = [e for t in page.tables for row in t.rows.values() for e in row.values()]
    assert all(entry.values == () for entry in entries)
    text = "\n".join([*(table.markdown() for table in page.tables), *page.words])
    assert "not run" in text.lower() or "not known" in text
    assert " yes" not in text


@ALL
def test_a_recipe_states_the_claim_of_the_paper(recipe):
    assert recipe.title
    assert recipe.claim.endswith(".")
    assert "lorae" in recipe.protocols
    assert recipe.name in RECIPES


def test_models_have_the_papers_names():
    assert set(MODELS.values()) <= set(METHODS)


def test_the_paper_scale_has_the_options_of_the_paper():
    paper = SCALES["paper"]
    for data, setting in paper.sets.items():
        options = Plan(paper).options(data, "lorae", 0)
        assert (options.steps, options.epochs, options.width) == (None, None, 1.0)
        assert {one.extractor for one in setting.features} == {"inception"}
        assert {one.resize for one in setting.features} == {"bilinear", "bicubic"}
        assert options.weight == 1e-3
    assert paper.labels == (10, 100, 1000, 10_000, 60_000)


@pytest.mark.parametrize("scale", ["cpu", "paper"])
@pytest.mark.parametrize(("data", "pixels"), [("MNIST", 1024), ("CelebA", 12_288)])
def test_the_baselines_have_the_weights_of_their_authors(scale, data, pixels):
    """VAE: 0.1 times a mean over 128 latents, without the half; WAE: 10 and 100 beside 0.05 times a
    summed error, on CelebA over images from -1 to 1; RAE: a mean over latents, as ours."""
    plan = Plan(SCALES[scale])
    options = {name: plan.options(data, MODELS[name], 0) for name in ("VAE", "WAE", "RAE")}
    assert options["VAE"].weight == pytest.approx(2 * 0.1 * pixels / 128)
    theirs = {"MNIST": 10 / 0.05, "CelebA": 100 / (0.05 * 2**2)}
    assert options["WAE"].weight == pytest.approx(theirs[data])
    assert options["RAE"].weight == 1e-4


@pytest.mark.parametrize(
    ("ours", "other", "lower", "text"),
    [
        # Each alone spreads by 10, the differences by 0.2.
        ((1.0, 6.0, 11.0), (2.0, 7.1, 12.2), True, "yes, by 1.1 ± 0.25"),
        ((1.0, 6.0, 11.0), (2.0, 7.1, 12.2), False, "no, by 1.1 ± 0.25"),
        ((2.0, 7.1, 12.2), (1.0, 6.0, 11.0), False, "yes, by 1.1 ± 0.25"),
        ((1.0, 5.0, 9.0), (9.0, 5.0, 1.5), True, "within 19 of each other"),
        ((1.0, 1.0), (1.0, 1.0), True, "within 0 of each other"),
        ((1.0, None, 3.0), (2.0, 2.0, None), True, "one seed: yes, by 1"),
        ((3.0,), (2.0, 3.0), True, "one seed: no, by 1"),
        ((None, 3.0), (2.0, None), True, "not run"),
        ((), (2.0,), True, "not run"),
    ],
)
def test_a_verdict_is_of_the_paired_differences(ours, other, lower, text):
    assert verdict(Entry(ours), Entry(other), lower=lower) == text


@pytest.mark.parametrize("seed", range(5))
def test_a_verdict_agrees_with_a_paired_t_test(seed):
    """By the p-value and the interval of SciPy's test of related samples, of 4 seeds."""
    rng = np.random.default_rng(seed)
    ours, other = rng.normal(size=(2, 4)) + np.array([[0.0], [1.5]])
    test = scipy.stats.ttest_rel(ours, other)
    low, high = test.confidence_interval(0.95)
    said = verdict(Entry(tuple(ours)), Entry(tuple(other)))
    if test.pvalue < 0.05:
        word, size, half = "yes" if low < 0 else "no", abs(low + high) / 2, (high - low) / 2
        assert said == f"{word}, by {size:.3g} ± {half:.2g}"
    else:
        assert said == f"within {max(-low, high):.2g} of each other"


def test_values_of_seeds_that_were_not_run_keep_their_place():
    found = {("a", 0): {"x": {"y": 1.0}}, ("a", 2): {"x": {"y": 3}}, ("b", 1): {"x": {}}}
    assert values(found, ("a",), (0, 1, 2), "x", "y") == (1.0, None, 3.0)
    assert values(found, ("b",), (0, 1, 2), "x", "y") == ()
    assert Entry((1.0, None, 3.0)).interval == Interval((1.0, 3.0))


def test_distances_that_a_table_shows_have_their_resize():
    names = {name for one in PAPER_FEATURES for name in one.distances}
    assert names == {"FID bilinear", "KID bilinear", "FID bicubic", "KID bicubic"}
    authors = Plan(SCALES["paper"], (0,), "authors").features_of("MNIST")
    assert [one.resize for one in authors] == ["bilinear"]


def test_an_entry_shows_the_measured_before_the_published():
    assert str(Entry((1.0, 1.0), 2.5)) == "1 ± 0 (2.5)"
    assert str(Entry((), 2.5)) == "not run (2.5)"
    assert str(Entry((3.0,))) == "3"


def test_a_table_survives_json():
    rows = {"a": {"x": Entry((1.0, 2.0), 3.0), "y": Entry()}, "b": {"x": Entry((4.0, None))}}
    table = Table("row", ("x", "y"), rows, {"a": "yes"}, "What it is.")
    back = results._table(json.loads(json.dumps(table.to_dict())))
    assert back == table
    assert back.markdown() == table.markdown()
    assert back.markdown().splitlines()[2] == f"| a | {Interval((1.0, 2.0))} (3) | not run | yes |"


def test_the_trend_of_a_column_is_described():
    def rows(*means):
        return {str(k): {"rank": Entry((m,))} for k, m in enumerate(means)}

    assert "rank falls as" in describe_trend(rows(1.0, 2.0, 2.0, 9.0), "rank")
    assert "does not fall" in describe_trend(rows(1.0, 3.0, 2.0), "rank")
    assert "does not fall" in describe_trend(rows(2.0, 2.0), "rank")


@pytest.mark.parametrize("value", [-3.0, -1.0, -0.5, -0.004, 0.0, 0.3, 0.999, 1.0, 1.5])
def test_casts_to_bytes_agree_with_numpy(value):
    image = torch.full((1, 1, 1, 1), value)
    cast = (image.numpy() * np.float32(255)).astype(np.int64).astype(np.uint8)
    assert torch.equal(measures.cast_to_bytes(image), torch.from_numpy(cast))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(SMALL, tmp_path_factory.mktemp("run") / "run", show=False)


def test_spectra_are_those_along_the_training(run):
    found = measures.spectra(run)
    assert list(found) == ["5", "10", "12"]
    assert found["12"]["samples"] == measures.spectrum(run)["samples"]
    assert found["12"]["covariance"] == pytest.approx(measures.spectrum(run)["covariance"])


def test_pictures_are_pngs(run):
    for found in (
        measures.sample_images(run, density="gaussian", count=8),
        measures.interpolation(run, rows=2, steps=4),
    ):
        assert base64.b64decode(found["png"]).startswith(b"\x89PNG")


def test_the_authors_density_is_fitted_to_test_images_and_ours_is_not(run, monkeypatch):
    """The authors' density is fitted to the test images, ours to the training images."""
    seen: dict[str, list[torch.Tensor]] = {}

    class Recording(Gaussian):
        def fit(self, codes):
            seen.setdefault("codes", []).append(codes.clone())
            return super().fit(codes)

    monkeypatch.setattr(densities, "Gaussian", Recording)
    measures._fit.cache_clear()
    asked = {"densities": ["gaussian"], "samples": 60, "extractor": "classifier"}
    asked["resize"] = "bilinear"
    for measure in (measures.generation, measures.authors_generation):
        measure(run, **asked)
    data = measures._data(run)
    theirs = measures.encode_all(run.model(), subsample(data.test, 60))
    ours, leaking = seen["codes"]
    assert torch.allclose(leaking, theirs)
    assert len(ours) == len(data.train)
    assert not any(torch.equal(code, other) for code in theirs[:5] for other in ours)


def test_generated_images_have_the_scores_of_an_evaluation(run):
    """`lorae evaluate` with the same number of images, seed and density, of the same run."""
    names = ("gaussian", "mixture-4")
    found = measures.generation(run, densities=names, samples=60, extractor="classifier")
    data = load(SMALL.data)
    protocol = Protocol(samples=60, repeats=1, seed=run.options["seed"], densities=names)
    subject = Subject(run.model(), data, protocol, build_extractor("classifier", data))
    for score in generation(subject):
        assert found[score.of][score.name] == pytest.approx(score.values[0], rel=1e-5)


def test_real_images_are_compared_with_other_real_images():
    data = load("digits")
    order = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(0))
    extractor = build_extractor("classifier", data)
    halves = [as_bytes(data.unit(data.test[rows])) for rows in order[:120].split(60)]
    x, y = (extractor(images).double().numpy() for images in halves)
    root = scipy.linalg.sqrtm(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False))
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() - 2 * np.trace(root.real)
    expected += np.trace(np.cov(x, rowvar=False)) + np.trace(np.cov(y, rowvar=False))
    found = measures.real_distances(data="digits", samples=60, extractor="classifier")
    assert found["images"] == 60
    assert found["classifier distance"] == pytest.approx(expected, rel=1e-3)


def test_the_authors_head_is_trained_on_the_first_raw_encoder_outputs(run):
    """Table 6 by the authors' protocol, computed here from the encoder alone."""
    found = measures.authors_classification(run, labels=[30], epochs=20)["30"]
    data, model = measures._data(run), run.model()
    with torch.no_grad():
        train, test = (model.encoder(model.scaled(as_float(x))) for x in (data.train, data.test))
    codes = LabelledCodes(train[:30], data.train_labels[:30], test, data.test_labels)
    along = accuracies(codes, seed=run.options["seed"], steps=20, every=10)
    assert found == pytest.approx(100 * max(along))
    assert set(measures.classification(run, labels=[20, 10**6], draws=1, epochs=1)) == {"20"}


def test_supervised_classification_needs_no_run(tmp_path):
    options = portable_options(Plan(SCALES["smoke"]).options("MNIST", "ae", 0))
    asked = {"options": options, "labels": [20], "epochs": 1}
    for found in (
        measures.supervised_classification(**asked, draws=1),
        measures.authors_supervised_classification(**asked),
    ):
        assert 0 <= found["20"] <= 100


def test_results_with_more_figures_stay_data_set_by_data_set(tmp_path):
    """A table of MNIST is replaced, that of CelebA, of which nothing is new, is not."""
    plan, recipe = Plan(SCALES["paper"], (0,)), RECIPES["table3"]
    empty = Queue(tmp_path / "empty")
    path = results.write(tmp_path / "out", recipe, plan, empty)
    stored = json.loads(path.read_text())
    for table, value in zip(stored["tables"], (1.0, 2.0), strict=True):
        table["rows"]["AE"]["FID bicubic, MVG"]["values"] = [value]
    stored["seconds"] = {"AE/CelebA/inception bicubic/0": 5.0}
    path.write_text(json.dumps(stored))
    assert json.loads(results.write(tmp_path / "out", recipe, plan, empty).read_text()) == stored
    new = json.loads(json.dumps(stored))
    new["seconds"] = {"AE/MNIST/inception bicubic/0": 7.0}
    new["tables"][0]["rows"]["AE"]["FID bicubic, MVG"]["values"] = [3.0]
    new["tables"][1]["rows"]["AE"]["FID bicubic, MVG"]["values"] = []
    merged = results._merge(new, stored)
    shown = [table["rows"]["AE"]["FID bicubic, MVG"]["values"] for table in merged["tables"]]
    assert shown == [[3.0], [2.0]]
    assert merged["seconds"] == stored["seconds"] | new["seconds"]


def test_the_page_folds_recipes_that_were_not_run(tmp_path):
    plan = Plan(SCALES["paper"], (0,))
    for name in ("table3", "table7"):
        results.write(tmp_path, RECIPES[name], plan, Queue(tmp_path / "empty"))
    text = results.write_page(tmp_path).read_text()
    assert text.count("<details>") == 2
    assert text.index("Table 3.") < text.index("Table 7.")
    assert "not run (103.08)" in text
    assert Path(tmp_path / "paper" / "table3.json").is_file()
