"""Several processes compute what one computes with the same batch, up to float32 rounding."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch
from launcher import flags, needs_fork, start, start_group
from small import SMALL, assert_same, outcome

from lorae.objectives.registry import METHODS
from lorae.training.run_folder import Run
from lorae.training.train import train
from lorae.utils import distributed

pytestmark = pytest.mark.distributed

STEPS = replace(SMALL, steps=6, evaluate_every=3, device="cpu")


@needs_fork
@pytest.mark.parametrize("model", METHODS)
def test_two_processes_equal_one(model, tmp_path):
    options = replace(STEPS, model=model)
    one = train(options, tmp_path / "one", show=False)
    both = start_group("train", "--out", "two", "--json", *flags(options), folder=tmp_path)
    assert [process.wait() for process in both] == [0, 0], both[0].err + both[1].err
    assert both[0].out.startswith("{")
    assert both[1].out == ""
    assert_same(Run(tmp_path / "two"), one)


@needs_fork
def test_both_processes_refuse_bad_options(tmp_path):
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "precious").touch()
    both = start_group("train", "--out", "two", *flags(STEPS), folder=tmp_path)
    assert [process.wait() for process in both] == [2, 2]
    for process in both:
        assert "must be a new or empty folder" in process.err
        assert "Traceback" not in process.err
    odd = start_group(
        "train", "--out", "odd", *flags(replace(STEPS, batch_size=63)), folder=tmp_path
    )
    assert [process.wait() for process in odd] == [2, 2]
    assert "batch_size must be a multiple" in odd[0].err
    assert not (tmp_path / "odd").exists()


STOPPED = """
from lorae.training.options import Options
from lorae.training.loop import Stepper
from lorae.training.train import train

step = Stepper.step

def stop_at_five(self, x):
    if self.steps == 5:
        raise KeyboardInterrupt
    return step(self, x)

Stepper.step = stop_at_five
try:
    train(Options(**{options}), "two", show=False)
except KeyboardInterrupt:
    pass
"""


@needs_fork
@pytest.mark.parametrize("model", ["lorae-proximal", "gan"])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 2)])
def test_a_run_can_be_resumed_with_another_number_of_processes(model, before, after, tmp_path):
    """The last checkpoint is that of step 3, so two steps are repeated."""
    options = replace(STEPS, model=model)
    code = STOPPED.replace("{options}", repr(asdict(options)))
    for process in start_group(folder=tmp_path, size=before, code=code):
        assert process.wait() == 0, process.err
    run = Run(tmp_path / "two")
    assert [line["step"] for line in run.metrics()] == [3]
    assert not run.finished
    resumed = start_group("train", "--resume", "two", folder=tmp_path, size=after)
    assert [process.wait() for process in resumed] == [0] * after, resumed[0].err
    if before != after:
        assert_same(run, train(options, tmp_path / "one", show=False))
        return
    whole = start_group("train", "--out", "whole", *flags(options), folder=tmp_path, size=after)
    assert [process.wait() for process in whole] == [0] * after, whole[0].err
    assert outcome(run) == outcome(Run(tmp_path / "whole"))


IDENTICAL = """
import hashlib
from dataclasses import asdict, replace
from lorae.training.options import Options
from lorae.training.session import Session
from lorae.training.train import train

finish = Session._finish

def print_digest(self):
    digest = hashlib.sha256()
    for name, value in sorted(self.stepper.objective.state_dict().items()):
        digest.update(value.contiguous().numpy().tobytes())
    print(self.options.model, digest.hexdigest())
    finish(self)

Session._finish = print_digest
for model in ("lorae", "lorae-proximal", "lorae-data-space", "rrae-adaptive", "gan", "ls-gan"):
    train(replace(Options(**{options}), model=model), model, show=False)
"""


@needs_fork
def test_all_processes_hold_the_same_weights_to_the_bit(tmp_path):
    """Each process takes the proximal step, and updates both players, by itself."""
    code = IDENTICAL.replace("{options}", repr(asdict(STEPS)))
    both = start_group(folder=tmp_path, code=code)
    assert [process.wait() for process in both] == [0, 0], both[0].err + both[1].err
    assert len(both[0].out.splitlines()) == 6
    assert both[0].out == both[1].out


EVALUATED = """
import json, torch
from lightning_fabric import Fabric
from lorae.utils import distributed
from lorae.nn import inference
from lorae.nn.autoencoder import Architecture, build
from lorae.training.evaluation import evaluate

torch.manual_seed(0)
model, samples = build(Architecture("mlp", (7,), 5, "low-rank")), torch.randn(103, 7)
if {several}:
    Fabric(accelerator="cpu", devices=2, strategy="ddp").launch()
for size in (10, 60, 500):
    seen = []
    hook = model.encoder.register_forward_hook(lambda _, x, y: seen.append(len(y)))
    inference.BATCH_SIZE = size
    found = evaluate(model, samples)
    hook.remove()
    print(json.dumps([sum(seen), found.reconstruction, found.covariance.tolist()]))
"""


@needs_fork
def test_processes_share_an_evaluation(tmp_path):
    """With the last size the second process has no batch."""
    [one] = [start(folder=tmp_path, code=EVALUATED.replace("{several}", "False"))]
    both = start_group(folder=tmp_path, code=EVALUATED.replace("{several}", "True"))
    assert [process.wait() for process in (one, *both)] == [0] * 3, both[0].err + both[1].err
    alone, first, second = (
        [json.loads(line) for line in process.out.splitlines() if line.startswith("[")]
        for process in (one, *both)
    )
    for whole, a, b, seen in zip(alone, first, second, [(53, 50), (60, 43), (103, 0)], strict=True):
        assert (a[0], b[0]) == seen
        assert a[1:] == b[1:]
        assert a[1] == pytest.approx(whole[1], rel=1e-6)  # float32 sums of other batches
        assert a[2] == pytest.approx(whole[2], rel=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(
    "launch",
    [
        ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lorae"],
        ["lorae"],
    ],
    ids=["torchrun", "devices"],
)
def test_two_processes_started_by_torchrun_or_by_devices(launch, tmp_path):
    one = train(STEPS, tmp_path / "one", show=False)
    devices = [] if "--standalone" in launch else ["--devices", "2"]
    subprocess.run(
        [sys.executable, "-m", *launch, "train", "--out", "two", *devices, *flags(STEPS)],
        cwd=tmp_path,
        check=True,
        timeout=300,
    )
    assert_same(Run(tmp_path / "two"), one)


def test_operations_of_one_process_are_the_identity():
    x = torch.randn(3)
    assert distributed.world_size() == 1
    assert distributed.rank() == 0
    assert distributed.is_main()
    assert distributed.average(x) is x
    assert distributed.gather(x) is x
    assert torch.equal(distributed.shard(x), x)
    torch.manual_seed(1)
    normal = distributed.normal(x.bfloat16())
    torch.manual_seed(1)
    assert torch.equal(normal, torch.randn(3))


SHARED = """
import json, os, sys, torch
from lightning_fabric import Fabric
from lorae.utils import distributed

fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()
torch.manual_seed(0)
everything = torch.randn(6, 3)
torch.manual_seed(5)
share = distributed.shard(everything).clone().requires_grad_()
whole = distributed.gather(share)
(whole.square().prod(0).sum()).backward()
print(json.dumps({
    "whole": torch.equal(whole, everything),
    "gradient": share.grad.tolist(),
    "noise": distributed.gather(distributed.normal(share)).tolist(),
    "uniform": distributed.gather(distributed.uniform(share)).tolist(),
}))
"""


@needs_fork
def test_several_processes_gather_and_draw_the_numbers_of_one(tmp_path):
    both = start_group(folder=tmp_path, code=SHARED)
    assert [process.wait() for process in both] == [0, 0], both[0].err + both[1].err
    torch.manual_seed(0)
    everything = torch.randn(6, 3, requires_grad=True)
    everything.square().prod(0).sum().backward()
    torch.manual_seed(5)
    noise, uniform = torch.randn(6, 3), torch.rand(6, 3)
    for rank, process in enumerate(both):
        found = json.loads(process.out.splitlines()[-1])
        assert found["whole"]
        # twice, because the gradients of the processes are averaged afterwards
        torch.testing.assert_close(torch.tensor(found["gradient"]), 2 * everything.grad[rank::2])
        assert torch.equal(torch.tensor(found["noise"]), noise)
        assert torch.equal(torch.tensor(found["uniform"]), uniform)


MEASURED = """
import json, torch
from lightning_fabric import Fabric
from lorae.metrics.frechet import frechet_distance
from lorae.metrics.features import Extractor, extract_features
from lorae.linalg.moments import Moments

class Squares(Extractor):
    name, identity, batch_size, seen = "squares", "squares", 8, 0
    def __call__(self, images):
        self.seen += len(images)
        return images.float().flatten(1).square()

torch.manual_seed(0)
sets = torch.randint(256, (2, 21, 1, 2, 2), dtype=torch.uint8)  # a multiple neither of 2 nor of 8
def distance(extractor):
    return frechet_distance(*(Moments(4).update(extract_features(extractor, one)) for one in sets))

one, two = Squares(), Squares()
alone = distance(one)
fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()
print(json.dumps([alone, distance(two), one.seen, two.seen]))
"""


@needs_fork
def test_several_processes_share_the_images_and_compute_the_same_distance(tmp_path):
    both = start_group(folder=tmp_path, code=MEASURED)
    assert [process.wait() for process in both] == [0, 0], both[0].err + both[1].err
    for process in both:
        alone, shared, all_, own = json.loads(process.out)
        assert shared == alone
        assert (all_, own) == (42, 22)
