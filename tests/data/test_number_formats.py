"""Numbers as people write them in text."""

import polars as pl
import pytest

from lorae.data.number_formats import common_unit, guess_decimal, may_be_number, to_numbers

SPELLINGS = {  # of 1234.5 and -0.25
    "plain": (["1234.5", "-0.25"], "."),
    "thousands": (["1,234.5", "-0.25"], "."),
    "German": (["1.234,5", "-0,25"], ","),
    "Swiss": (["1\u2019234.5", "-0.25"], "."),
    "French": (["1\u202f234,5", "-0,25"], ","),
    "dollars": (["$1,234.5", "-$0.25"], "."),
    "euros": (["1.234,5 €", "-0,25 €"], ","),
    "accounts": (["1,234.5", "(0.25)"], "."),
    "minus sign": (["1234.5", "\u22120.25"], "."),
    "Fortran": (["1.2345D+03", "-2.5d-1"], "."),
}


@pytest.mark.parametrize("kind", SPELLINGS)
def test_every_spelling_gives_the_same_numbers(kind):
    cells, decimal = SPELLINGS[kind]
    assert to_numbers(pl.Series(cells), decimal).to_list() == [1234.5, -0.25]
    assert guess_decimal(cells, ";") == decimal


@pytest.mark.parametrize("cell", ["1.2.3", "12,34.5", "1D", "D5", "$", "(a)", "5 kg", "2020-01-01"])
def test_other_text_is_no_number(cell):
    assert to_numbers(pl.Series([cell, "1"]), ".").to_list() == [None, 1]
    assert not may_be_number(cell) or cell == "$"  # as an amount that is missing


def test_a_unit_is_common_if_every_cell_that_is_there_has_it():
    assert common_unit(pl.Series(["5%", None, "NA", "7 %"])) == "%"
    assert common_unit(pl.Series(["5%", "7"])) == ""
    assert common_unit(pl.Series(["$5", "€7"])) == ""
    assert common_unit(pl.Series([None, ""], dtype=pl.String)) == ""
