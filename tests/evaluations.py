"""What tests of evaluations share: a quick protocol, and runs evaluated by it."""

import dataclasses

from lorae.metrics.protocol import Protocol
from lorae.metrics.subject import Subject, build_extractor
from lorae.training.options import data_of
from lorae.training.run_folder import Run

QUICK = Protocol(samples=60, repeats=2, labels=(20,), fitted=300)
MODELS = ("ae", "vrrae", "ns-gan")


def build_subject(run: Run, **changes: object) -> Subject:
    """Return a run with the quick protocol, changed as given, and the classifier's features."""
    data = data_of(run)
    extractor = build_extractor("classifier", data) if len(data.shape) == 3 else None
    return Subject(run.model(), data, dataclasses.replace(QUICK, **changes), extractor)
