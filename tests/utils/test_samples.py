"""Rows are what indexing the whole would give, without the whole."""

import pytest
import torch

from lorae.utils.samples import Rows

WHOLE = torch.arange(60).view(10, 2, 3)


@pytest.mark.parametrize("sizes", [(10,), (4, 6), (1, 0, 9), (3, 3, 4)])
@pytest.mark.parametrize("index", [slice(0, 4), slice(3, None), torch.tensor([6, 0, 0])], ids=str)
def test_rows_of_parts_are_those_of_the_whole(sizes, index):
    order = torch.tensor([9, 0, 3, 4, 8, 1, 7])
    rows = Rows(*WHOLE.split(sizes), rows=order)
    assert len(rows) == 7
    assert torch.equal(rows[index], WHOLE[order][index])
    assert torch.equal(Rows(*WHOLE.split(sizes))[index], WHOLE[index])


def test_each_is_applied_to_what_is_selected():
    seen = []
    rows = Rows(WHOLE, each=lambda x: seen.append(len(x)) or -x)
    assert torch.equal(rows[2:5], -WHOLE[2:5])
    assert seen == [3]


def test_drawn_rows_are_seeded_and_distinct():
    rows = Rows(WHOLE)
    assert rows.drawn(10) is rows
    some, again, other = rows.drawn(6, 0)[:], rows.drawn(6, 0)[:], rows.drawn(6, 1)[:]
    assert torch.equal(some, again)
    assert not torch.equal(some, other)
    assert len({row.sum().item() for row in some}) == 6
