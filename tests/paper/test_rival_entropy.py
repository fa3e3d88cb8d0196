"""The entropy of a classifier on interpolated images."""

import math

import pytest
import torch
from small import SMALL
from torch import nn

from lorae.paper.rival_entropy import entropy, interpolation_entropy
from lorae.training.train import train


def test_entropy_is_that_of_the_answers():
    """Of certain answers 0, of evenly distributed ones log 4, and the mean over images."""

    class Answers(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((1, 2, 3))[:, None] * torch.tensor([1e4, 0, 0, 0])

    images = torch.zeros(600, 1, 8, 8, dtype=torch.uint8)
    assert entropy(Answers(), images) == pytest.approx(math.log(4))
    images[:300] = 255
    assert entropy(Answers(), images) == pytest.approx(math.log(4) / 2)


def test_images_between_test_images_are_measured(tmp_path):
    run = train(SMALL, tmp_path / "run", show=False)
    found = interpolation_entropy(run, pairs=5, between=3)
    assert found["images"] == 15
    assert 0 <= found["floor"] <= math.log(10)
    assert 0 <= found["entropy"] <= math.log(10)
    assert found == interpolation_entropy(run, pairs=5, between=3)
