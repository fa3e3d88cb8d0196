"""Arrays and tables: what is read, how it is understood, what is refused."""

import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lorae import data
from lorae.data import tables as arrays
from lorae.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORAE_DATA", str(tmp_path / "cache"))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def npy(path: Path, array: object) -> Path:
    np.save(path / "a.npy", array)
    return path / "a.npy"


def npz(path: Path, **named: object) -> Path:
    np.savez(path / "a.npz", **named)  # type: ignore[arg-type]
    return path / "a.npz"


def text(path: Path, content: str, name: str = "a.csv") -> Path:
    (path / name).write_text(content, encoding="utf-8")
    return path / name


# arrays


@pytest.mark.parametrize(
    ("shape", "sample"),
    [
        ((20, 5), (5,)),
        ((20, 9, 11), (1, 9, 11)),
        ((20, 9, 11, 3), (3, 9, 11)),
        ((20, 3, 9, 11), (3, 9, 11)),
        ((20, 4, 9, 3), None),  # channels first, and then a side of 3
        ((20, 7, 9, 11), (7, 9, 11)),
        ((20, 9, 11, 1), (1, 9, 11)),
    ],
)
def test_rank_and_channels(
    tmp_path: Path, shape: tuple[int, ...], sample: tuple[int, ...] | None
) -> None:
    path = npy(tmp_path, pixels(*shape))
    if sample is None:
        with pytest.raises(InputError, match="images of 3x9, but 8x8 is the least"):
            data.load(path)
        return
    loaded = data.load(path)
    assert loaded.shape == sample
    assert loaded.train.is_contiguous()
    assert loaded.train.dtype == (torch.float32 if len(shape) == 2 else torch.uint8)
    assert len(loaded.train) + len(loaded.test) == 20


def test_channels_last_keeps_pixels_in_place(tmp_path: Path) -> None:
    images = pixels(10, 8, 9, 3)
    loaded = data.load(npy(tmp_path, images))
    both = {image.numpy().tobytes() for image in [*loaded.train, *loaded.test]}
    assert both == {np.ascontiguousarray(image.transpose(2, 0, 1)).tobytes() for image in images}


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "i4", "u2", "?"])
def test_types_become_float32(tmp_path: Path, dtype: str) -> None:
    rows = pixels(30, 4).astype(dtype) if dtype != "?" else pixels(30, 4) > 127
    loaded = data.load(npy(tmp_path, rows))
    assert loaded.train.dtype == torch.float32
    train, _ = arrays.held_out(30, 0.1, 0)
    assert np.array_equal(loaded.train.numpy(), rows[train].astype(np.float32))


def test_boolean_images_become_black_and_white(tmp_path: Path) -> None:
    loaded = data.load(npy(tmp_path, pixels(20, 8, 8) > 127))
    assert loaded.train.dtype == torch.uint8
    assert set(loaded.train.unique().tolist()) == {0, 255}


def test_fortran_order_and_views_are_read_as_they_look(tmp_path: Path) -> None:
    rows = np.asfortranarray(noise(20, 3))
    train, _ = arrays.held_out(20, 0.1, 0)
    loaded = data.load(npy(tmp_path, rows))
    assert np.array_equal(loaded.train.numpy(), rows[train].astype(np.float32))


@pytest.mark.parametrize("shape", [(40, 6), (40, 9, 11, 3)])
def test_big_files_stay_on_disk_with_equal_content(
    tmp_path: Path, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = npy(tmp_path, pixels(*shape))
    in_memory = data.load(path)
    assert not (tmp_path / "cache" / "parts").exists()
    monkeypatch.setattr(arrays, "BIG", 1)
    for _ in range(2):  # written, then recalled
        mapped = data.load(path)
        assert mapped.checksum == in_memory.checksum
        assert torch.equal(mapped.train, in_memory.train)
    assert len(list((tmp_path / "cache" / "parts").iterdir())) == 1
    assert data.load(path, seed=1).checksum != in_memory.checksum
    mapped.train.zero_()  # copy-on-write: the file does not change
    assert data.load(path).checksum == in_memory.checksum


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5), "shape \\(5,\\)"),
        (np.zeros((2, 1, 8, 8, 8)), "shape \\(2, 1, 8, 8, 8\\)"),
        (np.zeros((5, 0)), "shape \\(5, 0\\)"),
        (np.zeros((0, 3)), "0 samples"),
        (np.zeros((1, 3)), "1 sample,"),
        (np.zeros((5, 7, 9)), "images of 9x7"),
        (np.zeros((5, 8, 8)), "every value of every training image is 0"),
        (np.array([["a", "b"]] * 5), "dtype <U1"),
        (np.zeros((5, 3), complex), "dtype complex128"),
        (np.array([[{}]] * 5, dtype=object), "Python objects"),
    ],
)
def test_unfit_arrays_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        data.load(npy(tmp_path, array))


def test_pickles_and_cut_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match="cannot be read"):
        data.load(path)
    npy(tmp_path, noise(100, 3))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="cannot be read"):
        data.load(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read"):
        data.load(path)
    cut = npz(tmp_path, a=noise(100, 3))
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read"):
        data.load(cut)


def test_unknown_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.txt is no kind of data: give a folder"):
        data.load(text(tmp_path, "1,2", "a.txt"))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_counted(tmp_path: Path, value: float) -> None:
    images, rows = noise(20, 8, 8), noise(20, 3)
    images[3, 1, 2] = images[4, 0, 0] = value
    rows[:, 1] = value
    with pytest.raises(InputError, match="2 values that are NaN or infinite"):
        data.load(npy(tmp_path, images))
    with pytest.raises(InputError, match=r"in the columns column_2 \(20\)"):
        data.load(npy(tmp_path, rows))


def test_constant_columns_are_named_or_dropped(tmp_path: Path) -> None:
    rows = noise(20, 4)
    rows[:, 1], rows[:, 3] = 0.1, 7
    path = npy(tmp_path, rows)
    with pytest.raises(InputError, match=r"constant in .*: column_2, column_4; drop_constant"):
        data.load(path)
    loaded = data.load(path, drop_constant=True)
    assert loaded.shape == (2,)
    assert loaded.columns == ("column_1", "column_3")
    assert loaded.scale.min() > 0
    with pytest.raises(InputError, match="constant"):
        data.load(npy(tmp_path, np.ones((5, 2))), drop_constant=True)


def test_a_column_that_varies_in_the_test_rows_alone_is_constant(tmp_path: Path) -> None:
    rows = noise(20, 2)
    rows[:, 1] = 0
    rows[arrays.held_out(20, 0.1, 0)[1], 1] = 1
    with pytest.raises(InputError, match="column_2"):
        data.load(npy(tmp_path, rows))


# npz


def test_npz_with_a_split_and_labels(tmp_path: Path) -> None:
    train, test = pixels(20, 8, 8), pixels(6, 8, 8, seed=1)
    y_train, y_test = np.arange(20) % 3, (np.arange(6) % 3).reshape(6, 1).astype(float)
    names = ({"train": train, "test": test}, {"x_train": train, "x_test": test})
    for named in names:
        path = npz(tmp_path, **named, y_train=y_train, y_test=y_test, about=np.array("x"))
        loaded = data.load(path)
        assert np.array_equal(loaded.train[:, 0].numpy(), train)
        assert np.array_equal(loaded.test[:, 0].numpy(), test)
        assert loaded.train_labels is not None
        assert loaded.test_labels is not None
        assert loaded.train_labels.tolist() == y_train.tolist()
        assert loaded.test_labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert loaded.test_labels.dtype == torch.int64


def test_npz_with_one_array(tmp_path: Path) -> None:
    rows, labels = noise(40, 3), np.repeat([0, 5], 20)
    alone = data.load(npz(tmp_path, anything=rows))
    assert alone.shape == (3,)
    assert alone.train_labels is None
    labelled = data.load(npz(tmp_path, x=rows, y=labels), test_fraction=0.5)
    assert labelled.test_labels is not None
    assert labelled.test_labels.bincount().tolist() == [10, 0, 0, 0, 0, 10]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"a": noise(9, 2), "b": noise(9, 2)}, "holds the arrays a, b, but must hold train"),
        ({}, r"holds the arrays \(none\)"),
        ({"train": noise(9, 2), "test": noise(9, 3)}, r"samples of shape \(3,\)"),
        ({"train": pixels(9, 8, 8), "test": noise(9, 8, 8)}, "type float64, but train"),
        ({"train": noise(9, 2), "test": noise(0, 2)}, "no test samples"),
        ({"train": noise(9, 2), "y_train": np.zeros(8, int)}, r"labels y_train have shape \(8,\)"),
        ({"train": noise(9, 2), "y_train": noise(9)}, "labels y_train must be whole numbers"),
        ({"x": noise(9, 2), "y": np.array(["a"] * 9)}, "type <U1"),
        ({"x": np.array([None] * 9)}, "Object arrays cannot be loaded"),
    ],
)
def test_unfit_npz_is_refused(tmp_path: Path, named: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        data.load(npz(tmp_path, **named))


# tables


def table(header: str = "", n: int = 12, separator: str = ",") -> str:
    lines = [separator.join(f"{k * (c + 1) + 0.5}" for c in range(3)) for k in range(n)]
    return "\n".join([header] * bool(header) + lines) + "\n"


def test_header_is_told_from_numbers(tmp_path: Path) -> None:
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


def test_columns_of_one_name_are_told_apart(tmp_path: Path) -> None:
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
    with pytest.raises(InputError, match=r"in the columns b \(2\): fill them"):
        data.load(path)


def test_a_missing_value_in_the_first_row_is_no_header(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"in the columns column_2 \(1\)"):
        data.load(text(tmp_path, "1,,2\n" + table()))


def test_columns_of_text_and_dates_are_named(tmp_path: Path) -> None:
    rows = "".join(f"{k},red,x{k}\n" for k in range(9))
    with pytest.raises(InputError, match="not numbers: colour, code; drop them, or encode"):
        data.load(text(tmp_path, "a,colour,code\n" + rows))
    frame = pl.DataFrame({"a": range(9), "when": pl.date_range(
        pl.date(2020, 1, 1), pl.date(2020, 1, 9), eager=True
    )})  # fmt: skip
    frame.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="not numbers: when"):
        data.load(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read as a table"),
        ("a,b\n", "0 samples"),
        ("a,b\n1,2\n", "1 sample,"),
        ("a,b\n1,2\n3,4,5\n", "cannot be read as a table"),
        ("a,b\n" + "1,2\n" * 9, "constant"),
    ],
)
def test_unfit_tables_are_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        data.load(text(tmp_path, content))


def test_binary_files_named_as_tables_are_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet"):
        (tmp_path / name).write_bytes(pixels(3000).tobytes())
        with pytest.raises(InputError):
            data.load(tmp_path / name)


def test_count_keeps_random_rows(tmp_path: Path) -> None:
    rows = np.arange(200.0).reshape(100, 2)
    loaded = data.load(npy(tmp_path, rows), count=20)
    assert (len(loaded.train), len(loaded.test)) == (20, 4)
    assert loaded.train[:, 0].max() > 100
