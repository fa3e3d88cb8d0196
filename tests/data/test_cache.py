"""Entries of the cache are whole or absent, and created by one process at a time."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lorae.data import cache
from lorae.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("LORAE_DATA", str(folder))
    return folder


def test_full_disk_is_one_sentence_and_leaves_nothing(own_cache):
    def write(folder):
        (folder / "half.npy").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left on device"):
        cache.create_entry(own_cache / "entry", write)
    assert list(own_cache.iterdir()) == []


def test_interrupted_entry_leaves_nothing(own_cache):
    def write(folder):
        np.save(folder / "train.npy", np.zeros(3))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.create_entry(own_cache / "entry", write)
    assert list(own_cache.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "unsummed"])
def test_damaged_entries_are_absent(own_cache, damage, caplog):
    entry = own_cache / "entry"
    arrays = cache.create_entry(entry, lambda at: np.save(at / "train.npy", np.arange(100)))
    assert isinstance(arrays["train"], np.memmap)
    file = entry / "train.npy"
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[:-8])
    elif damage == "flipped":
        content[-1] ^= 1
        file.write_bytes(content)
    else:
        (entry / "checksum").write_text("")
    assert cache.load_entry(entry) is None
    assert "will be created again" in caplog.text
    cache.create_entry(entry, lambda at: np.save(at / "train.npy", np.arange(100)))
    again = cache.load_entry(entry)
    assert again is not None
    assert np.array_equal(again["train"], np.arange(100))


def test_one_of_several_threads_creates_an_entry(own_cache):
    created = []

    def write(folder):
        created.append(folder)
        time.sleep(0.2)
        np.save(folder / "train.npy", np.arange(9))

    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda _: cache.load_or_create(own_cache / "sets" / "entry", write), range(4))
        )
    assert len(created) == 1
    assert all(np.array_equal(one["train"], np.arange(9)) for one in found)
