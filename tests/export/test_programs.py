"""Exported programs equal their models, and hold no pickle."""

import sys
import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import lorae
from lorae.errors import InputError
from lorae.export import programs
from lorae.linalg import spectral
from lorae.nn.autoencoder import Architecture, build
from lorae.nn.networks import PAPER_SHAPES

ARCHITECTURES = [
    Architecture("mlp", (11,), 5, "low-rank", width=0.1, value_range=None),
    Architecture("mlp", (11,), 5, "gaussian", width=0.1),
    Architecture("mlp", (11,), 5, "flow", width=0.1),
    Architecture("mlp", (11,), 5, "truncated", {"rank": 2}, width=0.1),
    Architecture("conv", (2, 9, 12), 5, "data-space", width=0.1, value_range=(-1.0, 1.0)),
    Architecture("conv", (2, 33), 5, "low-rank", width=0.1, padding="circular"),
    Architecture("conv", (1, 4, 9, 8), 5, "none", width=0.1, value_range=None),
    Architecture("mnist", PAPER_SHAPES["mnist"], 5, "chain", width=0.1, lipschitz=True),
    Architecture("celeba", PAPER_SHAPES["celeba"], 5, "low-rank", width=0.01),
    Architecture("shapes", PAPER_SHAPES["shapes"], 5, "none", width=0.1),
]
# The first export imports for seconds, and each takes one or two: of the quick tests, a few.
QUICK = ("mlp-low-rank", "conv-data-space")
ONNX = ("mlp-truncated", "conv-data-space", "shapes-none", "conv-low-rank", "conv-none")


def name(architecture):
    return f"{architecture.network}-{architecture.bridge}"


def marked(architecture, *, slow):
    return pytest.param(
        architecture, id=name(architecture), marks=[pytest.mark.slow] if slow else []
    )


def trained(architecture):
    """Return a model with units and running statistics of their own, in evaluation mode."""
    shape = architecture.shape
    model = build(architecture, shift=torch.randn(shape), scale=torch.rand(shape) + 0.5)
    for _ in range(3):
        model.train()(torch.randn(10, *shape))
    return model.eval()


@torch.no_grad()
def assert_equal(model, encode, decode):
    """Check programs, as functions of arrays, for batches other than those that were traced."""
    for count in (1, 2, 33):
        x = torch.randn(count, *model.architecture.shape)
        z = model.encode(x)
        # The same sums of a few thousand float32 products in another order.
        np.testing.assert_allclose(encode(x.numpy()), z, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(decode(z.numpy()), model.decode(z), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "architecture", [marked(a, slow=True) for a in ARCHITECTURES if name(a) in ONNX]
)
def test_onnx_is_the_model(architecture, tmp_path):
    model = trained(architecture)
    apart = programs.export_onnx(model, tmp_path)
    assert set(apart) == {"encoder", "decoder"}
    assert max(apart.values()) < 1e-4
    found = {}
    for half, inputs, outputs in (("encoder", "samples", "codes"), ("decoder", "codes", "samples")):
        file = tmp_path / f"{half}.onnx"
        onnx.checker.check_model(onnx.load(file), full_check=True)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        assert [(i.name, i.shape[0]) for i in session.get_inputs()] == [(inputs, "batch")]
        assert [(o.name, o.shape[0]) for o in session.get_outputs()] == [(outputs, "batch")]
        found[half] = lambda x, s=session, n=inputs: s.run(None, {n: x})[0]
    assert_equal(model, found["encoder"], found["decoder"])


@pytest.mark.parametrize(
    "architecture", [marked(a, slow=name(a) not in QUICK) for a in ARCHITECTURES]
)
def test_a_torch_program_is_the_model(architecture, tmp_path):
    model = trained(architecture)
    assert set(programs.export_torch(model, tmp_path)) == {"encoder", "decoder"}
    found = [torch.export.load(tmp_path / f"{n}.pt2").module() for n in ("encoder", "decoder")]
    assert_equal(model, *[lambda x, m=m: m(torch.from_numpy(x)) for m in found])
    for file in tmp_path.glob("*.pt2"):
        assert not [part for part in parts(file) if is_pickle(part)]


def parts(file):
    with zipfile.ZipFile(file) as archive:
        return [archive.read(part) for part in archive.namelist()]


def is_pickle(content):
    """Return whether content is a pickle, or an archive of torch.save, which has one inside."""
    whole = content.startswith(tuple(b"\x80%c" % n for n in range(2, 6))) and content[-1:] == b"."
    return whole or content.startswith(b"PK\3\4")


def test_a_file_with_a_pickle_is_noticed(tmp_path):
    program = torch.export.export(nn.Linear(2, 2), (torch.rand(3, 2),))
    torch.export.save(program, tmp_path / "a.pt2")
    assert any(map(is_pickle, parts(tmp_path / "a.pt2")))
    with pytest.raises(InputError, match=r"would write a pickle into 'a\.pt2'"):
        programs._check_no_pickle(tmp_path / "a.pt2")


def test_a_cut_model_has_the_codes_of_its_rank(tmp_path):
    model = trained(ARCHITECTURES[0])
    with torch.no_grad():
        model.bridge.weight.copy_(spectral.truncate(model.bridge.weight, 2))
    programs.export_torch(model.cut(), tmp_path)
    encode, decode = (
        torch.export.load(tmp_path / f"{n}.pt2").module() for n in ("encoder", "decoder")
    )
    x = torch.randn(4, 11)
    assert encode(x).shape == (4, 2)
    torch.testing.assert_close(decode(encode(x)), model(x), rtol=1e-4, atol=1e-5)


def test_only_the_decoder_of_a_gan_is_exported(tmp_path):
    model = build(Architecture("mlp", (4,), 3, inverts=False, prior=True))
    assert set(programs.export_torch(model, tmp_path)) == {"decoder"}
    assert [path.name for path in tmp_path.iterdir()] == ["decoder.pt2"]


def test_exporting_changes_nothing(tmp_path):
    model = trained(ARCHITECTURES[0]).double().train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    programs.export_torch(model, tmp_path)
    assert model.training
    assert all(torch.equal(before[key], one) for key, one in model.state_dict().items())
    assert model.shift.dtype == torch.float64


class Unfaithful(nn.Linear):
    """A module that computes something else when it is traced."""

    def forward(self, x):
        return super().forward(x) + (1.0 if torch.compiler.is_exporting() else 0.0)


class Untraceable(nn.Linear):
    """A module that cannot be traced."""

    def forward(self, x):
        return super().forward(x) * float(x.sum().item() > 0)


@pytest.mark.parametrize(
    ("decoder", "pattern"),
    [
        (Unfaithful(3, 4), r"the exported decoder differs from the model's by 1"),
        (Untraceable(3, 4), "the decoder cannot be exported"),
    ],
    ids=["unfaithful", "untraceable"],
)
def test_a_program_that_differs_from_the_model_is_refused(decoder, pattern, tmp_path):
    model = lorae.wrap(nn.Linear(4, 3), decoder, sample=torch.rand(2, 4))
    with pytest.raises(InputError, match=pattern) as error:
        programs.export_torch(model, tmp_path)
    assert "\n" not in str(error.value)


def test_a_model_must_know_the_shape_of_a_sample(tmp_path):
    model = lorae.wrap(nn.Linear(4, 3), nn.Linear(3, 4))
    with pytest.raises(InputError, match=r"pass lorae\.wrap a sample"):
        programs.export_torch(model, tmp_path)


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"onnxruntime: pip install 'lorae\[onnx\]'"):
        programs.export_onnx(trained(ARCHITECTURES[0]), tmp_path)
    assert not list(tmp_path.iterdir())
