"""Training, resuming, folding and evaluating on a GPU, against a CPU.

`pytest -m cuda` runs these tests for every model where there is a GPU. They also run on a CPU for a
few models, which rehearses them: what differs between devices is then compared with itself.
"""

import copy
from dataclasses import replace

import pytest
import torch
from capturing import REFUSED, StandIn, make_stepper
from small import VARIANTS, load, outcome

from lorae import LowRankAutoencoder
from lorae.nn.inference import decode_all, encode_all
from lorae.objectives.registry import METHODS
from lorae.training.evaluation import evaluate
from lorae.training.loop import Stepper, optimize
from lorae.training.sampler import Sampler
from lorae.training.train import train

pytestmark = pytest.mark.usefixtures("cached_data")

RANDOM = {"vae", "vae-bernoulli", "vae-flow", "vrrae", "wae", "rae-gp", "nested-dropout"}
RANDOM |= {"gan", "ls-gan", "ns-gan"}
"""Models that draw random numbers, which differ from device to device."""
ROUNDING = 1e-4
"""Share by which figures of the same weights may differ, and of the same kernels in 12 steps."""
APART = 2e-2
"""Share by which figures may differ after 12 steps on two devices: Adam enlarges the rounding of
small gradients, and the polar factor of a GPU is a polynomial that is within 2e-3."""

NEEDS_GPU = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


def cases(rehearsed, names=tuple(METHODS)):
    """Return parameters of all models on a GPU, and of some on a CPU."""
    on_gpu = [pytest.param(name, "cuda", marks=NEEDS_GPU) for name in names]
    return [*on_gpu, *((name, "cpu") for name in rehearsed)]


@pytest.fixture(autouse=True)
def exact_products():
    """Convolutions in float32, as on a CPU: TensorFloat-32 has 10 bits."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def assert_near(found, expected, share):
    """Compare the losses and the figures on the test samples of the lines of metrics."""
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for one, other in zip(found, expected, strict=True):
        for part in ({"train"} & set(other)) | {"test"}:
            for name in ("loss", "reconstruction", "covariance", "matrix"):
                if (value := other[part].get(name)) is not None:
                    size = max(value) if isinstance(value, list) else abs(value)
                    assert one[part][name] == pytest.approx(value, abs=share * size)


@pytest.mark.parametrize(("name", "device"), cases(("lorae", "vae", "gan")))
def test_a_model_trains_and_is_evaluated_as_on_a_cpu(name, device, tmp_path):
    options = replace(VARIANTS[name], device=device)
    run = train(options, tmp_path / "device", show=False)
    if name not in RANDOM:
        other = train(replace(options, device="cpu"), tmp_path / "cpu", show=False)
        assert_near(run.metrics(), other.metrics(), APART)
    here, samples = run.model(), load(options).test
    there = copy.deepcopy(here).to(device)
    figures = [{"step": 0, "test": evaluate(m, samples).figures()} for m in (there, here)]
    assert_near(figures[:1], figures[1:], ROUNDING)
    codes = encode_all(here, samples)
    for found, expected in (
        (encode_all(there, samples), codes),
        (decode_all(there, codes), decode_all(here, codes)),
    ):
        torch.testing.assert_close(found, expected, rtol=ROUNDING, atol=ROUNDING)


class Crash(BaseException):
    """An exception that nothing catches, like the end of the process."""


@pytest.mark.parametrize(("name", "device"), cases(("lorae-proximal", "vae")))
def test_a_run_resumes_on_the_gpu_or_elsewhere(name, device, tmp_path, monkeypatch):
    options, step = replace(VARIANTS[name], device=device), Stepper.step
    whole = train(options, tmp_path / "whole", show=False)
    for elsewhere in (device, "cpu"):

        def crashing(self, x):
            if self.steps == 8:
                raise Crash
            return step(self, x)

        monkeypatch.setattr(Stepper, "step", crashing)
        with pytest.raises(Crash):
            train(options, tmp_path / elsewhere, show=False)
        monkeypatch.setattr(Stepper, "step", step)
        resumed = replace(options, device=elsewhere)
        run = train(resumed, tmp_path / elsewhere, resume=True, show=False)
        if device == "cpu":
            assert outcome(run) == outcome(whole)
            return
        if elsewhere == device or name not in RANDOM:
            share = ROUNDING if elsewhere == device else APART
            assert_near(run.metrics(), whole.metrics(), share)


@pytest.mark.parametrize(("name", "device"), cases(("ae", "vae-bernoulli", "rrae")))
def test_a_captured_update_is_that_of_the_eager_loop(name, device):
    steppers, losses = [], []
    for capture in (True, False):
        options = replace(VARIANTS[name], device=device).resolve(load(VARIANTS[name]))
        graphs = StandIn() if capture else None
        one, notes, samples = make_stepper(options, graphs, capture=capture)
        sampler = Sampler(samples, one.fabric, batch_size=options.batch_size)
        torch.manual_seed(1)
        list(optimize(one, sampler.batch, 12, schedule=lambda k: 1 / (1 + k)))
        assert [REFUSED[name] in note for note in notes] == [True] * (capture and name in REFUSED)
        steppers.append(one)
        losses.append(one.totals.means())
    captured, eager = (one.objective.state_dict() for one in steppers)
    assert (steppers[0].captured.replay is None) == (name in REFUSED)
    assert losses[0] == pytest.approx(losses[1], rel=ROUNDING)
    torch.testing.assert_close(captured, eager, rtol=0, atol=ROUNDING, equal_nan=True)


LOW_RANK = ("lorae", "lorae-proximal", "lorae-data-space", "lorae-factored", "irmae", "rrae")


@pytest.mark.parametrize(("name", "device"), cases(("lorae", "rrae"), LOW_RANK))
def test_a_model_on_the_gpu_is_cut_as_on_a_cpu(name, device, tmp_path):
    options = replace(VARIANTS[name], device=device)
    here, samples = train(options, tmp_path, show=False).model(), load(options).test
    there = copy.deepcopy(here).to(device)
    cuts = [model.cut() for model in (there, here)]
    assert cuts[0].bridge.latent == cuts[1].bridge.latent
    x = samples.float().to(device)
    torch.testing.assert_close(cuts[0](x).cpu(), cuts[1](x.cpu()), rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=NEEDS_GPU), "cpu"])
def test_the_estimator_fits_on_the_gpu(device):
    x = torch.rand(200, 3) @ torch.rand(3, 8)
    one = LowRankAutoencoder(n_components=3, steps=50, device=device, random_state=0).fit(x.numpy())
    lost = (one.inverse_transform(one.transform(x.numpy())) - x.numpy()).var()
    assert lost < 0.05 * x.var()
