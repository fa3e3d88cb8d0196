"""Files of fitted estimators: complete, or refused in one sentence and left unchanged."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from lorae import InputError, LowRankAutoencoder
from lorae.estimator.inputs import to_array
from lorae.estimator.serialization import VERSION
from lorae.nn.autoencoder import Architecture, build
from lorae.utils import files
from lorae.utils.tensor_files import load_tensors, save_tensors

X = np.random.default_rng(0).normal(size=(30, 2)) @ np.random.default_rng(1).normal(size=(2, 5))
ONE_FILE = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def modules() -> dict[str, nn.Module]:
    return {
        "encoder": nn.Sequential(nn.Linear(5, 4), nn.Tanh()),
        "decoder": nn.Sequential(nn.Tanh(), nn.Linear(4, 5)),
    }


def fitted(**arguments: object) -> LowRankAutoencoder:
    given_ = {"n_components": 2, "steps": 3, "width": 0.05, "random_state": 0} | arguments
    return LowRankAutoencoder(**given_).fit(X)


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "a.safetensors"
    fitted().save(path)
    return path.read_bytes()


@pytest.fixture
def path(content, tmp_path) -> Path:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    return path


def assert_refused(path: Path, pattern: str, **own: nn.Module) -> None:
    """Check for one sentence that names the file, and that the file is unchanged and alone."""
    before = path.read_bytes()
    with pytest.raises(InputError, match=pattern) as error:
        LowRankAutoencoder.load(path, **own)
    message = str(error.value)
    assert "\n" not in message
    assert repr(str(path)) in message
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def rewrite(path: Path, **fields: object) -> None:
    """Change the description in a file, with a valid checksum."""
    tensors, about = load_tensors(path)
    save_tensors(path, tensors, about | fields)


# Damaged and foreign files


@ONE_FILE
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(share, content, path):
    path.write_bytes(content[: int(share * len(content))])
    assert_refused(path, "cut short or not a safetensors file")


@ONE_FILE
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_a_file_with_any_byte_altered_is_refused(place, change, content, path):
    bad = bytearray(content)
    bad[int(place * len(bad))] ^= change
    path.write_bytes(bad)
    assert_refused(path, "cut short|altered|newer version|not written by lorae")


@pytest.mark.parametrize(("change", "age"), [(1, "a newer"), (-1, "an older")])
def test_a_file_of_another_version_is_refused(path, change, age):
    version = VERSION + change
    rewrite(path, version=version)
    assert_refused(path, f"{age} lorae: its version is {version}, .* reads version {VERSION}")


def test_a_file_of_another_kind_is_refused(path):
    build(Architecture("mlp", (5,), 2)).save(path)
    assert_refused(path, "holds no LowRankAutoencoder: give a file that its save method wrote")
    path.write_text(json.dumps({"kind": "LowRankAutoencoder"}))
    assert_refused(path, "not a safetensors file")
    save_tensors(path, {"x": torch.ones(1)}, ["LowRankAutoencoder"])
    assert_refused(path, "holds no LowRankAutoencoder")


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*no\.safetensors"):
        LowRankAutoencoder.load(tmp_path / "no.safetensors")


def test_weights_that_do_not_fit_the_architecture_are_refused(path):
    _, about = load_tensors(path)
    rewrite(path, architecture=about["architecture"] | {"width": 0.1})
    assert_refused(path, "holds no model that this version, or these modules, can load")


# Writing


def test_a_save_that_fails_leaves_the_previous_file(path, content, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    other = fitted(random_state=1)
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        other.save(path)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_save_replaces_the_previous_file(path, content):
    fitted(random_state=1).save(path)
    assert path.read_bytes() != content
    LowRankAutoencoder.load(path)


# Reading


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"random_state": np.int64(3), "learning_rate": np.float64(2e-3)},
        {"standardize": False, "density": "gaussian", "max_components": 3},
        {"n_components": 0.9, "steps": 5},
    ],
    ids=["usual", "numpy", "units", "share"],
)
def test_all_fitted_attributes_are_restored(arguments, tmp_path):
    one = fitted(**arguments)
    one.save(tmp_path / "a.safetensors")
    again = LowRankAutoencoder.load(tmp_path / "a.safetensors")
    attributes = {n for n in vars(one) if n.endswith("_") and n not in ("nested_", "path_")}
    for name in attributes | {
        "n_components",
        "random_state",
        "learning_rate",
        "standardize",
        "density",
        "max_components",
    }:
        found, expected = (to_array(getattr(each, name)) for each in (again, one))
        np.testing.assert_equal(found, expected, err_msg=name)
    assert attributes <= set(vars(again))
    assert again.path_ == one.path_
    for key, tensor in one.model_.state_dict().items():
        assert torch.equal(again.model_.state_dict()[key], tensor), key
    assert again.score(X) == one.score(X)
    np.testing.assert_array_equal(again.score_samples(X), one.score_samples(X))
    assert list(again.get_feature_names_out()) == list(one.get_feature_names_out())
    # Saving again writes the same bytes.
    again.save(tmp_path / "b.safetensors")
    written = [(tmp_path / f"{name}.safetensors").read_bytes() for name in "ab"]
    assert written[0] == written[1]


def test_a_generator_is_not_saved(tmp_path):
    fitted(random_state=np.random.RandomState(0)).save(tmp_path / "a.safetensors")
    assert LowRankAutoencoder.load(tmp_path / "a.safetensors").random_state is None


def test_modules_of_the_user_are_required_and_must_fit(tmp_path):
    own = modules()
    one = fitted(width=1.0, **own)
    path = tmp_path / "a.safetensors"
    one.save(path)
    for given_ in ({}, {"encoder": own["encoder"]}, {"decoder": own["decoder"]}):
        assert_refused(path, "the user's modules: give encoder and decoder", **given_)
    wrong = {**own, "encoder": nn.Sequential(nn.Linear(5, 3), nn.Tanh())}
    assert_refused(path, "these modules, can load", **wrong)
    again = LowRankAutoencoder.load(path, **modules())
    np.testing.assert_array_equal(again.transform(X), one.transform(X))
