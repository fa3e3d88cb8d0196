"""The commands that make a model ready to be used elsewhere."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from launcher import flags
from small import SMALL, content, load

import lorae as package
from lorae import spectral
from lorae.autoencoder import Architecture, build
from lorae.deploy import Cut
from lorae.options import Options
from lorae.runs import Run

pytest_plugins = ["commands"]


@pytest.fixture(autouse=True)
def data_kept(monkeypatch):
    monkeypatch.setattr(Options, "load", load)


@pytest.fixture
def exact(lorae) -> Path:
    """A run of rank 2 of 6."""
    lorae(
        "train",
        "--out",
        "exact",
        *flags(dataclasses.replace(SMALL, model="rrae", settings={"rank": 2})),
    )
    return Path("exact")


@pytest.fixture
def plain(lorae) -> Path:
    """A run without a matrix."""
    lorae("train", "--out", "plain", *flags(dataclasses.replace(SMALL, model="ae", steps=2)))
    return Path("plain")


def test_fold_writes_the_small_model_and_compares(lorae, exact):
    status, out, err = lorae("fold", exact, "--json", "--seconds", "0.01")
    assert status == 0, err
    answer = json.loads(out)
    whole, folded = answer["whole"], answer["folded"]
    assert (whole["latent"], folded["latent"]) == (6, 2)
    assert folded["parameters"] < whole["parameters"]
    assert folded["bytes"] == (exact / "folded.safetensors").stat().st_size < whole["bytes"]
    assert folded["error"] == pytest.approx(whole["error"], rel=1e-4)
    assert abs(answer["rise_of_error"]) < 1e-4
    assert answer["largest_difference"] < 1e-5
    assert answer["rank"]["exact"]
    assert set(answer["seconds"]) == {"encode 1", "decode 1", "encode 1,000", "decode 1,000"}
    for row in answer["seconds"].values():
        assert min(row.values()) > 0
    model, origin = package.load(exact / "folded.safetensors"), Run(exact).model()
    x = torch.rand(3, 1, 8, 8)
    assert model.encode(x).shape == (3, 2)
    torch.testing.assert_close(model(x), origin(x), rtol=1e-4, atol=1e-5)


def test_fold_tells_what_it_did(lorae, exact):
    status, out, err = lorae("fold", exact, "--out", "b.safetensors", "--seconds", "0")
    assert (status, err) == (0, "")
    assert "written to b.safetensors" in out
    assert re.search(r"^dimensions of codes +6 +2 +0\.333$", out, re.MULTILINE)
    assert re.search(
        r"1e-03 of its largest .*: 2 of 6; the rank is exact: the largest one cut", out
    )
    assert "encode" not in out
    assert "rises" not in out


def test_the_loss_is_stated_where_the_rank_is_not_exact(lorae, finished):
    status, out, _ = lorae("fold", finished, "--threshold", "0.9", "--seconds", "0.01")
    assert status == 0
    assert "the rank is not exact" in out
    (rise,) = re.findall(r"the test error rises by (\S+) %", out)
    _, answer, _ = lorae("fold", finished, "--threshold", "0.9", "--seconds", "0", "--json")
    found = json.loads(answer)
    assert not found["rank"]["exact"]
    assert found["rise_of_error"] == pytest.approx(
        found["folded"]["error"] / found["whole"]["error"] - 1
    )
    assert float(rise) == pytest.approx(100 * found["rise_of_error"], rel=0.1)
    assert re.search(r"^encode 1,000 +\S+ ms +\S+ ms +\d+\.\d{3}$", out, re.MULTILINE)
    assert re.search(r"^times: medians of interleaved calls", out, re.MULTILINE)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_a_cut_is_exact_where_what_it_cuts_is_rounding(rank):
    model = build(Architecture("mlp", (8,), 6, "low-rank"))
    with torch.no_grad():
        model.bridge.weight.copy_(spectral.truncate(model.bridge.weight, rank))
    sigma = torch.linalg.svdvals(model.bridge.weight.detach().double())
    assert Cut.of(model, 1e-3, rank).exact
    if rank > 1:
        cut = Cut.of(model, 0.5, rank - 1)
        assert not cut.exact
        assert cut.largest == pytest.approx(float(sigma[rank - 1] / sigma[0]))


BAD = {
    "fold-none": (["fold", "AE"], "learns no matrix, so there is nothing to be cut"),
    "fold-threshold": (["fold", "RUN", "--threshold", "2"], "threshold must be .* got 2"),
    "fold-run": (["fold", "nowhere"], "there is no run at 'nowhere'"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_done_is_told(case, lorae, finished, plain):
    arguments, pattern = BAD[case]
    before = content(Path())
    places = {"RUN": finished, "AE": plain}
    status, out, err = lorae(*[places.get(argument, argument) for argument in arguments])
    assert status == 2, err
    assert out == ""
    assert re.fullmatch(r"lorae: [^\n]+\n", err), err
    assert re.search(pattern, err), err
    assert content(Path()) == before
