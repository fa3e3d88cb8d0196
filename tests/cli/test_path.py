"""lorae path."""

import base64
import io
import json
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from launcher import needs_fork, start
from PIL import Image
from refusals import assert_refused

from lorae import LowRankAutoencoder
from lorae import data as lorae_data
from lorae.nn.serialization import load
from lorae.utils.records import unseal
from lorae.utils.samples import as_float, subsample

pytest_plugins = ["commands"]
SMALL = ("path", "--data", "digits", "--ranks", 4, "--steps", 20, "--width", 0.1, "--out", "kept")


def table():
    """Return three dimensions in eight, a flat and a bent part of them."""
    generator = np.random.default_rng(0)
    t = generator.normal(size=(400, 3)) @ generator.normal(size=(3, 8))
    return (t + 0.01 * np.tanh(t)).astype("float32")


def test_path_saves_every_model(lorae, tmp_path):
    np.save("table.npy", table())
    asked = ("path", "--data", "table.npy", "--ranks", 4, 3, 1, "--steps", 40, "--out", "kept")
    status, out, _ = lorae(*asked)
    assert status == 0
    assert "<- knee" in out
    assert "of PCA" in out
    assert load("kept/rank-003.safetensors").encode(torch.zeros(1, 8)).shape == (1, 3)
    about = json.loads((tmp_path / "kept" / "path.json").read_text())
    assert [point["rank"] for point in about["points"]] == [4, 3, 1]
    assert (tmp_path / "kept" / "path.svg").read_text().startswith("<?xml")
    status, _, err = lorae(*asked)
    assert status == 2
    assert "out must be a new or empty folder" in err
    status, _, err = lorae("path", "--data", "table.npy", "--features", "classifier")
    assert (status, err.count("\n")) == (2, 1)


def test_the_plot_of_a_path_shows_test_samples_at_each_rank(lorae, tmp_path):
    status, out, _ = lorae(*SMALL[:3], "--ranks", 4, 2, *SMALL[5:])
    assert status == 0
    assert "next: lorae explore kept" in out
    svg = (tmp_path / "kept" / "path.svg").read_text()
    ticks = re.findall(r"<text [^>]*>(data|2|4)</text>", svg)
    assert ticks[-3:] == ["data", "2", "4"]
    (png,) = re.findall(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)", svg)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("L"))
    data = lorae_data.load("digits")
    shown = as_float(subsample(data.test, 3, 0))
    columns = [shown, *(load(f"kept/rank-00{rank}.safetensors")(shown) for rank in (2, 4))]
    for row in range(3):
        for column, images in enumerate(columns):
            cell = picture[9 * row : 9 * row + 8, 9 * column : 9 * column + 8]
            expected = images[row, 0].detach().clamp(0, 1) * 255
            assert np.abs(cell - expected.numpy()).max() <= 2  # the range and 256 levels of gray


def test_a_path_is_explored_at_its_knee(lorae, tmp_path):
    lorae(*SMALL[:3], "--ranks", 4, 2, *SMALL[5:])
    about = json.loads((tmp_path / "kept" / "path.json").read_text())
    assert lorae("explore", "kept")[0] == 0
    page = (tmp_path / "kept" / "explorer.html").read_text()
    best = about["knee"] or min(about["points"], key=lambda point: point["error"])["rank"]
    assert f"digits at rank {best}" in page
    assert '"kind": "image"' in page
    for point in about["points"]:
        assert f"rank {point['rank']}: {point['error']:.3g}" in page
    refused = lorae("explore", "kept", "--density", "gaussian")
    assert_refused(refused, "density must be left out for a path")
    (tmp_path / "kept" / "path.json").unlink()
    assert_refused(lorae("explore", "kept"), "has not ended")


def test_path_measures_generation(lorae):
    asked = ("path", "--data", "digits", "--ranks", 4, "--steps", 20, "--width", 0.2, "--json")
    status, out, _ = lorae(*asked, "--features", "classifier", "--samples", 50)
    assert status == 0
    assert all(point["distance"] > 0 for point in json.loads(out)["points"])


def test_path_of_several_seeds_saves_the_models_of_each(lorae):
    status, out, _ = lorae(*SMALL, "--seeds", 0, 1, "--processes", 1, "--json")
    assert status == 0
    assert json.loads(out)["folder"] == "kept"
    for seed in (0, 1):
        assert load(f"kept/seed-{seed}/rank-004.safetensors").bridge.latent == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", 0, 1, "--features", "classifier"], "give seeds or features, not both"),
        (["--processes", 0], "processes must be .*got 0"),
        (["--data", "mnits"], "unknown data set 'mnits'"),
    ],
)
def test_refusals(arguments, message, lorae):
    assert_refused(lorae("path", *arguments), message)


def files(folder):
    """Models and figures of a path, without times."""
    found = {}
    for path in sorted(folder.rglob("rank-*")):
        if path.suffix == ".json":
            record = json.loads(path.read_text())
            found[path.name] = {k: v for k, v in record.items() if k not in ("seconds", "checksum")}
        else:
            found[path.name] = path.read_bytes()
    return found


@needs_fork
@pytest.mark.parametrize("stop", range(8))
def test_a_path_that_is_killed_at_any_write_goes_on(tmp_path, stop):
    """The process is killed before or after it renames a file: the options, two models and two
    records, the plot and the summary."""
    np.save(tmp_path / "table.npy", table()[:60])
    arguments = ["path", "--data", "table.npy", "--ranks", "2", "1", "--steps", "5"]
    code = f"""
import os, signal, sys
from pathlib import Path
from lorae.utils import files
from lorae.cli import main

writes, write = [], files._write

def dying(path, content, rename):
    writes.append(path)
    if len(writes) == {stop // 2 + 1} and {stop % 2} == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, content, rename)
    if len(writes) == {stop // 2 + 1}:
        os.kill(os.getpid(), signal.SIGKILL)

files._write = dying
main({[*arguments, "--out", "killed"]!r})
"""
    process = start(code=code, folder=tmp_path)
    assert process.wait() == -signal.SIGKILL, process.err
    whole = start(*arguments, "--out", "whole", folder=tmp_path)
    assert whole.wait() == 0, whole.err
    if (tmp_path / "killed" / ".path.json").exists():
        again = start("path", "--resume", "killed", folder=tmp_path)
    else:
        again = start(*arguments, "--out", "killed", folder=tmp_path)
    assert again.wait() == 0, again.err
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert len(files(tmp_path / "killed")) == 4


def test_what_a_path_has_finished_is_not_trained_again(lorae, monkeypatch):
    arguments = [*SMALL, "--seeds", 0, 1, "--processes", 1]
    assert lorae(*arguments)[0] == 0
    Path("kept/seed-1/rank-004.json").unlink()
    fits, fit = [], LowRankAutoencoder.fit
    monkeypatch.setattr(
        LowRankAutoencoder, "fit", lambda self, X: fits.append(self.random_state) or fit(self, X)
    )
    status, _, err = lorae("path", "--resume", "kept", "--processes", 1)
    assert (status, err) == (0, "")
    assert fits == [1]


def test_a_path_is_resumed_only_as_it_was_started(lorae):
    assert lorae(*SMALL)[0] == 0
    assert_refused(lorae("path", "--resume", "nowhere"), "there is no path at 'nowhere'")
    refused = lorae("path", "--resume", "kept", "--steps", 5)
    assert_refused(refused, "with its own options: do not give steps")
    record = Path("kept/rank-004.json")
    record.write_text(record.read_text().replace('"rank": 4', '"rank": 5'))
    assert_refused(lorae("path", "--resume", "kept"), "checksum is wrong")
    record.unlink()
    assert lorae("path", "--resume", "kept")[0] == 0
    Path("kept/rank-004.safetensors").write_bytes(b"")
    assert_refused(lorae("path", "--resume", "kept"), "cut short or not a safetensors file")
    summary = Path("kept/path.json")
    assert unseal(json.loads(summary.read_text()), "path.json", dict[str, Any])["seed"] == 0
