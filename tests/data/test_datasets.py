"""The data layer as a whole: named sets, scaling, splits, checksums, the cache folder."""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, kstest

from lorae import data
from lorae.data import cache, datasets, shapes
from lorae.data.tables import held_out
from lorae.errors import InputError
from lorae.utils.samples import as_float


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("LORAE_DATA", str(folder))
    return folder


def save(path: Path, array: object) -> Path:
    np.save(path, array)
    return path


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


# shapes


def test_seven_factors_are_uniform_and_independent() -> None:
    _, factors = shapes.generate(20_000, seed=3)
    kind = factors[:, 0]
    assert set(kind) == {0, 1}
    assert binomtest(int(kind.sum()), len(kind)).pvalue > 1e-4
    for k, (low, high) in enumerate(zip(shapes.LOW, shapes.HIGH, strict=True)):
        if k > 0:
            assert kstest(factors[:, k], "uniform", (low, high - low)).pvalue > 1e-4
    correlation = np.corrcoef(factors.T) - np.eye(7)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(factors))  # five standard errors


def test_factors_can_be_read_off_the_images() -> None:
    images, factors = shapes.generate(2_000, seed=1)
    visible = factors[:, 4:].max(axis=1) > 0.01
    images, factors = images[visible], factors[visible]
    kind, x, y, size = factors[:, :4].T
    mask = images.max(axis=1) > 0
    area = mask.sum(axis=(1, 2))
    centres = np.arange(32) + 0.5
    cx = (mask * centres).sum(axis=(1, 2)) / area
    cy = (mask * centres[:, None]).sum(axis=(1, 2)) / area
    assert np.abs(cx - x).max() < 0.51  # pixels are crisp: half a pixel is their resolution
    assert np.abs(cy - y).max() < 0.51
    width = mask.any(axis=1).sum(axis=1)
    assert np.abs(width - 2 * size).max() <= 1.5
    height = mask.any(axis=2).sum(axis=1)
    assert np.abs(height - 2 * size)[kind == 1].max() <= 1
    filled = area / (width * height)
    assert filled[kind == 1].min() == 1  # squares fill their box, circles pi/4 of it
    assert filled[kind == 0].max() < 1
    assert np.abs(area[kind == 0] / (np.pi * size[kind == 0] ** 2) - 1).mean() < 0.05
    colour = images.max(axis=(2, 3)) / 255
    assert np.abs(colour - factors[:, 4:]).max() <= 0.5 / 255 + 1e-9
    shades = images.reshape(*images.shape[:2], -1)
    assert all(len(np.unique(channel)) <= 2 for image in shades[:100] for channel in image)


def test_shapes_are_seeded_and_longer_draws_continue_shorter_ones() -> None:
    few, _ = shapes.generate(10, seed=5)
    many, _ = shapes.generate(5_000, seed=5)
    other, _ = shapes.generate(10, seed=6)
    assert np.array_equal(few, many[:10])
    assert not np.array_equal(few, other)
    split = shapes.load(10, 10, seed=5)
    assert not np.array_equal(split.train, split.test)


def test_shapes_as_data() -> None:
    default = data.load("shapes")
    assert default.train.shape == (50_000, 3, 32, 32)
    assert default.test.shape == (10_000, 3, 32, 32)
    few = data.load("shapes", count=50)
    assert (len(few.train), len(few.test)) == (50, 10)
    assert torch.equal(few.train, default.train[:50])
    assert few.network == "shapes"
    assert few.shape == (3, 32, 32)
    assert set(few.train_labels.tolist()) == {0, 1}  # type: ignore[union-attr]


# named sets


def test_digits_are_scaled_to_bytes_and_split_by_class() -> None:
    digits = data.load("digits")
    assert digits.shape == (1, 8, 8)
    assert digits.train.dtype == torch.uint8
    assert digits.train.max() == 255
    assert set(digits.train.unique().tolist()) == {round(k * 255 / 16) for k in range(17)}
    assert digits.train_labels is not None
    assert digits.test_labels is not None
    held = digits.test_labels.bincount() / (digits.train_labels.bincount() + 18)
    assert len(digits.test) == 180
    assert held.min() > 0.08  # every class gives about a tenth
    assert held.max() < 0.12
    assert (digits.value_range, digits.network) == ((0.0, 1.0), "conv")


@pytest.mark.parametrize("name", ["shapes", "digits"])
def test_loading_is_deterministic_and_seeded(name: str) -> None:
    first, again, other = (data.load(name, count=40, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.train, again.train)
    assert first.checksum == again.checksum != other.checksum
    assert not torch.equal(first.train, other.train)


def test_generated_sets_are_always_ready() -> None:
    assert data.cached("shapes")
    assert not data.cached("mnist")
    assert data.fetch("digits").is_dir()
    with pytest.raises(InputError, match="did you mean 'mnist'"):
        data.fetch("mnits")


# what is refused


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("shpaes", {}, "unknown data set 'shpaes'.*did you mean 'shapes'"),
        ("no/such/folder", {}, "no/such/folder does not exist"),
        ("missing.csv", {}, "missing.csv does not exist"),
        ("digits", {"test_fraction": 0.0}, "test_fraction is 0.0"),
        ("digits", {"test_fraction": 1.0}, "test_fraction is 1.0"),
        ("digits", {"count": 1}, "count is 1"),
        ("digits", {"seed": -1}, "seed is -1"),
        ("digits", {"size": 16}, "size and crop are for folders and zips of images, and digits"),
    ],
)
def test_bad_arguments_are_named(source: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        data.load(source, **options)  # type: ignore[arg-type]


# scaling


def test_vectors_are_standardised_by_the_training_samples_alone(tmp_path: Path) -> None:
    rows = noise(500, 3) * [1e-3, 1.0, 1e3] + [5.0, 0.0, -1e4]
    loaded = data.load(save(tmp_path / "rows.npy", rows), test_fraction=0.3)
    train = loaded.train.double()
    assert loaded.value_range is None
    assert loaded.network == "mlp"
    assert torch.allclose(loaded.shift, train.mean(0).float())
    assert torch.allclose(loaded.scale, train.std(0, correction=0).float())
    scaled = (as_float(loaded.train) - loaded.shift) / loaded.scale
    # the first column stands 5000 standard deviations from 0: float32 keeps 3 digits of it
    assert scaled.mean(0).abs().max() < 1e-3
    assert (scaled.std(0, correction=0) - 1).abs().max() < 1e-3

    held = rows.copy()
    _, test = held_out(500, 0.3, 0)
    held[test] = 1e6
    other = data.load(save(tmp_path / "held.npy", held), test_fraction=0.3)
    assert torch.equal(other.shift, loaded.shift)
    assert torch.equal(other.scale, loaded.scale)


@pytest.mark.parametrize(
    ("low", "high", "value_range", "shift", "scale"),
    [
        (0.0, 1.0, (0.0, 1.0), 0.0, 1.0),
        (0.2, 0.7, (0.0, 1.0), 0.0, 1.0),
        (-1.0, 1.0, (-1.0, 1.0), 0.0, 1.0),
        (-0.1, 0.9, (-1.0, 1.0), 0.0, 1.0),
        (0.0, 255.0, (0.0, 1.0), 0.0, 255.0),
        (-3.0, 5.0, (0.0, 1.0), -3.0, 8.0),
    ],
)
def test_float_images_are_mapped_by_their_range(
    tmp_path: Path,
    low: float,
    high: float,
    value_range: tuple[float, float],
    shift: float,
    scale: float,
) -> None:
    images = np.random.default_rng(0).uniform(low, high, (50, 8, 8))
    images[:, 0, 0], images[:, 7, 7] = low, high
    loaded = data.load(save(tmp_path / "images.npy", images))
    assert loaded.value_range == value_range
    assert loaded.shift.item() == pytest.approx(shift)
    assert loaded.scale.item() == pytest.approx(scale)
    scaled = (loaded.train - loaded.shift) / loaded.scale
    assert scaled.min() >= value_range[0] - 1e-6
    assert scaled.max() <= value_range[1] + 1e-6


def test_as_float() -> None:
    assert as_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == [
        0.0,
        pytest.approx(0.2),
        1.0,
    ]
    assert as_float(torch.ones(2, dtype=torch.float64)).dtype == torch.float32


def test_checksum_tells_a_byte_a_type_a_shape_and_a_label() -> None:
    a = np.zeros((4, 4), np.uint8)
    b = a.copy()
    b[3, 3] = 1
    labels = np.arange(4)
    variants = [
        {"train": a, "test": a},
        {"train": b, "test": a},
        {"train": a, "test": b},
        {"train": a.view(np.int8), "test": a},
        {"train": a.reshape(2, 8), "test": a},
        {"train": a, "test": a, "train_labels": labels},
        {"train": a, "test": a, "train_labels": labels + 1},
    ]
    assert len({cache.checksum(variant) for variant in variants}) == len(variants)
    assert cache.checksum({"test": a, "train": b}) == cache.checksum({"train": b, "test": a})


# splits


@pytest.mark.parametrize(("n", "fraction", "count"), [(2, 0.01, 1), (2, 0.99, 1), (100, 0.1, 10)])
def test_held_out_rows_are_a_partition(n: int, fraction: float, count: int) -> None:
    train, test = held_out(n, fraction, seed=0)
    assert sorted([*train, *test]) == list(range(n))
    assert len(test) == count


def test_held_out_rows_are_uniform() -> None:
    hits = np.zeros(20)
    for seed in range(2000):
        hits[held_out(20, 0.25, seed)[1]] += 1
    deviation = np.sqrt(2000 * 0.25 * 0.75)
    assert np.abs(hits - 500).max() < 4.5 * deviation


# the cache


def test_cache_folder_is_the_variable_or_the_platforms(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cache.cache_folder() == own_cache
    monkeypatch.delenv("LORAE_DATA")
    monkeypatch.setattr(
        cache.platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path / "home")
    )
    assert cache.cache_folder() == tmp_path / "home"


def test_unwritable_cache_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LORAE_DATA", str(tmp_path / "file" / "inside"))
    with pytest.raises(InputError, match=r"cannot write .*; set LORAE_DATA"):
        cache.cache_folder()


def test_full_disk_is_one_sentence_and_leaves_nothing(own_cache: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "half.npy").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left on device"):
        cache.remember(own_cache / "entry", write)
    assert list(own_cache.iterdir()) == []


def test_interrupted_entry_leaves_nothing(own_cache: Path) -> None:
    def write(folder: Path) -> None:
        np.save(folder / "train.npy", np.zeros(3))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.remember(own_cache / "entry", write)
    assert list(own_cache.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "unsummed"])
def test_damaged_entries_are_absent(
    own_cache: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    entry = own_cache / "entry"
    kept = cache.remember(entry, lambda at: np.save(at / "train.npy", np.arange(100)))
    assert isinstance(kept["train"], np.memmap)
    file = entry / "train.npy"
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[:-8])
    elif damage == "flipped":
        content[-1] ^= 1
        file.write_bytes(content)
    else:
        (entry / "checksum").write_text("")
    assert cache.recall(entry) is None
    assert "made anew" in caplog.text
    cache.remember(entry, lambda at: np.save(at / "train.npy", np.arange(100)))
    again = cache.recall(entry)
    assert again is not None
    assert np.array_equal(again["train"], np.arange(100))


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="needs a sparse file")
def test_an_array_larger_than_memory_is_mapped(tmp_path: Path) -> None:
    """The system refuses to map so large a file for writing, even copy-on-write."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with Path("/proc/meminfo").open() as file:
        swap = next(int(line.split()[1]) for line in file if line.startswith("SwapTotal")) * 1024
    count = (memory + swap) // 4096 + 10_000
    with (tmp_path / "large.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, 1, 64, 64)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(range(256)) * 16)
        file.truncate(file.tell() + (count - 1) * 4096)
    array = cache.mapped(tmp_path / "large.npy")
    assert isinstance(array, np.memmap)
    found = datasets._as_tensor(array)
    assert found.shape == (count, 1, 64, 64)
    assert found[0].sum() == 16 * sum(range(256))
    assert found[-1].sum() == 0


def test_of_several_processes_one_makes_an_entry(own_cache: Path) -> None:
    made = []

    def write(folder: Path) -> None:
        made.append(folder)
        time.sleep(0.2)
        np.save(folder / "train.npy", np.arange(9))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: cache.kept(own_cache / "sets" / "entry", write), range(4)))
    assert len(made) == 1
    assert all(np.array_equal(one["train"], np.arange(9)) for one in found)
