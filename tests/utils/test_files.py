"""A file is the old one or the new one, and a folder is whole or absent."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest
from launcher import needs_fork, start

from lorae.errors import InputError
from lorae.utils.files import read_json, whole_folder, write_atomic, write_json


def test_missing_and_invalid_json_is_reported(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_json(tmp_path / "nothing")
    (tmp_path / "bad.json").write_text('{"a":')
    with pytest.raises(InputError, match="is not valid JSON"):
        read_json(tmp_path / "bad.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not valid JSON"):
        read_json(tmp_path / "binary.json")


def test_json_is_read_unchanged(tmp_path):
    value = {"a": [1, 2.5, None, "ü"], "b": {"c": True}}
    write_json(tmp_path / "new" / "folder" / "a.json", value)
    assert read_json(tmp_path / "new" / "folder" / "a.json") == value


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (os, "replace"), (Path, "open")])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    owner, name, error, tmp_path, monkeypatch
):
    path = tmp_path / "a"
    write_atomic(path, b"old")

    def fails(*arguments, **named):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fails)
        with pytest.raises(type(error)):
            write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space"), KeyboardInterrupt()])
def test_a_folder_is_absent_if_filling_it_fails(error, tmp_path):
    def fill():
        with whole_folder(tmp_path / "a") as folder:
            (folder / "half").write_bytes(b"x")
            raise error

    with pytest.raises(type(error)):
        fill()
    assert not list(tmp_path.iterdir())


def test_a_folder_appears_once_it_is_filled(tmp_path):
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


def test_a_folder_with_content_is_left_unchanged(tmp_path):
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


def assert_whole(content):
    assert len(content) == 200_000 + 1000 * content[0]
    assert content == content[:1] * len(content)


@needs_fork
def test_a_reader_sees_whole_files_when_the_writer_is_killed(tmp_path):
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
