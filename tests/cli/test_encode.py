"""lorae encode: codes of data that were not trained on, with what else the data say."""

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image
from refusals import assert_refused

import lorae as package
from lorae.training.run_folder import Run

pytest_plugins = ["commands"]


def new_rows():
    values = np.random.default_rng(5).normal(size=(7, 3))
    frame = pd.DataFrame(values, columns=["c", "a", "b"])
    return frame.assign(kind=list("xyxyxyx"))[["kind", "c", "a", "b"]]


def test_columns_beside_those_of_the_run_are_kept(lorae, table):
    frame = new_rows()
    frame.to_csv("new.csv")  # with an index
    status, out, _ = lorae("encode", table, "new.csv", "--out", "codes.csv")
    assert (status, out) == (0, "2 codes of 7 samples in codes.csv\n")
    found = pd.read_csv("codes.csv", index_col=0)
    assert list(found.columns) == ["kind", "code_1", "code_2"]
    assert list(found.index) == list(range(7))
    assert list(found["kind"]) == list(frame["kind"])
    model = Run(table).model()
    expected = model.encode(frame[["a", "b", "c"]].to_numpy())
    np.testing.assert_allclose(found[["code_1", "code_2"]], expected, rtol=1e-5, atol=1e-6)


def test_a_table_in_another_spelling_has_the_same_codes(lorae, table):
    frame = new_rows()
    frame.to_csv("a.csv", index=False)
    frame.to_csv("german.csv", sep=";", decimal=",", index=False)
    pl.DataFrame(frame.to_dict("list")).write_parquet("a.parquet")
    for name in ("a.csv", "german.csv", "a.parquet"):
        assert lorae("encode", table, name, "--out", f"{name}.npy")[0] == 0
    expected = np.load("a.csv.npy")
    assert expected.shape == (7, 2)
    for name in ("german.csv", "a.parquet"):
        np.testing.assert_array_equal(np.load(f"{name}.npy"), expected)


def test_images_have_the_names_of_their_files(lorae, finished):
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    for k, image in enumerate(images):
        path = Path("pictures", "ab"[k % 2], f"{k}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    assert lorae("encode", finished, "pictures", "--out", "codes.csv")[0] == 0
    found = pl.read_csv("codes.csv")
    assert found["file"].to_list() == ["a/0.png", "a/2.png", "b/1.png", "b/3.png"]
    expected = Run(finished).model().encode(images[[0, 2, 1, 3]])
    np.testing.assert_allclose(found.drop("file").to_numpy(), expected, rtol=1e-4, atol=1e-5)


def test_named_sets_and_arrays_have_their_labels(lorae, finished):
    assert lorae("encode", finished, "digits", "--out", "all.parquet")[0] == 0
    found = pl.read_parquet("all.parquet")
    assert found.columns[:2] == ["part", "label"]
    assert found.height == 1797
    pixels, labels = np.zeros((3, 8, 8), np.uint8), np.array([4, 5, 6])
    np.savez("a.npz", pixels, y=labels)
    assert lorae("encode", finished, "a.npz", "--out", "a.csv")[0] == 0
    assert pl.read_csv("a.csv")["label"].to_list() == [4, 5, 6]


def test_a_saved_estimator_encodes_as_its_transform_does(lorae):
    frame = new_rows()
    reducer = package.LowRankAutoencoder(n_components=2, steps=5).fit(frame[["a", "b", "c"]])
    reducer.save("reducer.safetensors")
    frame.to_csv("new.csv", index=False)
    assert lorae("encode", "reducer.safetensors", "new.csv", "--out", "codes.npy")[0] == 0
    expected = reducer.transform(frame[["a", "b", "c"]])
    np.testing.assert_allclose(np.load("codes.npy"), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("few.csv", "--out", "o.csv"),
            "few.csv must have the columns .* got no b among",
        ),
        (("text.csv", "--out", "o.csv"), "must be numbers, got text in b .*line 2\\)\\s$"),
        (("flat.npy", "--out", "o.csv"), "must have samples of shape 3, got"),
        (("none.csv", "--out", "o.csv"), "data must be a path that exists"),
        (("few.csv", "--out", "o.txt"), "out must be a file .csv, .parquet or .npy, got 'o.txt'"),
        (("few.csv", "--out", "few.csv"), "out must not be the data that are read"),
        (("few.csv", "--out", "table/config.json"), "out must be a file"),
        (("few.csv", "--out", "o.csv", "--drop", "a"), "unknown option '--drop'"),
        (("taken.csv", "--out", "o.csv"), "data must have no column code_1"),
        (("few.csv",), "needs --out"),
        ((), "needs DATA and --out"),
    ],
)
def test_what_does_not_suit_is_refused_and_nothing_is_written(lorae, table, arguments, message):
    frame = new_rows()
    frame.drop(columns="b").to_csv("few.csv", index=False)
    frame.assign(b="t").to_csv("text.csv", index=False)
    frame.assign(code_1=1).to_csv("taken.csv", index=False)
    np.save("flat.npy", np.ones((5, 2)))
    before = {str(path) for path in Path().rglob("*")}
    few = Path("few.csv").read_bytes()
    assert_refused(lorae("encode", table, *arguments), message)
    assert {str(path) for path in Path().rglob("*")} == before
    assert Path("few.csv").read_bytes() == few
