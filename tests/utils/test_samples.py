"""Rows equal an index into the whole; subsamples depend on seed and length alone."""

import pytest
import torch

from lorae.utils.samples import Rows, as_float, subsample

WHOLE = torch.arange(60).view(10, 2, 3)


@pytest.mark.parametrize("sizes", [(10,), (4, 6), (1, 0, 9), (3, 3, 4)])
@pytest.mark.parametrize("index", [slice(0, 4), slice(3, None), torch.tensor([6, 0, 0])], ids=str)
def test_rows_of_parts_are_those_of_the_whole(sizes, index):
    order = torch.tensor([9, 0, 3, 4, 8, 1, 7])
    rows = Rows(*WHOLE.split(sizes), rows=order)
    assert len(rows) == 7
    assert torch.equal(rows[index], WHOLE[order][index])
    assert torch.equal(Rows(*WHOLE.split(sizes))[index], WHOLE[index])


def test_the_transform_is_applied_to_the_selected_rows_alone():
    seen = []
    rows = Rows(WHOLE, transform=lambda x: seen.append(len(x)) or -x)
    assert torch.equal(rows[2:5], -WHOLE[2:5])
    assert seen == [3]


@pytest.mark.parametrize("samples", [WHOLE, Rows(*WHOLE.split([4, 6]))], ids=["tensor", "rows"])
def test_a_subsample_is_seeded_and_without_repetition(samples):
    assert subsample(samples, 10) is samples
    assert len(subsample(samples, 0)) == 0
    some, again, other = (subsample(samples, 6, seed)[:] for seed in (0, 0, 1))
    assert torch.equal(some, again)
    assert not torch.equal(some, other)
    assert len({row.sum().item() for row in some}) == 6
    assert torch.equal(some, subsample(WHOLE, 6, 0))


def test_bytes_are_scaled_and_floats_are_not():
    found = as_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert found.tolist() == pytest.approx([0, 0.2, 1])
    x = torch.tensor([0.0, 51, 255])
    assert torch.equal(as_float(x), x)
    assert as_float(x.half()).dtype == torch.float32
    assert as_float(x.double()).dtype == torch.float64
