"""CelebA in its official layout, with generated faces: crop, split, warnings, errors."""

import logging
import zipfile
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from lorae import data
from lorae.data import celeba
from lorae.errors import InputError
from lorae.training.options import Options

SPLIT = {f"{k:06}.jpg": part for k, part in enumerate("0002201", 1)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LORAE_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv("LORAE_CELEBA", raising=False)
    return tmp_path / "cache"


def face(seed):
    """Return a JPEG of 178 x 218, smooth so that its loss is small."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 6, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((178, 218), Image.Resampling.BICUBIC)
    held = BytesIO()
    image.save(held, "JPEG", quality=95)
    return held.getvalue()


def make(folder, *, zipped, names=tuple(SPLIT)):
    """Write images and a partition; those of names that are not in the partition are strays."""
    folder.mkdir(parents=True)
    lines = [f"{name} {part}\n" for name, part in SPLIT.items()]
    (folder / "list_eval_partition.txt").write_text("".join(lines))
    faces = {name: face(seed) for seed, name in enumerate(names)}
    if zipped:
        with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
            for name, content in faces.items():
                archive.writestr(f"img_align_celeba/{name}", content)
    else:
        (folder / "img_align_celeba").mkdir()
        for name, content in faces.items():
            (folder / "img_align_celeba" / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("zipped", [True, False])
def test_official_layout_with_its_split(tmp_path, zipped):
    folder = make(tmp_path / "faces", zipped=zipped)
    loaded = data.load(folder)
    assert (loaded.name, loaded.network, loaded.value_range) == ("celeba", "celeba", (0.0, 1.0))
    assert loaded.train.shape == (4, 3, 64, 64)
    assert loaded.test.shape == (2, 3, 64, 64)
    assert loaded.train_labels is None
    resolved = Options(data=str(folder), batch_size=2, steps=1).resolve(loaded)
    assert (resolved.network, resolved.latent, resolved.learning_rate) == ("celeba", 128, 1e-4)


def test_centre_is_cropped_and_resized_as_torch_does(tmp_path):
    loaded = data.load(make(tmp_path / "faces", zipped=True))
    for k, image in enumerate(loaded.train[:3]):
        pixels = np.asarray(Image.open(BytesIO(face(k))))[35:183, 15:163]
        whole = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
        expected = interpolate(whole, (64, 64), mode="bilinear", antialias=True)[0]
        # Pillow rounds between its two passes
        torch.testing.assert_close(image.float(), expected, atol=1.01, rtol=0)


def test_zip_equals_folder(tmp_path):
    first = celeba.load(make(tmp_path / "a", zipped=False))
    assert np.array_equal(first.train, celeba.load(make(tmp_path / "b", zipped=True)).train)
    assert isinstance(first.train, np.memmap)


def test_another_partition_is_another_set(tmp_path):
    folder = make(tmp_path / "faces", zipped=True)
    first = celeba.load(folder)
    listed = folder / "list_eval_partition.txt"
    listed.write_text(listed.read_text().replace("000001.jpg 0", "000001.jpg 2"))
    second = celeba.load(folder)
    assert len(second.train) == 3
    assert np.array_equal(second.test[0], first.train[0])


def test_a_part_of_the_set_is_enough(tmp_path, caplog):
    some = ("000006.jpg", "000004.jpg", "000001.jpg", "stray.jpg")
    with caplog.at_level(logging.WARNING):
        loaded = celeba.load(make(tmp_path / "faces", zipped=True, names=some))
    assert (len(loaded.train), len(loaded.test)) == (2, 1)
    assert "lacks 4 of the 7 images in list_eval_partition.txt" in caplog.text
    assert "ignored 1 files" in caplog.text
    whole = celeba.load(make(tmp_path / "whole", zipped=True))
    assert len(whole.train) == 4
    assert len(caplog.records) == 2  # no warning for the whole set


def test_subfolders_of_the_download(tmp_path):
    folder = make(tmp_path / "faces", zipped=True)
    for name, below in (("img_align_celeba.zip", "Img"), ("list_eval_partition.txt", "Eval")):
        (folder / below).mkdir()
        (folder / name).rename(folder / below / name)
    assert data.load(folder).network == "celeba"


def test_the_name_looks_in_the_cache_then_in_the_variable(tmp_path, own_cache, monkeypatch):
    assert not data.cached("celeba")
    with pytest.raises(InputError, match="put both in") as refused:
        data.load("celeba")
    message = str(refused.value)
    assert "\n" not in message
    assert str(own_cache / "celeba") in message
    assert "img_align_celeba.zip and list_eval_partition.txt" in message
    named = make(tmp_path / "elsewhere", zipped=True)
    monkeypatch.setenv("LORAE_CELEBA", str(named))
    assert data.cached("celeba")
    assert data.fetch("celeba") == named
    assert data.load("celeba").checksum == data.load(named).checksum
    cached = make(own_cache / "celeba", zipped=False)
    assert data.fetch("celeba") == cached
    assert data.load("celeba", count=2).train.shape == (2, 3, 64, 64)


def test_incomplete_sets_are_refused(tmp_path):
    folder = make(tmp_path / "a", zipped=True, names=("000001.jpg", "000007.jpg"))
    with pytest.raises(InputError, match="must hold images of CelebA's test part, got none"):
        data.load(folder)
    with pytest.raises(InputError, match="folder or zip of images for size and crop"):
        data.load(folder, size=32)
    folder = make(tmp_path / "b", zipped=True)
    (folder / "img_align_celeba.zip").unlink()
    with pytest.raises(InputError, match=r"must hold img_align_celeba/ or img_align_celeba\.zip"):
        data.load(folder)
    folder = make(tmp_path / "c", zipped=False)
    with (folder / "list_eval_partition.txt").open("a") as file:
        file.write("000008.jpg 3\n")
    with pytest.raises(InputError, match=r"line 8 of .*000008\.jpg 3"):
        data.load(folder)


def test_damaged_images_are_named_or_skipped(tmp_path):
    folder = make(tmp_path / "faces", zipped=False)
    (folder / "img_align_celeba" / "000002.jpg").write_bytes(face(1)[:500])
    with pytest.raises(InputError, match=r"1 of 6 files .*000002\.jpg"):
        data.load(folder)
    assert len(data.load(folder, skip_bad=True).train) == 3
