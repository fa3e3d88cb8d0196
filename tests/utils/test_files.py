"""A file is the old one or the new one, and what was altered is never read."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from launcher import needs_fork, start
from safetensors.torch import save_file

from lorae.errors import InputError
from lorae.utils import files
from lorae.utils.files import (
    load_tensors,
    read_json,
    save_tensors,
    whole_folder,
    write_atomic,
    write_json,
)

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
SHAPES = ((), (0,), (1,), (5,), (2, 3), (3, 0, 2), (2, 3, 4, 5))


def filled(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return (torch.randn(shape) * 100).to(dtype)


LAYOUTS = {
    "contiguous": filled((2, 3, 4, 5), torch.float32),
    "channels last": filled((2, 3, 4, 5), torch.float32).to(memory_format=torch.channels_last),
    "transposed": filled((3, 4), torch.float32).T,
    "sliced": filled((6, 4), torch.float32)[::2, 1:],
    "expanded": filled((1, 4), torch.float32).expand(3, 4),
    "parameter": torch.nn.Parameter(filled((3,), torch.float32)),
    "not a number": torch.tensor([float("nan"), float("inf"), -0.0]),
}


def assert_round_trip(path: Path, tensors: dict[str, torch.Tensor], about: object) -> None:
    save_tensors(path, tensors, about)
    found, found_about = load_tensors(path)
    assert found_about == about
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        torch.testing.assert_close(found[name], tensor.detach(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS + INTEGERS, ids=str)
def test_tensors_come_back(shape, dtype, tmp_path):
    assert_round_trip(tmp_path / "a", {"x": filled(shape, dtype)}, {"step": 3})


def test_tensors_of_any_layout_come_back(tmp_path):
    assert_round_trip(tmp_path / "a", LAYOUTS, None)
    assert_round_trip(tmp_path / "empty", {}, [])


@settings(max_examples=20)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_descriptions_come_back(tmp_path_factory, about):
    path = tmp_path_factory.getbasetemp() / "about"
    save_tensors(path, {"x": torch.ones(1)}, about)
    assert load_tensors(path)[1] == about


def test_the_same_content_makes_the_same_bytes(tmp_path):
    tensors = {name: torch.full((3,), float(i)) for i, name in enumerate("qwertz")}
    turned = dict(reversed(tensors.items()))
    contents = set()
    for k in range(20):
        path = tmp_path / str(k)
        save_tensors(
            path, turned if k % 2 else tensors, {"b": 1, "a": 2} if k % 3 else {"a": 2, "b": 1}
        )
        contents.add(path.read_bytes())
    assert len(contents) == 1


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "saved.safetensors"
    save_tensors(path, {"x": torch.randn(7), "n": torch.tensor([3, 4])}, {"step": 12})
    return path


def test_a_file_cut_anywhere_is_refused(saved):
    whole = saved.read_bytes()
    for length in range(len(whole)):
        saved.write_bytes(whole[:length])
        with pytest.raises(InputError, match="cut short") as error:
            load_tensors(saved)
        assert "\n" not in str(error.value)


def test_a_file_with_any_byte_altered_is_refused(saved):
    whole = bytearray(saved.read_bytes())
    original = load_tensors(saved)
    for position in range(len(whole)):
        for mask in (0x01, 0x20, 0xFF):
            altered = bytearray(whole)
            altered[position] ^= mask
            saved.write_bytes(altered)
            try:
                tensors, about = load_tensors(saved)
            except InputError as error:
                assert "\n" not in str(error)  # noqa: PT017
                continue
            # White space of the header, and nothing that is read.
            assert about == original[1]
            assert tensors.keys() == original[0].keys()
            assert all(torch.equal(tensors[name], original[0][name]) for name in tensors)
            assert chr(whole[position]).isspace()


def test_a_file_of_a_newer_version_is_told(saved, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(files, "FORMAT", files.FORMAT + 1)
        save_tensors(saved, {"x": torch.ones(2)}, None)
        load_tensors(saved)
    pattern = (
        f"newer version of lorae .format {files.FORMAT + 1}; .* up to {files.FORMAT}.: upgrade"
    )
    with pytest.raises(InputError, match=pattern) as error:
        load_tensors(saved)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"PK\3\4", b"{}" * 50, os.urandom(500)])
def test_a_file_of_another_kind_is_refused(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match="cut short or not a safetensors file"):
        load_tensors(tmp_path / "a")


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {"lorae": "{"}, {"lorae": "[]"}, {"lorae": "{}"}], ids=str
)
def test_safetensors_of_others_are_refused(metadata, tmp_path):
    save_file({"x": torch.ones(2)}, tmp_path / "a", metadata)
    with pytest.raises(InputError, match=r"not written by lorae|was altered"):
        load_tensors(tmp_path / "a")


def test_a_file_that_is_missing_is_told(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(InputError, match="there is no file"):
            load_tensors(path)
    with pytest.raises(InputError, match="there is no file"):
        read_json(tmp_path / "nothing")
    (tmp_path / "bad.json").write_text('{"a":')
    with pytest.raises(InputError, match="is not valid JSON"):
        read_json(tmp_path / "bad.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not valid JSON"):
        read_json(tmp_path / "binary.json")


def test_json_comes_back(tmp_path):
    value = {"a": [1, 2.5, None, "ü"], "b": {"c": True}}
    write_json(tmp_path / "new" / "folder" / "a.json", value)
    assert read_json(tmp_path / "new" / "folder" / "a.json") == value


@pytest.mark.parametrize("name", ["fsync", "replace", "fdopen"])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_a_write_that_fails_leaves_the_old_file_and_no_other(name, error, tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_atomic(path, b"old")

    def fails(*arguments, **named):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fails)
        with pytest.raises(type(error)):
            write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space"), KeyboardInterrupt()])
def test_a_folder_that_is_not_filled_is_not_there(error, tmp_path):
    def fill():
        with whole_folder(tmp_path / "a") as folder:
            (folder / "half").write_bytes(b"x")
            raise error

    with pytest.raises(type(error)):
        fill()
    assert not list(tmp_path.iterdir())


def test_a_folder_is_there_once_it_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "new" / "folder"):
        with whole_folder(out) as folder:
            (folder / "inner").mkdir()
            (folder / "inner" / "file").write_bytes(b"x")
            assert not (out / "inner").exists()
        assert [path.name for path in out.rglob("*")] == ["inner", "file"]
        (tmp_path / "plain").mkdir()
        assert out.stat().st_mode == (tmp_path / "plain").stat().st_mode
        (tmp_path / "plain").rmdir()
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "new"}


def test_a_folder_that_is_taken_is_left_as_it_is(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    for out in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match="new or empty folder"), whole_folder(out):
            pytest.fail("the folder is not empty")
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_file_has_the_permissions_that_open_would_give(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_atomic(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


WRITER = """
from pathlib import Path
from lorae.utils.files import write_atomic
k = 0
while True:
    k = (k + 1) % 256
    write_atomic(Path("a"), bytes([k]) * (200_000 + 1000 * k))
"""


def assert_whole(content: bytes) -> None:
    assert len(content) == 200_000 + 1000 * content[0]
    assert content == content[:1] * len(content)


@needs_fork
def test_a_reader_beside_a_writer_that_is_killed_sees_whole_files(tmp_path):
    path = tmp_path / "a"
    write_atomic(path, b"\0" * 200_000)
    contents = set()
    for k in range(15):
        process = start(folder=tmp_path, code=WRITER)
        deadline = time.monotonic() + 0.02 + 0.013 * k
        while time.monotonic() < deadline:
            content = path.read_bytes()
            assert_whole(content)
            contents.add(content[0])
        process.kill(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert_whole(path.read_bytes())
    assert len(contents) > 5


@needs_fork
def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    write_atomic(path, b"old")
    code = """
import errno
from pathlib import Path
from lorae.utils.files import write_atomic
try:
    write_atomic(Path("a"), bytes(5000))
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    process = start(folder=tmp_path, code=code, limit=4000)
    assert process.wait() == 0, process.err
    assert process.out == "EFBIG\n"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
