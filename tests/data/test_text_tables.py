"""Inputs that people have, as they are: each kind, read through the public entry points."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import assert_refused

from lorae import data
from lorae.data.splits import split_rows
from lorae.errors import InputError

pytest_plugins = ["commands"]

X = (np.random.default_rng(0).normal(size=(60, 3)) * 3).round(3)
ROWS = [",".join(map(str, row)) for row in X]
GERMAN = [row.replace(",", ";").replace(".", ",") for row in ROWS]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LORAE_DATA", str(tmp_path / "cache"))


def write(path, lines, encoding="utf-8"):
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


def values(loaded):
    """Return all rows in the order of the file."""
    n = len(loaded.train) + len(loaded.test)
    train, test = split_rows(n, 0.1, 0)
    rows = np.empty((n, *loaded.shape))
    rows[train], rows[test] = loaded.train, loaded.test
    return rows


def numbered(rows, separator=",", start=0):
    return [f"{k}{separator}{row}" for k, row in enumerate(rows, start)]


R_ROWS = [f'"{k}" {row.replace(",", " ")}' for k, row in enumerate(ROWS, 1)]
ABC, NUMBERED = ("a", "b", "c"), ("0", "1", "2")
TABLES = {  # lines, encoding, columns, and part of a note
    "header of numbers": (["0,1,2", *ROWS], "utf-8", NUMBERED, "line 1 holds numbers"),
    "and an index": ([",0,1,2", *numbered(ROWS)], "utf-8", NUMBERED, "dropped the index"),
    "wavelengths": (["400.5,401,401.5,402", *(f"{r},7" for r in ROWS[:-1]), f"{ROWS[-1]},8"],
                    "utf-8", ("400.5", "401", "401.5", "402"), "line 1 holds numbers"),
    "index": ([",a,b,c", *numbered(ROWS)], "utf-8", ABC, "the first column, which has no name"),
    "index saved twice": (["Unnamed: 0,a,b,c", *numbered(ROWS)], "utf-8", ABC, "'Unnamed: 0'"),
    "two indices": ([",rownames,a,b,c", *(f"{k},{k + 1},{row}" for k, row in enumerate(ROWS))],
                    "utf-8", ABC, "column 'rownames'"),
    "row names": (["rownames,a,b,c", *(f"r{k},{row}" for k, row in enumerate(ROWS))],
                  "utf-8", ABC, "'rownames'"),
    "write.csv of R": (['"","a","b","c"', *(f'"{k}",{row}' for k, row in enumerate(ROWS, 1))],
                       "utf-8", ABC, "dropped the index"),
    "write.table of R": (['"a" "b" "c"', *R_ROWS], "utf-8", ABC, "white space"),
    "blank lines": (["", "a,b,c", *ROWS, "", ""], "utf-8", ABC, "header: line 2"),
    "rows of separators": (["a,b,c", *ROWS, ",,", ",,"], "utf-8", ABC, "dropped 2 empty rows"),
    "ends of separators": (["a,b,c,", *(f"{row}," for row in ROWS)], "utf-8", ABC, "empty column "),
    "decimal comma": (["a;b;c", *GERMAN], "utf-8", ABC, "separator semicolon, decimal sign ,"),
    "sep line": (["sep=;", "a;b;c", *GERMAN], "utf-8", ABC, "semicolon"),
    "tabs": (["a\tb\tc", *(row.replace(";", "\t") for row in GERMAN)], "utf-8", ABC, "tab"),
    "bars": (["a|b|c", *(row.replace(",", "|") for row in ROWS)], "utf-8", ABC, "separator bar"),
    "spaces": (["a , b , c", *(row.replace(",", " , ") for row in ROWS)], "utf-8", ABC, "comma"),
    "no header": (ROWS, "utf-8", ("column_1", "column_2", "column_3"), "header: none"),
    "commas in names": (['"a, cm";"b, kg";"c"', *(r.replace(",", ";") for r in ROWS)],
                        "utf-8", ("a, cm", "b, kg", "c"), "semicolon"),
    "comment": (["# made by a tool", "a,b,c", *ROWS], "utf-8", ABC, "header: line 2"),
    "savetxt": (["# a b c", *(r.replace(",", " ") for r in ROWS)], "utf-8", ABC, "the comment"),
    "footer of savetxt": (["a,b,c", *ROWS, "# end"], "utf-8", ABC, "60 rows"),
    "carriage returns": (["a,b,c\r\r", *(f"{row}\r\r" for row in ROWS)], "utf-8", ABC, "line 1"),
    "a name of two lines": (['"a', '(cm)","b, kg",c', *ROWS], "utf-8",
                            ("a (cm)", "b, kg", "c"), "header: line 1"),
    "currency": (["a,b,c", *(f"${row}".replace("$-", "-$") for row in ROWS)], "utf-8", ABC,
                 "without their unit in a ($)"),
    "percent": (["a;b;c", *(f"{row.replace(';', ' %;')}%" for row in GERMAN)], "utf-8", ABC,
                "without their unit in a (%), b (%), c (%)"),
    "minus signs": (["a,b,c", *(row.replace("-", "\u2212") for row in ROWS)],
                    "utf-8", ABC, "comma"),
    "accounts": (["a,b,c", *(re.sub(r"-([\d.]+)", r"(\1)", row) for row in ROWS)], "utf-8", ABC,
                 "comma"),
    "Fortran": (["a,b,c", *(",".join(f"{x:.6E}".replace("E", "D") for x in row) for row in X)],
                "utf-8", ABC, "comma"),
    "title": (["Table 1: sizes", "", "a,b,c", *ROWS], "utf-8", ABC, "skipped"),
    "UTF-16": (["a,b,c", *ROWS], "utf-16", ABC, "utf-16"),
    "byte order mark": (["a,b,c", *ROWS], "utf-8-sig", ABC, "header: line 1"),
    "Latin-1": (["größe,b,c", *ROWS], "latin-1", ("größe", "b", "c"), "cp1252"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_tables_as_they_are(kind, tmp_path):
    lines, encoding, columns, note = TABLES[kind]
    loaded = data.load(write(tmp_path / "t.csv", lines, encoding))
    assert loaded.columns == columns
    assert np.allclose(values(loaded)[:, :3], X, atol=1e-6)
    assert any(note in one for one in loaded.notes), loaded.notes


def test_thousands_are_grouped_by_the_other_sign(tmp_path):
    rows = [f'"{k:,}.5",{k}' for k in range(1000, 4000, 100)]
    english = data.load(write(tmp_path / "e.csv", ["a,b", *rows]), columns=["a"])
    swapped = [r.replace('"', "").split(",") for r in rows]
    german = [f"{a}.{b.replace('.', ',')};{c}" for a, b, c in swapped]
    assert torch.equal(data.load(write(tmp_path / "g.csv", ["a;b", *german])).train[:, :1],
                       english.train)  # fmt: skip
    assert english.train.min() >= 1000


def test_options_override_every_guess(tmp_path):
    path = write(tmp_path / "t.csv", ["0,1,2", *ROWS])
    assert len(values(data.load(path, header=False))) == 61
    path = write(tmp_path / "i.csv", ["id,a,b,c", *numbered(ROWS, start=7)])
    assert data.load(path).columns == ("id", "a", "b", "c")
    assert "id may be an identifier" in data.load(path).notes[-1]
    assert data.load(path, drop=["id"]).columns == ABC
    assert data.load(path, index="id").columns == ABC
    assert data.load(path, columns=["c", "a"]).columns == ("c", "a")
    path = write(tmp_path / "u.csv", [",a,b,c", *numbered(ROWS)])
    assert data.load(path, index="none").columns == ("column_1", "a", "b", "c")
    path = write(tmp_path / "d.csv", ["a;b;c", *GERMAN])
    with pytest.raises(InputError, match=r"got text in a .*if , is the decimal sign, give"):
        data.load(path, decimal=".")
    with pytest.raises(InputError, match=r"unknown column 'aa' \(did you mean 'a'\?\)"):
        data.load(path, drop=["aa"])


@pytest.mark.parametrize("offset", [0, 1e6, 1.7e9])
def test_the_distance_from_zero_does_not_matter(offset, tmp_path, lorae):
    rows = [f"{offset + k},{row}" for k, row in enumerate(ROWS)]
    write(tmp_path / "epoch.csv", ["t,a,b,c", *rows])
    loaded = data.load("epoch.csv")
    assert np.array_equal(values(loaded)[:, 0], offset + np.arange(60))
    words = ["--data", "epoch.csv", "--steps", "5", "--batch-size", "10", "--json"]
    status, out, _ = lorae("train", "--out", "run", *words)
    assert status == 0
    write(tmp_path / "near.csv", ["t,a,b,c", *numbered(ROWS)])
    _, near, _ = lorae("train", "--out", "near", *words[:1], "near.csv", *words[2:])
    errors = [json.loads(text)["reconstruction"] for text in (out, near)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-4)
    run = json.loads((tmp_path / "run" / "config.json").read_text())
    assert run["data"]["columns"] == ["t", "a", "b", "c"]
    assert "may be an identifier" in run["data"]["notes"][-1]


def test_a_column_of_text_keeps_its_signs(tmp_path):
    rows = [f"{'$abc'[k % 4]}%,{k}.5" for k in range(20)]
    loaded = data.load(write(tmp_path / "t.csv", ["kind,b", *rows]))
    assert loaded.columns == ("b", "kind=$%", "kind=a%", "kind=b%", "kind=c%")
    assert not any("unit" in note for note in loaded.notes)


def test_codes_of_missing_values_are_pointed_at(tmp_path):
    rows = [f"{-999 if k % 7 == 3 else k % 5 + 0.5},{k * k % 11}" for k in range(40)]
    loaded = data.load(write(tmp_path / "t.csv", ["a,b", *rows]))
    assert "may stand for missing ones in a (-999); if so, leave" in loaded.notes[-1]
    near = [f"{99 if k % 7 == 3 else 95 + k % 4},{k * k % 11}" for k in range(40)]
    assert "missing" not in str(data.load(write(tmp_path / "u.csv", ["a,b", *near])).notes)


def test_missing_values_of_stata_are_located(tmp_path, lorae):
    write(tmp_path / "t.csv", ["a,b,c", *ROWS[:5], ".,1,2", ".b,1,2", *ROWS[5:]])
    refused = lorae("train", "--data", "t.csv", "--out", "new")
    assert_refused(refused, r"columns a \(2, first in row 6, line 7\); keep missing")
    assert not Path("new").exists()
    (tmp_path / "t.dta").touch()
    assert_refused(lorae("train", "--data", "t.dta"), "got t.dta; make it a .csv file: export del")


BAD = {
    "text": (["a,b", "1,x", "2,3", "4,5"], [], r"text in b \('x' in row 1, line 2\).*--drop b"),
    "long row": (["a,b", "1,2", "3,4", "5,6,7"], [], "line 4 of t.csv must have 2 values"),
    "open quote": (["a,b", "1,2", '3,"4', "5,6"], [], "close every quotation mark"),
    "page": (["<!DOCTYPE html>"], [], "got a web page"),
    "JSON": (['[{"a": 1}]'], [], "got JSON: export the table as CSV"),
    "dates": (
        ["a,b", *(f"2020-01-0{k % 5 + 1},{k}" for k in range(20))],
        [],
        r"text in a \('2020-01-01' in row 1, line 2\)",
    ),
    "two units": (
        ["a,b", *(f"{'$€'[k % 2]}{k},{k}" for k in range(20))],
        [],
        r"text in a \('\$0' ",
    ),
    "huge cell": (["a,b", "1," + "9" * 200_000], [], "value of more than 131072 characters"),
    "encoding": (["a,ü", "1,2"], ["--encoding", "ascii"], "'ascii', in which line 1 is not valid"),
    "codec": (["a,b", "1,2"], ["--encoding", "klingon"], "encoding must be one that Python knows"),
    "separator": (["a,b", "1,2"], ["--separator", "::"], "separator must be one character or tab"),
    "decimal": (["a,b", "1,2"], ["--decimal", "x"], r"decimal must be one of \., ,, got 'x'"),
    "size": (["a,b", "1,2"], ["--size", "8"], "folder or zip of images for size and crop"),
    "layout": (["a,b", "1,2"], ["--layout", "NHWC"], "data must be an array for layout"),
}


@pytest.mark.parametrize("case", BAD)
def test_refusals_name_file_row_and_column(case, tmp_path, lorae):
    lines, options, message = BAD[case]
    write(tmp_path / "t.csv", lines)
    assert_refused(lorae("train", "--data", "t.csv", "--out", "new", *options), message)
    assert not Path("new").exists()


def test_the_command_line_takes_all_options(tmp_path, lorae):
    lines = ["x;id;größe;label", *(f"{k};{row.replace(',', ';')}" for k, row in enumerate(ROWS))]
    write(tmp_path / "t.csv", lines, "latin-1")
    words = ["--header", "yes", "--separator", ";", "--decimal", ".", "--encoding", "latin-1",
             "--index", "x", "--drop", "label", "--columns", "id", "größe", "label",
             "--steps", "2", "--batch-size", "10", "--out", "run"]  # fmt: skip
    status, _, err = lorae("train", "--data", "t.csv", *words)
    assert status == 0, err
    about = json.loads(Path("run/config.json").read_text())
    assert about["data"]["columns"] == ["id", "größe"]
    assert about["options"]["columns"] == ["id", "größe", "label"]
    assert about["data"]["notes"][0] in err
    assert lorae("train", "--resume", "run")[0] == 0


# arrays of images


def test_ranges_are_those_of_types(tmp_path):
    u = np.random.default_rng(0).integers(30, 200, (16, 8, 8, 3), dtype=np.uint8)
    forms = {"u1": u, "f2": u.astype("f2"), "u2": u * np.uint16(257), "unit": u / 255,
             "big": u.astype(">f4"), "long": u.astype(np.longdouble)}  # fmt: skip
    for name, array in forms.items():
        np.save(tmp_path / f"{name}.npy", array)
        loaded = data.load(tmp_path / f"{name}.npy")
        unit = loaded.unit(loaded.train)
        assert torch.allclose(unit, data.load(tmp_path / "u1.npy").train / 255, atol=1e-6)
        assert "value range 0 to" in loaded.notes[-1]


def test_dark_ranges_are_pointed_at_and_set(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (20, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "a.npy", bits)
    assert "give --value-range 0 1" in data.load(tmp_path / "a.npy").notes[-1]
    loaded = data.load(tmp_path / "a.npy", value_range=(0, 1))
    assert set(loaded.unit(loaded.train).unique().tolist()) == {0.0, 1.0}
    with pytest.raises(InputError, match="value_range must contain the values of a, 0 to 1, got 0"):
        data.load(tmp_path / "a.npy", value_range=(0, 0.5))


# the same values in other spellings


NUMBERS = st.integers(-(10**6), 10**6).map(lambda k: k / 1000)
LISTS = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=4, max_size=30)


@settings(max_examples=30)
@given(LISTS, st.sampled_from([(",", "."), (";", ","), ("\t", ","), ("|", "."), (";", ".")]),
       st.booleans(), st.booleans())  # fmt: skip
def test_spellings_of_pandas_are_read_as_by_polars(tmp_path_factory, rows, signs, index, quote):
    separator, decimal = signs
    folder = tmp_path_factory.mktemp("spelling")
    frame = pd.DataFrame([*rows, (1.5, 2.25, -0.125), (0.5, 0.75, 12.0625)], columns=list("abc"))
    frame.to_csv(folder / "a.csv", sep=separator, decimal=decimal, index=index,
                 quoting=2 if quote else 0)  # fmt: skip
    loaded = data.load(folder / "a.csv", drop_constant=True)
    plain = frame.to_csv(index=False)
    expected = pl.read_csv(plain.encode()).cast(pl.Float64).to_numpy()
    kept = ["abc".index(name) for name in loaded.columns or ()]
    assert np.allclose(values(loaded), expected[:, kept], rtol=1e-6)
