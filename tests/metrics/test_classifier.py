"""The classifier whose features stand in for Inception's: trained once, and cached."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from lorae.errors import InputError
from lorae.metrics import classifier
from lorae.metrics.classifier import fit_or_load_classifier


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images * 255 / 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    return torch.from_numpy(pixels), torch.from_numpy(labels)


class TestClassifier:
    def test_learns_and_is_cached(self, monkeypatch):
        images, labels = digits()
        found = fit_or_load_classifier(images[:1500], labels[:1500], steps=200)
        predicted = found.network(images[1500:] / 255).argmax(1)
        assert (predicted == labels[1500:]).double().mean() > 0.85
        values = found(images[:9])
        assert values.shape == (9, 64)
        assert found(images[:1000]).std(0).square().mean().sqrt().item() == pytest.approx(
            1, rel=0.1
        )
        monkeypatch.setattr(classifier, "_fit", lambda *_: pytest.fail("trained again"))
        again = fit_or_load_classifier(images[:1500], labels[:1500], steps=200)
        assert torch.equal(again(images[:9]), values)

    def test_does_not_disturb_the_global_generator(self):
        images, labels = digits()
        torch.manual_seed(4)
        expected = torch.rand(3)
        torch.manual_seed(4)
        fit_or_load_classifier(images[:200], labels[:200], steps=2)
        assert torch.equal(torch.rand(3), expected)

    def test_is_trained_again_if_the_cached_file_is_damaged(self):
        images, labels = digits()
        first = fit_or_load_classifier(images[:300], labels[:300], steps=3)(images[:2])
        (path,) = classifier.cache_folder().glob("classifier-*.safetensors")
        whole = path.read_bytes()
        path.write_bytes(whole[:-7])
        assert torch.equal(
            fit_or_load_classifier(images[:300], labels[:300], steps=3)(images[:2]), first
        )
        assert path.read_bytes() == whole

    @pytest.mark.parametrize(
        "labels", [torch.zeros(10, dtype=torch.long), torch.arange(9), torch.zeros(10, 2).long()]
    )
    def test_needs_classes(self, labels):
        with pytest.raises(InputError, match="labels must be one for each image, of two classes"):
            fit_or_load_classifier(torch.zeros(10, 1, 8, 8, dtype=torch.uint8), labels)

    @pytest.fixture(autouse=True)
    def own_cache(self, monkeypatch, tmp_path):
        monkeypatch.setenv("LORAE_DATA", str(tmp_path))
