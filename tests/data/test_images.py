"""Folders and zips of images: decoding, splits, classes, damaged files."""

import os
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from lorae import data
from lorae.data import images
from lorae.data.options import ReadOptions
from lorae.data.splits import split_rows
from lorae.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LORAE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "photos"
    path.mkdir()
    return path


def pixels(height=9, width=11, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def draw(path, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed=seed, **options)).save(path)
    return path


def fill(folder, n=10, suffix="png", start=0, **options):
    for k in range(start, start + n):
        draw(folder / f"{k:03}.{suffix}", seed=k, **options)


def decoded(folder, **options):
    """Load a folder and return all its images in order of name, as N x C x H x W."""
    loaded = images.load(folder, ReadOptions(**options), test_fraction=0.5)
    n = len(loaded.train) + len(loaded.test)
    train, test = split_rows(n, 0.5, 0)
    together = np.empty((n, *loaded.train.shape[1:]), loaded.train.dtype)
    together[train], together[test] = loaded.train, loaded.test
    return together


def one(folder, image, suffix="png", **options):
    """Save the same image twice, since a set has two samples at least, and load the first."""
    for name in ("a", "b"):
        image.save(folder / f"{name}.{suffix}", **options)
    together = decoded(folder)
    assert np.array_equal(together[0], together[1])
    result: np.ndarray = together[0]
    return result


# decoding


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif", "webp", "jpg", "jpeg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_formats_decode_in_order(folder, suffix, channels):
    fill(folder, 4, suffix, channels=channels)
    together = decoded(folder)
    for k in range(4):
        with Image.open(folder / f"{k:03}.{suffix}") as image:
            gray = channels == 1 and suffix != "webp"  # which has no gray
            expected = np.asarray(image.convert("L" if gray else "RGB"))
        expected = expected[None] if gray else expected.transpose(2, 0, 1)
        assert np.array_equal(together[k], expected)


def test_one_coloured_image_makes_all_rgb(folder):
    fill(folder, 3, channels=1)
    assert data.load(folder).shape == (1, 9, 11)
    draw(folder / "z.png")
    together = decoded(folder)
    assert together.shape == (4, 3, 9, 11)
    assert (together[:3] == together[:3, :1]).all()


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_keep_every_level(folder, suffix):
    values = np.linspace(0, 65535, 100).reshape(10, 10).astype(np.uint16)
    assert np.array_equal(one(folder, Image.fromarray(values), suffix)[0], values)
    loaded = data.load(folder)
    assert loaded.train.dtype == torch.float32
    assert (loaded.shift.item(), loaded.scale.item(), loaded.value_range) == (0, 65535, (0, 1))


def test_bytes_beside_sixteen_bits_are_multiplied_by_257(folder):
    values = np.linspace(0, 65535, 99).reshape(9, 11).astype(np.uint16)
    Image.fromarray(values).save(folder / "a.png")
    draw(folder / "b.png", channels=1)
    together = decoded(folder)
    assert np.array_equal(together[0, 0], values)
    assert np.array_equal(together[1, 0], pixels(channels=1) * 257.0)


def test_floating_point_images_keep_their_values(folder):
    values = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    assert np.array_equal(one(folder, Image.fromarray(values), "tif")[0], values)
    draw(folder / "c.png", height=10, width=10, channels=1)
    with pytest.raises(InputError, match="must all be floating-point numbers or none"):
        data.load(folder)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_becomes_white(folder, mode):
    rgba = Image.new("RGBA", (8, 8), (0, 0, 0, 255))
    rgba.putpixel((2, 3), (0, 0, 0, 0))
    if mode == "P":
        image = Image.new("P", (8, 8), 0)
        image.putpalette([0, 0, 0, 255, 0, 0])
        image.putpixel((2, 3), 1)
        result = one(folder, image, transparency=1)
        assert len(result) == 3
    else:
        result = one(folder, rgba.convert(mode))
        assert len(result) == (3 if mode == "RGBA" else 1)
    assert (result[:, 3, 2] == 255).all()
    assert result.sum() == 255 * len(result)


def test_palettes_of_grays_are_gray(folder):
    image = Image.fromarray(pixels(channels=1) % 4).convert("P")
    image.putpalette([0, 0, 0, 50, 50, 50, 100, 100, 100, 200, 200, 200])
    result = one(folder, image)
    assert result.shape == (1, 9, 11)
    assert np.array_equal(result[0], np.array([0, 50, 100, 200])[pixels(channels=1) % 4])


def test_black_and_white_and_cmyk(folder):
    bits = pixels(channels=1) > 127
    assert np.array_equal(one(folder, Image.fromarray(bits))[0], bits * 255)
    for path in folder.iterdir():
        path.unlink()
    assert one(folder, Image.fromarray(pixels()).convert("CMYK"), "jpg").shape == (3, 9, 11)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_exif_orientation_is_honoured(folder, orientation, suffix):
    upright = np.zeros((16, 24), np.uint8)
    upright[:8, :8] = 255  # white in the upper left
    turns = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation]))
    result = one(folder, stored, suffix, exif=exif)
    assert result.shape == (1, 16, 24)
    assert np.abs(result[0].astype(int) - upright).max() < 40  # JPEG's loss


@pytest.mark.parametrize("suffix", ["gif", "tif", "png"])
def test_frames_and_pages_are_images(folder, suffix):
    for name, shades in (("cats/a", (60, 200)), ("dogs/b", (10, 90, 130))):
        frames = [Image.new("L", (8, 8), shade) for shade in shades]
        (folder / name).parent.mkdir()
        path = folder / f"{name}.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
    assert sorted(decoded(folder)[:, 0, 4, 4].tolist()) == [10, 60, 90, 130, 200]
    loaded = data.load(folder)
    assert "5 images in 2 files" in loaded.notes[0]
    assert len(loaded.train_labels) + len(loaded.test_labels) == 5


def test_size_crops_square_and_resizes(folder):
    for name in ("a", "b"):
        image = np.zeros((20, 60), np.uint8)
        image[:, 20:40] = 255  # the centred square is white
        Image.fromarray(image).save(folder / f"{name}.png")
    draw(folder / "c.png", channels=1, height=31, width=40)
    together = decoded(folder, size=10)
    assert together.shape == (3, 1, 10, 10)
    assert (together[:2] == 255).all()
    # antialiased: a resized noise image keeps its mean, and loses variance
    assert abs(together[2].mean() - 127.5) < 8
    assert together[2].std() < 45


def test_crop_is_centred_and_precedes_resizing(folder):
    fill(folder, 3, height=20, width=30)
    cropped = decoded(folder, crop=8)
    assert np.array_equal(cropped[1].transpose(1, 2, 0), pixels(20, 30, seed=1)[6:14, 11:19])
    assert decoded(folder, crop=16, size=8).shape == (3, 3, 8, 8)
    assert decoded(folder, size=32).shape == (3, 3, 32, 32)


# splits and classes


def test_split_is_seeded_and_complete(folder):
    fill(folder, 30)
    first, again, other = (data.load(folder, seed=seed, test_fraction=0.2) for seed in (0, 0, 1))
    assert (len(first.train), len(first.test)) == (24, 6)
    assert torch.equal(first.test, again.test)
    assert not torch.equal(first.test, other.test)
    both = {image.numpy().tobytes() for image in [*first.train, *first.test]}
    assert len(both) == 30
    assert first.train_labels is None
    assert (first.name, first.network, first.value_range) == ("photos", "conv", (0.0, 1.0))


def test_train_and_test_folders_are_the_split(folder, caplog):
    fill(folder / "train", 5)
    fill(folder / "test", 3, start=5)
    fill(folder / "val", 2, start=8)
    loaded = data.load(folder)
    assert (len(loaded.train), len(loaded.test)) == (5, 3)
    assert np.array_equal(loaded.test[0].permute(1, 2, 0).numpy(), pixels(seed=5))
    assert isinstance(images.load(folder, ReadOptions()).train, np.memmap)
    assert loaded.train_labels is None
    assert "ignored 2 files" in caplog.text


@pytest.mark.parametrize("names", [("Train", "VAL"), ("training", "Test"), ("TRAIN", "valid")])
def test_folders_of_a_split_in_any_case(folder, names):
    for name, count in zip(names, (4, 2), strict=True):
        fill(folder / name / "cat", count)
        fill(folder / name / "dog", count, start=20)
    loaded = data.load(folder)
    assert (len(loaded.train), len(loaded.test)) == (8, 4)
    assert loaded.train_labels.bincount().tolist() == [4, 4]
    assert loaded.test_labels.bincount().tolist() == [2, 2]


def test_links_to_folders_are_followed_once(folder, tmp_path):
    fill(tmp_path / "elsewhere", 4)
    fill(folder, 3, start=4)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    assert len(decoded(folder)) == 7


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_named_and_not_waited_for(folder):
    fill(folder, 3)
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(InputError, match=r"pipe\.png \(a pipe or a device, not a file\)"):
        data.load(folder)
    with pytest.raises(InputError, match=r"data must be a file or a folder, got .*, which is"):
        data.load((folder / "pipe.png").rename(folder / "pipe.csv"))


@pytest.mark.parametrize(("at", "value", "message"), [(6, 99, "later one"), (7, 8, "UTF-8 or ASC")])
def test_zips_of_other_versions_and_names(tmp_path, at, value, message):
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("\xe9.png" if at == 6 else "e.png", b"0")
    content = bytearray(path.read_bytes())
    start = content.rindex(b"PK\x01\x02")
    if at == 6:
        content[start + 6] = value
    else:  # says UTF-8, and is not
        content[start + 9] = value
        content[start + 46] = 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        data.load(path)


def test_formats_that_are_not_read_are_named(folder):
    fill(folder, 3)
    (folder / "a.heic").write_bytes(b"\0\0\0 ftypheic" + bytes(100))
    with pytest.raises(InputError, match=r"a\.heic \(\.heic is not supported\)"):
        data.load(folder)


@pytest.mark.parametrize("split", [False, True])
def test_class_folders_are_labels(folder, split):
    roots = [folder / "train", folder / "test"] if split else [folder / "wrapped"]
    for root in roots:
        fill(root / "dogs" / "deep", 10, start=10)
        fill(root / "cats", 20, start=30)
    loaded = data.load(folder)
    assert loaded.train_labels is not None
    assert loaded.test_labels is not None
    assert loaded.test_labels.bincount().tolist() == ([20, 10] if split else [2, 1])
    cats = {pixels(seed=k).tobytes() for k in range(30, 50)}
    for image, label in zip(loaded.train, loaded.train_labels, strict=True):
        assert (image.permute(1, 2, 0).numpy().tobytes() in cats) == (label == 0)


def test_an_image_outside_the_classes_means_no_labels(folder):
    fill(folder / "cats", 5)
    fill(folder / "dogs", 5, start=5)
    draw(folder / "stray.png", seed=99)
    assert data.load(folder).train_labels is None


@pytest.mark.parametrize("wrapper", ["", "photos/"])
def test_zip_equals_folder(folder, tmp_path, wrapper):
    fill(folder / "a", 8)
    fill(folder / "b", 8, start=8)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png"), reverse=True):
            archive.write(path, wrapper + path.relative_to(folder).as_posix())
        archive.writestr("__MACOSX/._a.png", "fork")
    first, second = data.load(folder), data.load(tmp_path / "photos.zip")
    assert first.checksum == second.checksum
    assert first.name == second.name
    assert second.train_labels is not None


def test_hidden_and_system_files_are_ignored(folder):
    fill(folder, 4)
    for name in (".DS_Store", "Thumbs.db", ".git/config", "__MACOSX/._000.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("clutter")
    assert len(decoded(folder)) == 4


# the cache


def test_images_are_decoded_once(folder, monkeypatch):
    fill(folder, 6)
    first = data.load(folder)
    with monkeypatch.context() as patch:
        patch.setattr(images, "_decode_all", lambda *_: pytest.fail("decoded again"))
        assert data.load(folder).checksum == first.checksum
        data.load(folder, seed=1)  # another split of the same pixels
        data.load(folder, test_fraction=0.5)
    draw(folder / "003.png", seed=77)
    assert data.load(folder).checksum != first.checksum


# errors


def test_bad_files_are_named_and_counted_or_skipped(folder, tmp_path, caplog):
    fill(folder, 10)
    good = data.load(folder)
    for suffix in ("png", "jpg"):
        whole = draw(folder / f"cut.{suffix}", height=64, width=64, seed=5)
        Image.open(whole).resize((11, 9)).save(whole)
        whole.write_bytes(whole.read_bytes()[:-60])
    (folder / "text.png").write_text("not an image")
    (folder / "empty.jpg").touch()
    (folder / "notes.txt").write_text("notes")
    (folder / "broken.png").symlink_to(folder / "nowhere.png")
    with pytest.raises(InputError, match=r"6 of 16 files") as refused:
        data.load(folder)
    assert "text.png (not an image)" in str(refused.value) or "more" in str(refused.value)
    assert "broken.png (No such file or directory)" in str(refused.value)
    assert "cut.png (" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "and 1 more; remove them, or skip them with skip_bad" in str(refused.value)
    assert not list((tmp_path / "cache" / "images").glob(".tmp*"))
    skipped = data.load(folder, skip_bad=True)
    assert skipped.checksum == good.checksum
    assert len([r for r in caplog.records if "skipped 6 files" in r.getMessage()]) == 1


def test_damaged_pixels_behind_a_good_header_are_skipped_too(folder):
    fill(folder / "a", 4, height=40, width=40)
    fill(folder / "b", 4, start=4, height=40, width=40)
    good = data.load(folder)
    cut = draw(folder / "b" / "cut.png", height=40, width=40)
    cut.write_bytes(cut.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"1 of 9 files .*: b/cut\.png \("):
        data.load(folder)
    assert data.load(folder, skip_bad=True).checksum == good.checksum


def test_differing_sizes_are_named_and_counted(folder):
    fill(folder, 3)
    fill(folder, 2, start=3, height=20, width=30)
    message = r"one size, got 2 as width x height \(how many\): 11x9 \(3\), 30x20 \(2\); set size"
    with pytest.raises(InputError, match=message):
        data.load(folder)
    assert data.load(folder, size=8).shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 3}, "size must be .*at least 4, got 3"),
        ({"crop": 0}, "crop must be .*at least 4, got 0"),
        ({"crop": 10}, "crop must be .*, got 10; 4 images of .* are smaller"),
    ],
)
def test_unfit_sides_are_refused(folder, options, message):
    fill(folder, 4)
    with pytest.raises(InputError, match=message):
        data.load(folder, **options)


def test_images_too_small_or_too_few_or_constant(folder):
    with pytest.raises(InputError, match="must hold images, got no files"):
        data.load(folder)
    draw(folder / "a.png")
    with pytest.raises(InputError, match="at least 2 samples, got 1"):
        data.load(folder)
    (folder / "a.png").unlink()
    fill(folder, 3, height=3, width=12)
    with pytest.raises(InputError, match="at least 4x4 pixels, got 12x3"):
        data.load(folder)
    for path in folder.iterdir():
        Image.new("L", (8, 8), 7).save(path)
    with pytest.raises(InputError, match="samples of photos must vary, got 7"):
        data.load(folder)


def test_folders_without_images(folder):
    (folder / "notes.txt").write_text("notes")
    for skip_bad in (False, True):
        with pytest.raises(InputError, match=r"must hold readable images, got none: notes.txt"):
            data.load(folder, skip_bad=skip_bad)
    fill(folder / "train", 3)
    (folder / "test").mkdir()
    shutil.move(folder / "notes.txt", folder / "test")
    with pytest.raises(InputError, match=r"photos/test must hold readable images, got none"):
        data.load(folder, skip_bad=True)


def test_damaged_zips_are_refused(folder, tmp_path):
    path = tmp_path / "photos.zip"
    path.write_text("no zip")
    with pytest.raises(InputError, match="cannot be read as a zip"):
        data.load(path)
    fill(folder, 3)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    content = bytearray(path.read_bytes())
    content[200] ^= 1  # a pixel of the first image
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"1 of 3 files .*000.png \(damaged\)"):
        data.load(path)
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(InputError, match="must hold images, got no files"):
        data.load(path)
