"""Extractors of features."""

import dataclasses

import pytest
from evaluations import QUICK

from lorae.errors import InputError
from lorae.metrics.scores import classification
from lorae.metrics.subject import Subject, build_extractor
from lorae.training.options import data_of
from lorae.training.run_folder import Run

pytestmark = pytest.mark.usefixtures("quick_classifier")


def test_a_set_without_classes_has_no_classifier(trained):
    run = Run(trained / "image" / "ae")
    data = data_of(run)
    unlabelled = dataclasses.replace(data, train_labels=None, test_labels=None)
    with pytest.raises(InputError, match=r"features must be inception .* got 'classifier'"):
        build_extractor("classifier", unlabelled)
    one = Subject(run.model(), unlabelled, QUICK)
    assert list(classification(one)) == []
