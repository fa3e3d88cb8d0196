"""Captured updates: which models have none, and a stand-in for a CUDA graph on a CPU."""

from small import load

from lorae.training.capture import CapturedUpdate
from lorae.training.devices import single_process
from lorae.training.loop import Stepper
from lorae.training.train import build_objective

REFUSED = {
    "lorae-data-space": "its numbers change",
    "rrae": "_local_scalar_dense",
    "rrae-adaptive": "_local_scalar_dense",
    "vrrae": "_local_scalar_dense",
    "vae-flow": "nonzero",  # of the masks of zuko's coupling layers
}
"""The models whose updates cannot be recorded, and why."""


class StandIn:
    """Records work as a function that does it again, from the same memory."""

    recorded = 0

    def run(self, work):
        return work()

    def record(self, work):
        self.recorded += 1
        return work


def make_stepper(options, graphs=None, *, capture=True):
    """Return a stepper, the notes of its capturing, and its training samples.

    On a CPU it captures by `graphs`, if they are given.
    """
    data, notes = load(options), []
    fabric = single_process(options.device if options.device != "auto" else "cpu")
    objective = build_objective(options, data)
    one = Stepper(objective, options, fabric, capture=capture, note=notes.append)
    if graphs is not None and fabric.device.type == "cpu":
        one.captured = CapturedUpdate(
            one._update, one.objective, one.adam, note=notes.append, graphs=graphs
        )
    return one, notes, data.train
