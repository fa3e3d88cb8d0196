"""Updates by a recording, on a CPU through a stand-in that does the recorded work again."""

from contextlib import contextmanager

import pytest
import torch
from capturing import REFUSED, StandIn, make_stepper
from small import SMALL, VARIANTS, load

from lorae.linalg import polar
from lorae.objectives.registry import METHODS
from lorae.training.capture import CudaGraphs, HostReads
from lorae.training.loop import optimize
from lorae.training.sampler import Sampler
from lorae.utils.samples import as_float


def weights(one):
    state = one.objective.state_dict() | {"adam": next(iter(one.adam.state.values()))["exp_avg"]}
    return {k: v.clone() for k, v in state.items() if isinstance(v, torch.Tensor)}


@pytest.fixture
def minimax(monkeypatch):
    """The nuclear norm of a GPU."""
    monkeypatch.setattr(polar, "default_algorithm", lambda matrix: "minimax")


CASES = {
    name: VARIANTS[name]
    for name in (*METHODS, "ema", "decay", "warmup", "clip", "mixed", "lorae-seldom", "gan-ema")
}


@pytest.mark.usefixtures("minimax")
@pytest.mark.parametrize("name", CASES)
def test_a_captured_update_changes_no_bit(name):
    """Of weights, optimizer and loss, with batches and learning rates that differ by step."""
    found = []
    for graphs in (None, StandIn()):
        options = CASES[name].resolve(load(CASES[name]))
        one, notes, samples = make_stepper(options, graphs)
        sampler = Sampler(samples, one.fabric, batch_size=options.batch_size)
        torch.manual_seed(1)
        list(optimize(one, sampler.batch, options.warmup + 8, schedule=lambda k: 1 / (1 + k)))
        found.append((weights(one), one.totals.means()))
    (eager, losses), (captured, captured_losses) = found
    assert losses == captured_losses
    torch.testing.assert_close(captured, eager, rtol=0, atol=0, equal_nan=True)
    assert graphs.recorded == (name not in REFUSED), notes
    assert [REFUSED[name] in note for note in notes] == [True] * (name in REFUSED)


class Failing(StandIn):
    """Fails as CUDA does if an operation is not permitted while it records."""

    def record(self, work):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


@pytest.mark.usefixtures("minimax")
def test_an_update_that_cannot_be_recorded_is_made_as_ever():
    options, found = SMALL.resolve(load(SMALL)), []
    for graphs in (None, Failing()):
        one, notes, samples = make_stepper(options, graphs)
        sampler = Sampler(samples, one.fabric, batch_size=options.batch_size)
        list(optimize(one, sampler.batch, 8))
        found.append(weights(one))
        assert not any(group["capturable"] for group in one.adam.param_groups)
        assert type(one.adam.param_groups[0]["lr"]) is float
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)
    expected = (
        "training steps are not captured in a CUDA graph: operation not permitted when stream"
    )
    assert notes == [f"{expected} is capturing"]


@pytest.mark.usefixtures("minimax")
@pytest.mark.parametrize("name", sorted(set(METHODS) - set(REFUSED)))
def test_a_capturable_objective_keeps_nothing_outside_its_buffers(name):
    """A recording would go on reading what an attribute was when it was made."""
    options = CASES[name].resolve(load(CASES[name]))
    one, _, samples = make_stepper(options)
    x = as_float(samples[:64])
    one._update(x)
    before = [attributes(module) for module in one.objective.modules()]
    one._update(x)
    for module, old in zip(one.objective.modules(), before, strict=True):
        new = attributes(module)
        assert [k for k in new if new[k] is not old.get(k) and new[k] != old.get(k)] == []


def attributes(module):
    return {k: v for k, v in vars(module).items() if not k.startswith(("_buffers", "_parameters"))}


class Recorded:
    """PyTorch's streams and graphs, which note what is asked of them."""

    def __init__(self, monkeypatch):
        self.asked = []
        note = self.asked.append

        class Stream:
            def __init__(self, name="side"):
                self.name = name

            def wait_stream(self, other):
                note(f"{self.name} waits for {other.name}")

        class Graph:
            def replay(self):
                note("replay")

        @contextmanager
        def on(*_, stream):
            note(f"on {stream.name}")
            yield
            note("off")

        main = Stream("main")
        for name, fake in {
            "Stream": Stream,
            "CUDAGraph": Graph,
            "current_stream": lambda: main,
            "stream": lambda stream: on(stream=stream),
            "graph": on,
        }.items():
            monkeypatch.setattr(torch.cuda, name, fake)


def test_graphs_are_recorded_and_launched_as_pytorch_asks(monkeypatch):
    """Work before a recording is on the stream of the recording, and both streams wait."""
    fake, static = Recorded(monkeypatch), torch.ones(())

    def work():
        fake.asked.append("work")
        return {"loss": static}

    graphs = CudaGraphs()
    assert graphs.run(work)["loss"] is static
    order = ["side waits for main", "on side", "work", "off", "main waits for side"]
    assert fake.asked == order
    replay = graphs.record(work)
    assert fake.asked[5:] == ["on side", "work", "off"]
    first = replay()["loss"]
    static.fill_(2)  # as the next launch does
    assert (float(first), float(replay()["loss"])) == (1, 2)
    assert fake.asked[8:] == ["replay", "replay"]


READS = {
    "number": lambda x: float(x.sum()),
    "truth": lambda x: bool((x > 0).all()),
    "mask": lambda x: x[x > 0],
    "nonzero": lambda x: x.nonzero(),
    "decomposition": torch.linalg.svdvals,
    "copy": lambda x: x.to("meta"),
}


@pytest.mark.parametrize("name", READS)
def test_what_the_cpu_must_know_is_noted(name):
    x = torch.rand(3, 3)
    with HostReads() as reads:
        READS[name](x)
    assert len(reads.found) == 1


def test_what_the_device_can_do_alone_is_not_noted():
    x, index = torch.rand(3, 3, requires_grad=True), torch.tensor([2, 0])
    with HostReads() as reads:
        y = torch.where(x > 0.5, x, 0)[index] @ x + 2 * torch.linalg.matrix_norm(x)
        (y.sum() + torch.rand(()) + x.norm()).backward()
    assert reads.found == set()
