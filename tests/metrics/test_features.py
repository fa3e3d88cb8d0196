"""Images as bytes, and features that are cached by content."""

import numpy as np
import pytest
import torch

from lorae.errors import InputError
from lorae.metrics.features import Extractor, as_bytes, cached_features


def test_bytes_equal_those_of_a_png(tmp_path):
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


def test_features_are_cached_by_content():
    images = torch.randint(256, (20, 1, 3, 3), dtype=torch.uint8)
    extractor = Counting()
    first = cached_features(extractor, images)
    assert torch.equal(first, images.flatten(1).float())
    assert torch.equal(cached_features(extractor, images.clone()), first)
    assert extractor.seen == 20
    other = images.clone()
    other[3, 0, 1, 1] += 1
    assert not torch.equal(cached_features(extractor, other), first)
    assert extractor.seen == 40
    extractor.identity = "counting otherwise"
    cached_features(extractor, images)
    assert extractor.seen == 60


def test_images_that_are_not_finite_are_refused():
    """As bytes they would be black pixels."""
    images = torch.rand(2, 1, 4, 4)
    images[1, 0, 2, 2] = torch.nan
    with pytest.raises(InputError, match="images must be finite"):
        as_bytes(images)
