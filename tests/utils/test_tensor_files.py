"""Tensors are loaded unchanged, and a damaged file is never read."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lorae.errors import InputError
from lorae.utils import tensor_files
from lorae.utils.tensor_files import load_tensors, save_tensors

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
SHAPES = ((), (0,), (1,), (5,), (2, 3), (3, 0, 2), (2, 3, 4, 5))


def filled(shape, dtype):
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


def assert_round_trip(path, tensors, about):
    save_tensors(path, tensors, about)
    found, found_about = load_tensors(path)
    assert found_about == about
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        torch.testing.assert_close(found[name], tensor.detach(), rtol=0, atol=0, equal_nan=True)


def test_tensors_are_loaded_unchanged(tmp_path):
    kinds = {str((x, y)): filled(x, y) for x in SHAPES for y in FLOATS + INTEGERS}
    for tensors, about in ((kinds, {"step": 3}), (LAYOUTS, None), ({}, [])):
        assert_round_trip(tmp_path / "a", tensors, about)


@settings(max_examples=20)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_descriptions_are_loaded_unchanged(tmp_path_factory, about):
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
def saved(tmp_path):
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
            # Only white space of the header may change.
            assert about == original[1]
            assert tensors.keys() == original[0].keys()
            assert all(torch.equal(tensors[name], original[0][name]) for name in tensors)
            assert chr(whole[position]).isspace()


def test_a_file_of_a_newer_version_is_refused(saved, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(tensor_files, "FORMAT", tensor_files.FORMAT + 1)
        save_tensors(saved, {"x": torch.ones(2)}, None)
        load_tensors(saved)
    number = tensor_files.FORMAT
    pattern = f"newer version of lorae .format {number + 1}; .* up to {number}.: upgrade"
    with pytest.raises(InputError, match=pattern) as error:
        load_tensors(saved)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {"lorae": "{"}, {"lorae": "[]"}, {"lorae": "{}"}], ids=str
)
def test_safetensors_of_others_are_refused(metadata, tmp_path):
    save_file({"x": torch.ones(2)}, tmp_path / "a", metadata)
    with pytest.raises(InputError, match=r"not written by lorae|was altered"):
        load_tensors(tmp_path / "a")


def test_a_missing_file_is_reported(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(InputError, match="there is no file"):
            load_tensors(path)
