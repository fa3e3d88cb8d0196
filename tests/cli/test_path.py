"""lorae path."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from launcher import needs_fork, start
from refusals import assert_refused

from lorae import LowRankAutoencoder
from lorae.nn.serialization import load
from lorae.utils.records import unseal

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
