"""Tables: separators, headers, missing values, types, errors."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lorae import data
from lorae.errors import InputError


def text(path: Path, content: str, name: str = "a.csv") -> Path:
    (path / name).write_text(content, encoding="utf-8")
    return path / name


def test_unknown_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be a folder or .*, got .*a\.txt"):
        data.load(text(tmp_path, "1,2", "a.txt"))


def table(header: str = "", n: int = 12, separator: str = ",") -> str:
    lines = [separator.join(f"{k * (c + 1) + 0.5}" for c in range(3)) for k in range(n)]
    return "\n".join([header] * bool(header) + lines) + "\n"


def test_a_header_is_distinguished_from_numbers(tmp_path: Path) -> None:
    plain = data.load(text(tmp_path, table()))
    named = data.load(text(tmp_path, table("a,b,c")))
    assert plain.columns == ("column_1", "column_2", "column_3")
    assert named.columns == ("a", "b", "c")
    assert torch.equal(plain.train, named.train)
    assert len(plain.train) + len(plain.test) == 12


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_separators_byte_order_marks_and_spaces(tmp_path: Path, separator: str) -> None:
    expected = data.load(text(tmp_path, table("a,b,c")))
    other = "\ufeff" + table(separator.join("abc"), separator=separator)
    loaded = data.load(text(tmp_path, other, "b.tsv"))
    assert loaded.columns == ("a", "b", "c")
    assert torch.equal(loaded.train, expected.train)
    spaced = data.load(text(tmp_path, table("a,b,c").replace(",", " , ")))
    assert torch.equal(spaced.train, expected.train)


def test_columns_of_one_name_get_different_names(tmp_path: Path) -> None:
    for header in ("a,a,a", "a, a,a "):
        columns = data.load(text(tmp_path, table(header))).columns
        assert columns is not None
        assert len(set(columns)) == 3


def test_booleans_are_zero_and_one(tmp_path: Path) -> None:
    rows = "\n".join(f"{k},{'true' if k % 3 else 'false'}" for k in range(12))
    loaded = data.load(text(tmp_path, f"a,b\n{rows}"))
    assert set(loaded.train[:, 1].tolist()) == {0.0, 1.0}


def test_parquet_equals_csv(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"a": range(12), "b": [k**2 / 7 for k in range(12)], "c": [k % 2 == 0 for k in range(12)]}
    )
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_csv(tmp_path / "a.csv")
    first, second = data.load(tmp_path / "a.parquet"), data.load(tmp_path / "a.csv")
    assert first.checksum == second.checksum
    assert first.columns == second.columns == ("a", "b", "c")
    assert first.name == "a"


@pytest.mark.parametrize("hole", ["", "NA", "nan", "NaN", "null", "inf", " ? "])
def test_missing_values_are_counted_by_column(tmp_path: Path, hole: str) -> None:
    path = text(tmp_path, table("a,b,c") + f"1,{hole},2\n3,{hole},4\n")
    with pytest.raises(InputError, match=r"columns b \(2, first in row 13, line 14\); fill"):
        data.load(path)


def test_a_missing_value_in_the_first_row_is_no_header(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"in the columns column_2 \(1, first in row 1, line 1\)"):
        data.load(text(tmp_path, "1,,2\n" + table()))


def test_columns_of_text_and_dates_are_named(tmp_path: Path) -> None:
    rows = "".join(f"{k},red,x{k}\n" for k in range(9))
    with pytest.raises(
        InputError,
        match=r"text in colour \('red' in row 1, line 2\), code \('x0' .*\(--drop colour code\)",
    ):
        data.load(text(tmp_path, "a,colour,code\n" + rows))
    frame = pl.DataFrame({"a": range(9), "when": pl.date_range(
        pl.date(2020, 1, 1), pl.date(2020, 1, 9), eager=True
    )})  # fmt: skip
    frame.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="got text in when"):
        data.load(tmp_path / "a.parquet")


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
def test_unfit_tables_are_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        data.load(text(tmp_path, content))


def test_binary_files_named_as_tables_are_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet"):
        (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(3000))
        with pytest.raises(InputError):
            data.load(tmp_path / name)
