"""Scores of trained models: what is compared with what, repeated, kept, and never leaked."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from small import SMALL

from lorae.data.datasets import Data
from lorae.errors import InputError
from lorae.linalg.moments import Moments
from lorae.metrics import protocol, scores
from lorae.metrics.classifier import fit_or_load_classifier
from lorae.metrics.features import as_bytes
from lorae.metrics.frechet import frechet_distance
from lorae.metrics.protocol import Protocol, Subject, build_extractor
from lorae.metrics.records import FILE, evaluate_run, format_scores, read_evaluation, read_scores
from lorae.metrics.scores import PARTS
from lorae.nn.inference import encode_all
from lorae.sampling.densities import Gaussian
from lorae.sampling.registry import DENSITIES, fit_density
from lorae.training.options import Options
from lorae.training.run_folder import Run
from lorae.training.train import train
from lorae.utils.samples import subsample

pytestmark = pytest.mark.usefixtures("data_kept")

QUICK = Protocol(samples=60, repeats=2, labels=(20,), fitted=300)
MODELS = {"ae": 20, "vrrae": 20, "ns-gan": 20}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def quick_classifier(monkeypatch):
    monkeypatch.setattr(
        protocol, "fit_or_load_classifier", partial(fit_or_load_classifier, steps=30)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Runs of an autoencoder, a model with a prior and a GAN, on images and on a table."""
    folder = tmp_path_factory.mktemp("scored")
    values = np.random.default_rng(0).normal(size=(300, 2)) @ np.ones((2, 5))
    values += 0.1 * np.random.default_rng(1).normal(size=(300, 5))
    np.save(folder / "t.npy", values)
    for kind, source in (("image", "digits"), ("table", str(folder / "t.npy"))):
        for model, steps in MODELS.items():
            options = dataclasses.replace(SMALL, data=source, model=model, steps=steps, latent=4)
            train(options, folder / kind / model, show=False)
    return folder


def subject(run: Run, **changes: object) -> Subject:
    data = Options.from_dict(run.options).load()
    extractor = build_extractor("classifier", data) if len(data.shape) == 3 else None
    return Subject(run.model(), data, dataclasses.replace(QUICK, **changes), extractor)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["image", "table"])
class TestEveryRun:
    def test_has_scores_of_what_applies_to_it(self, kind, model, folder):
        run = Run(folder / kind / model)
        found = evaluate_run(run, QUICK)
        expected = set(PARTS)
        if kind == "table":
            expected -= {"generation", "interpolation", "classification"}
        if model == "ns-gan":
            expected -= {"reconstruction", "interpolation"}
        assert set(found) == expected
        for part in found.values():
            for score in part["scores"]:
                assert np.isfinite(score["values"]).all(), score
                assert len(score["values"]) in (1, QUICK.repeats)
                assert score["mean"] == pytest.approx(np.mean(score["values"]))
        assert json.loads((run.path / FILE).read_text()) == found
        assert [s.name in format_scores(read_scores(run)) for s in read_scores(run)]

    def test_says_all_it_takes_to_do_it_again(self, kind, model, folder):
        run = Run(folder / kind / model)
        first = evaluate_run(run, QUICK, ["dimension"])
        stated = first["dimension"]["protocol"]
        assert stated["data"] == run.about["data"]["checksum"]
        assert len(stated["model"]) == 64
        assert stated["seeds"] == [0, 1]
        assert {"lorae", "torch"} <= set(stated["environment"])
        assert evaluate_run(run, QUICK, ["dimension"]) == first


def test_the_numbers_are_those_of_a_direct_computation(folder):
    run = Run(folder / "image" / "ae")
    one = subject(run)
    data, model, extractor = one.data, one.model, one.extractor
    codes = encode_all(model, subsample(data.train, 300))
    test = subsample(data.test, 60)
    real = extractor(as_bytes(test / 255))
    values = []
    for seed in (0, 1):
        drawn = Gaussian().fit(codes).sample(60, torch.Generator().manual_seed(seed))
        made = extractor(as_bytes(model.decode(drawn).detach()))
        values.append(frechet_distance(Moments(64).update(real), Moments(64).update(made)))
    found = next(
        s for s in scores.generation(one) if (s.name, s.of) == ("classifier distance", "gaussian")
    )
    assert found.values == pytest.approx(values)


@pytest.mark.parametrize("density", DENSITIES)
def test_every_density_generates(density, folder):
    one = subject(Run(folder / "image" / "vrrae"), densities=(density,), repeats=1)
    found = list(scores.generation(one))
    assert {score.of for score in found} == {density}


def test_a_prior_that_is_none_is_refused(folder):
    one = subject(Run(folder / "image" / "ae"), densities=("prior",))
    with pytest.raises(InputError, match="not trained to a prior"):
        list(scores.generation(one))


@pytest.mark.parametrize("name", ["gaussian", "mixture-4", "mixture-auto", "flow"])
def test_other_test_data_change_no_density(name, folder):
    """What the authors' code did: fit the density on the images that it is compared with."""
    run = Run(folder / "image" / "ae")
    one = subject(run)
    other = dataclasses.replace(one.data, test=255 - one.data.test)
    two = Subject(one.model, other, one.protocol, one.extractor)
    drawn = [
        fit_density(s.model, partial(s.codes, "train"), name).sample(9, generator())
        for s in (one, two)
    ]
    assert torch.equal(*drawn)
    assert not torch.equal(one.real_features(), two.real_features())


def test_other_test_labels_change_no_probe(folder):
    one = subject(Run(folder / "image" / "ae"), probes=("head",), repeats=1)
    shifted = dataclasses.replace(one.data, test_labels=(one.data.test_labels + 1) % 10)
    two = Subject(one.model, shifted, one.protocol, one.extractor)
    (a,), (b,) = (list(scores.classification(s)) for s in (one, two))
    assert a.values[0] + b.values[0] <= 1  # the same answers, which are right only once


def test_a_part_that_is_scored_again_leaves_the_others(folder):
    run = Run(folder / "image" / "ae")
    evaluate_run(run, QUICK, ["dimension", "classification"])
    before = read_evaluation(run)
    evaluate_run(run, dataclasses.replace(QUICK, seed=7), ["classification"])
    after = read_evaluation(run)
    assert after["dimension"] == before["dimension"]
    assert after["classification"]["protocol"]["seeds"] == [7, 8]


def test_only_inception_makes_an_fid(folder, monkeypatch):
    one = subject(Run(folder / "image" / "ae"))
    names = {s.name for s in scores.reconstruction(one)}
    assert "classifier distance" in names
    assert not names & {"FID", "KID"}
    one.extractor.name = "inception"
    assert {"FID", "KID"} <= {s.name for s in scores.reconstruction(one)}


def test_a_set_without_classes_has_no_classifier(folder):
    data = Options.from_dict(Run(folder / "image" / "ae").options).load()
    unlabelled: Data = dataclasses.replace(data, train_labels=None, test_labels=None)
    with pytest.raises(InputError, match="have no classes: use --features inception"):
        build_extractor("classifier", unlabelled)
    one = Subject(Run(folder / "image" / "ae").model(), unlabelled, QUICK)
    assert list(scores.classification(one)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 19}, "samples must be .*at least 20, got 19"),
        ({"repeats": 0}, "repeats must be .*at least 1, got 0"),
        ({"densities": ("gausian",)}, r"unknown density 'gausian' \(did you mean 'gaussian'\?\)"),
        ({"probes": ("heads",)}, r"unknown probe 'heads' \(did you mean 'head'\?\)"),
    ],
)
def test_a_protocol_that_is_none_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        Protocol(**change)


def test_codes_that_have_collapsed_are_still_scored(folder):
    one = subject(Run(folder / "image" / "ae"))
    with torch.no_grad():
        one.model.encoder[-1].weight.zero_()
    found = {(score.name, score.of) for score in scores.dimensions(one)}
    assert ("rank at 1e-02", "codes") in found
    assert ("TwoNN", "codes") not in found
    assert ("TwoNN", "data") in found
    assert {score.of for score in scores.generation(one)} == {"gaussian", "mixture-10"}


def test_an_unknown_part_is_told(folder):
    with pytest.raises(InputError, match=r"unknown part of an evaluation 'dimensions'"):
        evaluate_run(Run(folder / "image" / "ae"), QUICK, ["dimensions"])
