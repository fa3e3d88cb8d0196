"""Evaluations of runs: their parts, and their record in the run folder."""

import dataclasses
import json

import numpy as np
import pytest
from evaluations import MODELS, QUICK

from lorae.errors import InputError
from lorae.metrics.records import FILE, evaluate_run, format_scores, read_evaluation, read_scores
from lorae.metrics.scores import PARTS
from lorae.training.run_folder import Run

pytestmark = pytest.mark.usefixtures("quick_classifier")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["image", "table"])
class TestEveryRun:
    def test_has_the_scores_that_apply_to_it(self, kind, model, trained):
        run = Run(trained / kind / model)
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
        assert json.loads((run.path / FILE).read_text()).items() > found.items()
        assert [s.name in format_scores(read_scores(run)) for s in read_scores(run)]

    def test_record_is_complete_and_reproducible(self, kind, model, trained):
        run = Run(trained / kind / model)
        first = evaluate_run(run, QUICK, ["dimension"])
        stated = first["dimension"]["protocol"]
        assert stated["data"] == run.about["data"]["checksum"]
        assert stated["model"] == run.last["model"]
        assert stated["seeds"] == [0, 1]
        assert {"lorae", "torch"} <= set(stated["environment"])
        assert evaluate_run(run, QUICK, ["dimension"]) == first


def test_evaluating_a_part_again_keeps_the_others(trained):
    run = Run(trained / "image" / "ae")
    evaluate_run(run, QUICK, ["dimension", "classification"])
    before = read_evaluation(run)
    evaluate_run(run, dataclasses.replace(QUICK, seed=7), ["classification"])
    after = read_evaluation(run)
    assert after["dimension"] == before["dimension"]
    assert after["classification"]["protocol"]["seeds"] == [7, 8]


def test_unknown_parts_are_refused(trained):
    with pytest.raises(InputError, match=r"unknown part of an evaluation 'dimensions'"):
        evaluate_run(Run(trained / "image" / "ae"), QUICK, ["dimensions"])
