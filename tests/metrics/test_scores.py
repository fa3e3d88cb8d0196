"""Scores of trained models: what is compared, and that nothing uses the test set."""

import dataclasses
from functools import partial

import pytest
import torch
from evaluations import build_subject

from lorae.errors import InputError
from lorae.linalg.moments import Moments
from lorae.metrics import scores
from lorae.metrics.features import as_bytes
from lorae.metrics.frechet import frechet_distance
from lorae.metrics.subject import Subject
from lorae.nn.inference import encode_all
from lorae.sampling.densities import Gaussian
from lorae.sampling.registry import DENSITIES, fit_density
from lorae.training.run_folder import Run
from lorae.utils.samples import subsample

pytestmark = pytest.mark.usefixtures("quick_classifier")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_generation_equals_a_direct_computation(trained):
    run = Run(trained / "image" / "ae")
    one = build_subject(run)
    data, model, extractor = one.data, one.model, one.extractor
    codes = encode_all(model, subsample(data.train, 300))
    test = subsample(data.test, 60)
    real = extractor(as_bytes(test / 255))
    values = []
    for seed in (0, 1):
        drawn = Gaussian().fit(codes).sample(60, generator(seed))
        generated = extractor(as_bytes(model.decode(drawn).detach()))
        values.append(frechet_distance(Moments(64).update(real), Moments(64).update(generated)))
    found = next(
        s for s in scores.generation(one) if (s.name, s.of) == ("classifier distance", "gaussian")
    )
    assert found.values == pytest.approx(values)


@pytest.mark.parametrize("density", DENSITIES)
def test_every_density_generates(density, trained):
    one = build_subject(Run(trained / "image" / "vrrae"), densities=(density,), repeats=1)
    found = list(scores.generation(one))
    assert {score.of for score in found} == {density}


def test_models_without_a_prior_refuse_it(trained):
    one = build_subject(Run(trained / "image" / "ae"), densities=("prior",))
    with pytest.raises(InputError, match="not trained to a prior"):
        list(scores.generation(one))


@pytest.mark.parametrize("name", ["gaussian", "mixture-4", "mixture-auto", "flow"])
def test_densities_do_not_depend_on_test_data(name, trained):
    """What the authors' code did: fit the density on the images that it is compared with."""
    run = Run(trained / "image" / "ae")
    one = build_subject(run)
    other = dataclasses.replace(one.data, test=255 - one.data.test)
    two = Subject(one.model, other, one.protocol, one.extractor)
    drawn = [
        fit_density(s.model, partial(s.codes, "train"), name).sample(9, generator())
        for s in (one, two)
    ]
    assert torch.equal(*drawn)
    assert not torch.equal(one.real_features, two.real_features)


def test_probes_do_not_depend_on_test_labels(trained):
    one = build_subject(Run(trained / "image" / "ae"), probes=("head",), repeats=1)
    shifted = dataclasses.replace(one.data, test_labels=(one.data.test_labels + 1) % 10)
    two = Subject(one.model, shifted, one.protocol, one.extractor)
    (a,), (b,) = (list(scores.classification(s)) for s in (one, two))
    assert a.values[0] + b.values[0] <= 1  # the same answers, which are right only once


def test_only_distances_of_inception_are_called_fid(trained, monkeypatch):
    one = build_subject(Run(trained / "image" / "ae"))
    names = {s.name for s in scores.reconstruction(one)}
    assert "classifier distance" in names
    assert not names & {"FID", "KID"}
    one.extractor.name = "inception"
    assert {"FID", "KID"} <= {s.name for s in scores.reconstruction(one)}


def test_collapsed_codes_are_evaluated(trained):
    one = build_subject(Run(trained / "image" / "ae"))
    with torch.no_grad():
        one.model.encoder[-1].weight.zero_()
    found = {(score.name, score.of) for score in scores.dimensions(one)}
    assert ("rank at 1e-02", "codes") in found
    assert ("TwoNN", "codes") not in found
    assert ("TwoNN", "data") in found
    assert {score.of for score in scores.generation(one)} == {"gaussian", "mixture-10"}


def test_columns_in_large_units_do_not_decide_the_dimension_of_the_data(trained):
    one = build_subject(Run(trained / "table" / "ae"), samples=300)
    units = torch.tensor([1e4, 1.0, 1e-3, 7.0, 0.1])
    change = {"train": one.data.train * units, "test": one.data.test * units}
    change |= {"shift": one.data.shift * units, "scale": one.data.scale * units}
    other = Subject(one.model, dataclasses.replace(one.data, **change), one.protocol)

    def of_data(subject):
        return {s.name: s.values[0] for s in scores.dimensions(subject) if s.of == "data"}

    assert of_data(other) == pytest.approx(of_data(one), rel=1e-4)
    x = torch.cat([one.data.test, one.data.train]).double()
    x = (x - x.mean(0)) / x.std(0)
    variances = torch.linalg.svdvals(x).square()
    shares = variances.cumsum(0) / variances.sum()
    assert of_data(one)["PCA, 95%"] == int((shares < 0.95).sum()) + 1


def test_a_small_test_set_is_filled_up_with_training_samples(trained):
    one = build_subject(Run(trained / "table" / "ae"), samples=200)
    held_out = len(one.data.test)
    assert held_out == 30 and len(one.population) == 200
    assert torch.equal(one.population[:held_out], one.data.test)
    assert one.limits() == ["dimensions are over 200 samples, training samples included"]
    few = dataclasses.replace(one.protocol, samples=held_out)
    assert Subject(one.model, one.data, few).limits() == []


def test_what_the_number_of_samples_bounds_is_said(trained):
    one = build_subject(Run(trained / "image" / "ae"), samples=60)
    assert one.limits() == ["distances in 64 features over 60 samples are too large"]
    one.model.bridge.latent = 60
    assert one.limits()[0] == "60 samples bound the rank of 60 codes to 59"
