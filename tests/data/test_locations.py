"""The cache folder is LORAE_DATA or the platform's; listing data sets imports nothing heavy."""

import subprocess
import sys

import pytest

from lorae.data import locations
from lorae.errors import InputError


def test_the_cache_folder_is_set_by_a_variable_or_the_platform(monkeypatch, tmp_path):
    monkeypatch.setenv("LORAE_DATA", str(tmp_path / "cache"))
    assert locations.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("LORAE_DATA")
    monkeypatch.setattr(
        locations.platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path / "home")
    )
    assert locations.cache_folder() == tmp_path / "home"


def test_an_unwritable_cache_folder_is_reported_in_one_sentence(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LORAE_DATA", str(tmp_path / "file" / "inside"))
    with pytest.raises(InputError, match=r"cannot write to .*; set LORAE_DATA"):
        locations.cache_folder()


def test_the_registry_is_read_without_heavy_imports():
    code = (
        "import sys; from lorae.data import DATASETS, cached;"
        "print([cached(name) for name in DATASETS if name != 'celeba']);"
        "print({'torch', 'numpy', 'polars', 'PIL', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[False, True, True, True]\nset()\n"
