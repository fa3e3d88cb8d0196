"""The commands that prepare a trained model for use elsewhere."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from launcher import flags
from PIL import Image
from refusals import assert_refused_without_loss
from small import SMALL, content, load

import lorae as package
from lorae.errors import InputError
from lorae.export import model_card, programs
from lorae.linalg import spectral
from lorae.training.options import Options
from lorae.training.run_folder import Run

pytest_plugins = ["commands", "fake_hub"]
pytestmark = pytest.mark.usefixtures("cached_data")


@pytest.fixture
def exact(lorae):
    """A run of rank 2 of 6."""
    lorae(
        "train",
        "--out",
        "exact",
        *flags(dataclasses.replace(SMALL, model="rrae", settings={"rank": 2})),
    )
    return Path("exact")


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


def test_fold_prints_a_comparison(lorae, exact):
    status, out, err = lorae("fold", exact, "--out", "b.safetensors", "--seconds", "0")
    assert (status, err) == (0, "")
    assert "written to b.safetensors" in out
    assert re.search(r"^dimensions of codes +6 +2 +0\.333$", out, re.MULTILINE)
    assert re.search(
        r"1e-03 of its largest .*: 2 of 6; the rank is exact: the largest one cut", out
    )
    assert "encode" not in out
    assert "changes" not in out


def test_the_change_of_the_error_is_stated_if_the_rank_is_not_exact(lorae, finished):
    status, out, _ = lorae("fold", finished, "--threshold", "0.9", "--seconds", "0.01")
    assert status == 0
    assert "the rank is not exact" in out
    (rise,) = re.findall(r"the test error changes by (\S+) %", out)
    _, answer, _ = lorae("fold", finished, "--threshold", "0.9", "--seconds", "0", "--json")
    found = json.loads(answer)
    assert not found["rank"]["exact"]
    assert found["rise_of_error"] == pytest.approx(
        found["folded"]["error"] / found["whole"]["error"] - 1
    )
    assert float(rise) == pytest.approx(100 * found["rise_of_error"], rel=0.1)
    assert re.search(r"^encode 1,000 +\S+ ms +\S+ ms +\d+\.\d{3}$", out, re.MULTILINE)
    assert re.search(r"^times: medians of interleaved calls", out, re.MULTILINE)


@pytest.mark.slow
def test_export_to_onnx_is_checked_in_onnxruntime(lorae, exact):
    import onnxruntime

    status, out, err = lorae("export", exact, "--to", "onnx", "--folded", "--json")
    assert (status, err) == (0, "")
    answer = json.loads(out)
    assert answer["folder"] == str(exact / "onnx")
    assert answer["latent"] == 2
    assert set(answer["bytes"]) == {"encoder.onnx", "decoder.onnx"}
    assert max(answer["largest_difference"].values()) < 1e-4
    session = onnxruntime.InferenceSession(exact / "onnx" / "encoder.onnx")
    x = load(Options(data="digits")).test[:5].float() / 255
    (codes,) = session.run(None, {"samples": x.numpy()})
    expected = Run(exact).model().cut().encode(x).detach()
    torch.testing.assert_close(torch.from_numpy(codes), expected, rtol=1e-4, atol=1e-5)


def test_export_to_torch(lorae, finished):
    status, out, err = lorae("export", finished, "--to", "torch", "--out", "programs")
    assert (status, err) == (0, "")
    assert re.search(r"^programs: codes of 6 dimensions$", out, re.MULTILINE)
    pattern = r"^  encoder\.pt2 +[\d,]+ bytes  differs from the model by at most \S+$"
    assert re.search(pattern, out, re.MULTILINE)
    encode = torch.export.load("programs/encoder.pt2").module()
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(encode(x), Run(finished).model().encode(x), rtol=1e-4, atol=1e-5)


def card_of(folder):
    """Return the header of a model card, by the hub's own parser, and its text."""
    from huggingface_hub import ModelCard

    card = ModelCard.load(folder / "README.md")
    return card.data.to_dict(), card.text


def test_export_to_the_hub_writes_a_repository(lorae, finished):
    lorae("evaluate", finished, "--only", "dimension", "--samples", "40", "--repeats", "2")
    status, _, err = lorae("export", finished, "--to", "hub", "--license", "mit")
    assert (status, err) == (0, "")
    folder = finished / "hub"
    names = {"README.md", "config.json", "model.safetensors", "pictures.png"}
    assert set(content(folder)) == {str(folder / name) for name in names}
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(package.load(folder)(x), Run(finished).model()(x))
    run, (header, text) = Run(finished), card_of(folder)
    test = run.last["test"]
    assert header["library_name"] == "lorae"
    assert header["license"] == "mit"
    assert "lorae" in header["tags"]
    (result,) = header["model-index"][0]["results"]
    assert result["dataset"]["name"] == "digits"
    assert result["metrics"][0]["value"] == test["reconstruction"]
    assert f"**{test['reconstruction']:.6f}**" in text
    profile = spectral.rank_profile(torch.tensor(test["covariance"], dtype=torch.float64))
    ranks = " | ".join(map(str, profile.values()))
    assert f"| covariance of the test codes | {ranks} |" in text
    assert "| rank at | 1e-01 | 1e-02 | 1e-03 | 1e-04 | 1e-05 | 1e-06 |" in text
    assert re.search(r"^\| dimension \| TwoNN \| .* \| \d", text, re.MULTILINE), text
    assert "| `learning_rate` | `0.001` |" in text
    assert run.about["data"]["checksum"][:16] in text
    assert "mazumder2024lorae" in text
    assert "Licence of this model: mit." in text
    with Image.open(folder / "pictures.png") as picture:
        assert picture.width == 8 * 8 + 7


@pytest.mark.parametrize("folded", [False, True])
def test_the_example_of_a_card_runs(lorae, exact, folded):
    lorae("export", exact, "--to", "hub", "--out", "hub", *(["--folded"] if folded else []))
    _, text = card_of(Path("hub"))
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    found: dict = {}
    exec(code.replace("OWNER/NAME", "hub"), found)
    assert found["z"].shape == (5, 2 if folded else 6)
    assert found["x"].shape == (5, 1, 8, 8)
    assert ("The rank is exact" in text or "; the rank is exact" in text) == folded
    assert "has stated no licence" in text


def test_a_card_of_a_gan_shows_samples(lorae):
    lorae("train", "--out", "gan", *flags(dataclasses.replace(SMALL, model="gan")))
    assert lorae("export", "gan", "--to", "hub")[0] == 0
    header, text = card_of(Path("gan/hub"))
    assert "model-index" not in header
    assert "it has no reconstruction error" in text
    assert "![Samples](pictures.png)" in text


def test_names_reach_a_card_as_text_and_paths_do_not(lorae, tmp_path):
    values = np.random.default_rng(0).normal(size=(200, 3))
    pl.DataFrame(values, schema=["a", "b", "c"]).write_csv("a|b_<i>`.csv")
    lorae("train", "--data", "a|b_<i>`.csv", "--steps", "5", "--latent", "2", "--out", "table")
    assert lorae("export", "table", "--to", "hub")[0] == 0
    for name, one in content(Path("table/hub")).items():
        assert str(tmp_path).encode() not in one, name
    header, text = card_of(Path("table/hub"))
    assert header["model-index"][0]["results"][0]["dataset"]["name"] == "a|b_<i>`"
    assert r"| `data` | <code>a\|b\_&lt;i&gt;\`</code> |" in text
    assert r"on a\|b\_&lt;i&gt;\`" in text.strip().splitlines()[0]
    assert "<i>" not in Path("table/hub/README.md").read_text(encoding="utf-8")
    assert not re.search(r"<(?!/?code>)", text)


def test_a_card_is_written_without_the_data(lorae, exact, monkeypatch):
    def gone(self):
        raise InputError("the data are gone")

    monkeypatch.setattr(Options, "load", gone)
    status, _, err = lorae("export", exact, "--to", "hub", "--folded")
    assert status == 0
    assert "lacks the picture and the error of the folded model: the data are gone" in err
    header, text = card_of(exact / "hub")
    assert "model-index" not in header
    assert "after cutting was not measured" in text
    assert not (exact / "hub" / "pictures.png").exists()


def test_a_model_is_pushed_and_loaded_again(lorae, finished, hub):
    arguments = ["--to", "hub", "--out", "there", "--push", "someone/digits", "--private"]
    status, out, err = lorae("export", finished, *arguments)
    assert status == 0, err
    assert f"uploaded to {hub.address}/someone/digits" in out
    assert hub.private == {"someone/digits": True}
    assert (
        'lorae.load("someone/digits")' in hub.repositories["someone/digits"]["README.md"].decode()
    )
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(package.load("someone/digits")(x), Run(finished).model()(x))


def test_a_repository_that_the_hub_refuses_stays_here(lorae, finished, hub):
    hub.refuses = 403
    arguments = ["--to", "hub", "--out", "there", "--push", "someone/digits"]
    status, _, err = lorae("export", finished, *arguments)
    assert status == 2
    assert re.fullmatch(r"lorae: uploading 'there' to 'someone/digits' failed [^\n]+\n", err)
    package.load("there")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("no space")])
@pytest.mark.parametrize("target", ["hub", "torch"])
def test_an_export_that_fails_leaves_nothing(lorae, finished, monkeypatch, error, target):
    def fails(*_, **__):
        raise error

    before = content(Path())
    monkeypatch.setattr(model_card, "render_card", fails)
    monkeypatch.setattr(programs, "_largest_difference", fails)
    assert lorae("export", finished, "--to", target)[0] in (2, 130)
    assert content(Path()) == before
    assert not (finished / target).exists()


BAD = {
    "export-to": (
        ["export", "RUN", "--to", "onx"],
        r"unknown target .*'onx' \(did you mean 'onnx'",
    ),
    "export-run": (["export", "nowhere", "--to", "hub"], "there is no run at 'nowhere'"),
    "export-full": (["export", "RUN", "--to", "hub", "--out", "full"], "must be a new or empty"),
    "export-file": (["export", "RUN", "--to", "hub", "--out", "full/mine"], "new or empty"),
    "export-half": (["export", "HALF", "--to", "torch"], "has no model yet"),
    "export-none": (["export", "AE", "--to", "hub", "--folded"], "a bridge that learns a matrix"),
    "export-name": (["export", "RUN", "--to", "hub", "--push", "a b/c"], "OWNER/NAME.* 'a b/c'"),
    "export-push": (["export", "RUN", "--to", "torch", "--push", "a/b"], "--push needs --to hub"),
    "export-private": (["export", "RUN", "--to", "hub", "--private"], "--private needs --push"),
    "export-license": (["export", "RUN", "--to", "onnx", "--license", "mit"], "--license needs"),
    "fold-none": (["fold", "AE"], "a bridge that learns a matrix to be cut"),
    "fold-threshold": (["fold", "RUN", "--threshold", "2"], "threshold must be .*got 2"),
    "fold-out": (["fold", "RUN", "--out", "done/config.json"], "file that a run consists of"),
    "fold-run": (["fold", "nowhere"], "there is no run at 'nowhere'"),
}


@pytest.mark.parametrize("case", BAD)
def test_refusals(case, lorae, finished, stopped, plain):
    assert_refused_without_loss(lorae, *BAD[case], {"RUN": finished, "HALF": stopped, "AE": plain})
