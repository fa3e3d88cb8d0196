"""Damaged files of every kind that lorae reads, and strange options: an answer, or one sentence.

Every case is a function of its number, so a failure is repeated by its name.
"""

import io
import json
import random
import re
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from small import SMALL

import lorae as package
from lorae import data
from lorae.cli.parsing import option_types
from lorae.cli.train import Train
from lorae.errors import InputError
from lorae.training.run_folder import Run
from lorae.training.train import train
from lorae.utils.records import read_record, write_record
from lorae.utils.tensor_files import load_tensors

pytest_plugins = ["commands"]

CASES = 40  # of options
DAMAGED = 60  # of each file
STRANGE = ("-1", "0", "1", "nan", "inf", "1e300", "-1e-300", "", "x", "None", "\u00fc", "2.5",
           "99999999999999999999", "[]", "a b", "--", "/", "yes", "cpu", "digits")  # fmt: skip
RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(20, 3))
PIXELS = RNG.integers(0, 256, (12, 8, 9, 3), dtype=np.uint8)


def damaged(content, chance):
    """Return bytes that are cut, or have flipped bits, or a part swapped, repeated or replaced."""
    a, b = sorted(chance.choices(range(len(content) + 1), k=2))
    b = min(b, a + 40)
    kind = chance.choice(["cut", "flip", "flip", "swap", "repeat", "replace"])
    if kind == "cut":
        return content[:a]
    if kind == "flip":
        changed = bytearray(content)
        for _ in range(chance.randrange(1, 6)):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        return bytes(changed)
    middle = {"swap": content[a:b][::-1], "repeat": 2 * content[a:b]}
    return content[:a] + middle.get(kind, chance.randbytes(b - a)) + content[b:]


def image_bytes(kind, k=0):
    content = io.BytesIO()
    pixels = PIXELS[k]
    Image.fromarray(pixels).save(content, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return content.getvalue()


def array_bytes(array, save=np.save):
    content = io.BytesIO()
    save(content, array)
    return content.getvalue()


def table_bytes(name):
    content = io.BytesIO()
    getattr(pl.DataFrame(TABLE, schema=["a", "b", "c"]), name)(content)
    return content.getvalue()


def zip_bytes():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for k in range(4):
            archive.writestr(f"{'ab'[k % 2]}/{k}.png", image_bytes("PNG", k))
    return content.getvalue()


FILES = {
    "t.csv": lambda: table_bytes("write_csv"),
    "t.parquet": lambda: table_bytes("write_parquet"),
    "images.npy": lambda: array_bytes(PIXELS),
    "rows.npy": lambda: array_bytes(TABLE.astype(np.float16)),
    "a.npz": lambda: array_bytes(PIXELS, np.savez_compressed),
    "images.zip": zip_bytes,
    **{f"images/2.{kind.lower()}": lambda kind=kind: image_bytes(kind)
       for kind in ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM")},
}  # fmt: skip
CHECKED = ("a.npz", "images.zip", "images/2.png")
"""Formats with checksums, of which no other pixel may be read."""


@pytest.mark.parametrize("name", FILES)
def test_damaged_data_are_read_or_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LORAE_DATA", str(tmp_path / "cache"))
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    whole = FILES[name]()
    for k in (0, 1, 3) if name.startswith("images/") else ():
        Path("images", f"{k}{path.suffix}").write_bytes(image_bytes(path.suffix[1:].upper(), k))
    source = path.parent if name.startswith("images/") else path
    path.write_bytes(whole)
    expected, refused = data.load(source).checksum, 0
    for case in range(DAMAGED):
        path.write_bytes(damaged(whole, random.Random(case)))
        try:
            found = data.load(source).checksum
        except InputError as error:
            assert re.fullmatch(r"[^\n]+", str(error)), (case, error)  # noqa: PT017
            refused += 1
        else:
            assert found == expected or name not in CHECKED, case
    assert refused > (0 if name in ("t.csv", "images/2.bmp", "images/2.ppm") else DAMAGED // 10)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a run, a saved estimator and the record of a path."""
    folder = tmp_path_factory.mktemp("saved")
    train(SMALL, folder / "run", show=False)
    reducer = package.LowRankAutoencoder(n_components=2, steps=5, random_state=0)
    reducer.fit(TABLE).save(folder / "estimator.safetensors")
    write_record(folder / "path.json", {"seed": 0, "points": [{"rank": 2, "error": 0.5}]})
    return folder


@torch.no_grad()
def outputs(path):
    return package.load(path)(torch.ones(1, 1, 8, 8)).tolist()


READERS = {
    "run/model.safetensors": outputs,
    "run/config.json": lambda path: Run.open(path.parent).about,
    "run/metrics.jsonl": lambda path: [(run := Run(path.parent)).last, run.metrics()],
    "run/checkpoint/last.safetensors": lambda path: {
        name: x.tolist() for name, x in load_tensors(path)[0].items()
    },
    "path.json": lambda path: read_record(path, dict),
    "estimator.safetensors": lambda path: (
        package.LowRankAutoencoder.load(path).transform(TABLE).tolist()
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_damaged_results_are_refused_or_change_nothing(name, saved):
    path, read = saved / name, READERS[name]
    whole = path.read_bytes()
    expected = json.dumps(read(path))
    try:
        for case in range(DAMAGED):
            path.write_bytes(damaged(whole, random.Random(case)))
            try:
                assert json.dumps(read(path)) == expected, case
            except InputError as error:
                assert re.fullmatch(r"[^\n]+", str(error)), (case, error)  # noqa: PT017
    finally:
        path.write_bytes(whole)


def check(answer):
    """Check that a command has answered, or has refused in one sentence and made no folder."""
    status, out, err = answer
    assert status in (0, 2), err
    assert "Traceback" not in err
    if status == 2:
        assert out == ""
        assert re.fullmatch(r"lorae: [^\n]+\n", err.splitlines(keepends=True)[-1]), err
    assert not Path("runs").exists()


@pytest.mark.parametrize("case", range(CASES))
def test_strange_options_are_taken_or_refused(case, lorae):
    chance = random.Random(case)
    np.save("data.npy", TABLE)
    names = sorted({name for name, _ in option_types(Train)} - {"dry-run", "out"})
    asked = [
        word
        for name in chance.sample(names, chance.randrange(1, 4))
        for word in (f"--{name}", *chance.choices(STRANGE, k=chance.randrange(3)))
    ]
    check(lorae("train", "--data", "data.npy", *asked, "--dry-run"))
