"""Tables: separators, headers, missing values, types, errors."""

import numpy as np
import polars as pl
import pytest
import torch

from lorae import data
from lorae.errors import InputError


def text(path, content, name="a.csv"):
    (path / name).write_text(content, encoding="utf-8")
    return path / name


def table(header="", n=12, separator=","):
    lines = [separator.join(f"{k * (c + 1) + 0.5}" for c in range(3)) for k in range(n)]
    return "\n".join([header] * bool(header) + lines) + "\n"


def mixed(rows=60):
    kinds, codes = ("ash", "elm", "oak"), (7, 21)
    lines = [
        f"{k * 0.5},{kinds[k % 3]},{'true' if k % 2 else 'false'},{codes[k % 4 // 2]}"
        for k in range(rows)
    ]
    return "size,kind,old,code\n" + "\n".join(lines) + "\n"


def test_columns_of_text_and_booleans_are_categories(tmp_path):
    loaded = data.load(text(tmp_path, mixed()))
    names = ("size", "code", "kind=ash", "kind=elm", "kind=oak", "old=false", "old=true")
    assert loaded.columns == names
    assert loaded.categories == (3, 2)
    one_hot = loaded.train[:, 2:5]
    assert torch.equal(one_hot.sum(1), torch.ones(len(one_hot)))
    # a column of categories has the variance of a column of numbers
    scaled = (loaded.train.double() - loaded.shift) / loaded.scale
    variance = scaled.var(0, correction=0)
    torch.testing.assert_close(variance[:2], torch.ones(2).double())
    torch.testing.assert_close(variance[2:5].sum(), torch.tensor(1.0).double())
    assert "kind (3), old (2)" in " ".join(loaded.notes)


def test_numbers_are_categories_if_named_so(tmp_path):
    loaded = data.load(text(tmp_path, mixed()), categories=["code"])
    assert loaded.columns is not None
    assert loaded.columns[-2:] == ("code=7", "code=21")
    with pytest.raises(InputError, match="unknown column 'cod'"):
        data.load(text(tmp_path, mixed()), categories=["cod"])


def test_missing_values_are_gaps_if_they_are_kept(tmp_path):
    rows = mixed() + ",elm,,7\n2,,true,21\n" * 5
    with pytest.raises(InputError, match=r"columns size .*--missing keep"):
        data.load(text(tmp_path, rows))
    loaded = data.load(text(tmp_path, rows), missing="keep")
    samples = torch.cat([loaded.train, loaded.test])
    gaps = samples.isnan().sum(0).tolist()
    assert gaps == [5, 0, 5, 5, 5, 5, 5]
    assert loaded.factors is not None
    np.testing.assert_allclose(loaded.shift, np.nanmean(loaded.train, 0), rtol=1e-6)


def test_rows_and_columns_without_an_observed_value_are_named(tmp_path):
    rows = [f"{k + 0.5},{k % 7},{k % 3}" for k in range(30)]
    path = text(tmp_path, "\n".join(["a,b,c", *rows[:4], "NA,,NaN", *rows[4:]]) + "\n")
    with pytest.raises(InputError, match=r"every sample, got only gaps in row 5, line 6; leave"):
        data.load(path, missing="keep")
    path = text(tmp_path, "a,b,c\n" + "\n".join(f"{k + 0.5},,{k % 3}" for k in range(30)) + "\n")
    with pytest.raises(InputError, match=r"every column, got only gaps in b; leave .*--drop"):
        data.load(path, missing="keep")


def test_binary_tables_equal_csv(tmp_path):
    frame = pl.DataFrame(
        {"a": range(12), "b": [k**2 / 7 for k in range(12)], "c": [k % 2 == 0 for k in range(12)]}
    )
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_ipc(tmp_path / "a.feather")
    frame.write_csv(tmp_path / "a.csv")
    first, second, third = (data.load(tmp_path / f"a.{x}") for x in ("parquet", "csv", "feather"))
    assert first.checksum == second.checksum == third.checksum
    assert first.columns == second.columns == ("a", "b", "c=false", "c=true")
    assert first.name == "a"
    (tmp_path / "b.feather").write_bytes(b"a,b\n1,2\n")
    with pytest.raises(InputError, match="must be a Feather file, got another or a damaged one"):
        data.load(tmp_path / "b.feather")


@pytest.mark.parametrize("hole", ["", "NA", "nan", "NaN", "null", "inf", " ? "])
def test_missing_values_are_counted_by_column(tmp_path, hole):
    path = text(tmp_path, table("a,b,c") + f"1,{hole},2\n3,{hole},4\n")
    with pytest.raises(InputError, match=r"columns b \(2, first in row 13, line 14\); keep"):
        data.load(path)


def test_a_missing_value_in_the_first_row_is_no_header(tmp_path):
    with pytest.raises(InputError, match=r"in the columns column_2 \(1, first in row 1, line 1\)"):
        data.load(text(tmp_path, "1,,2\n" + table()))


def test_identifiers_and_dates_are_named(tmp_path):
    rows = "".join(f"{k},red,x{k}\n" for k in range(9))
    with pytest.raises(
        InputError,
        match=r"text in code \('x0' in row 1, line 2\); .*\(--drop code\)",
    ):
        data.load(text(tmp_path, "a,colour,code\n" + rows))
    with pytest.raises(InputError, match=r"must vary .*, got constant colour=red"):
        data.load(text(tmp_path, "a,colour,code\n" + rows), drop=["code"])
    frame = pl.DataFrame({"a": range(9), "when": pl.date_range(
        pl.date(2020, 1, 1), pl.date(2020, 1, 9), eager=True
    )})  # fmt: skip
    frame.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="got text in when"):
        data.load(tmp_path / "a.parquet")
    pl.DataFrame({"a": range(9), "pairs": [[1, 2]] * 9}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(InputError, match="got text in pairs"):
        data.load(tmp_path / "b.parquet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must hold a table, got no lines"),
        ("a,b\n", "at least 2 samples, got 0"),
        ("a,b\n1,2\n", "at least 2 samples, got 1"),
        ("a,b\n1,2\n3,4,5\n1,2\n", "line 3 of .* must have 2 values, as most lines have, got 3"),
        ("a,b\n" + "1,2\n" * 9, "constant"),
    ],
)
def test_unfit_tables_are_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        data.load(text(tmp_path, content))


def test_a_table_may_have_categories_alone(tmp_path):
    rows = "".join(f"{'xyz'[k % 3]},{'true' if k % 2 else 'false'}\n" for k in range(30))
    loaded = data.load(text(tmp_path, "kind,old\n" + rows))
    assert loaded.columns == ("kind=x", "kind=y", "kind=z", "old=false", "old=true")
