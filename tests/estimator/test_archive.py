"""A fitted estimator in a file: whole, or refused in one sentence with nothing lost."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from lorae import InputError, LowRankAutoencoder
from lorae.estimator.archive import VERSION
from lorae.estimator.containers import as_array
from lorae.nn.autoencoder import Architecture, build
from lorae.utils import files
from lorae.utils.files import load_tensors, save_tensors

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
    """Check for one sentence that names the file, which stays as it is, alone."""
    before = path.read_bytes()
    with pytest.raises(InputError, match=pattern) as error:
        LowRankAutoencoder.load(path, **own)
    told = str(error.value)
    assert "\n" not in told
    assert repr(str(path)) in told
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def altered(path: Path, **fields: object) -> None:
    """Write the description of a file anew, with a checksum that holds."""
    tensors, about = load_tensors(path)
    save_tensors(path, tensors, about | fields)


# What is damaged or foreign


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


def test_a_file_of_a_newer_version_is_refused(path):
    altered(path, version=VERSION + 1)
    assert_refused(path, f"newer lorae: its version is {VERSION + 1}, .* up to {VERSION}")


def test_a_file_of_another_kind_is_refused(path):
    build(Architecture("mlp", (5,), 2)).save(path)
    assert_refused(path, "holds no LowRankAutoencoder: give the file that its save wrote")
    path.write_text(json.dumps({"kind": "LowRankAutoencoder"}))
    assert_refused(path, "not a safetensors file")
    save_tensors(path, {"x": torch.ones(1)}, ["LowRankAutoencoder"])
    assert_refused(path, "holds no LowRankAutoencoder")


def test_a_file_that_is_missing_is_told(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*no\.safetensors"):
        LowRankAutoencoder.load(tmp_path / "no.safetensors")


def test_a_model_that_its_weights_do_not_fit_is_refused(path):
    _, about = load_tensors(path)
    altered(path, architecture=about["architecture"] | {"width": 0.1})
    assert_refused(path, "holds no model that this version, or these modules, can take up")


# What cannot be written


def test_a_save_that_fails_leaves_the_file_of_before(path, content, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    other = fitted(random_state=1)
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        other.save(path)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_save_takes_the_place_of_the_file_of_before(path, content):
    fitted(random_state=1).save(path)
    assert path.read_bytes() != content
    LowRankAutoencoder.load(path)


# What comes back


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"random_state": np.int64(3), "learning_rate": np.float64(2e-3)},
        {"standardize": False, "density": "gaussian", "latent": 3},
        {"n_components": 0.9, "steps": 5},
    ],
    ids=["usual", "numpy", "units", "share"],
)
def test_all_that_is_fitted_comes_back(arguments, tmp_path):
    one = fitted(**arguments)
    one.save(tmp_path / "a.safetensors")
    again = LowRankAutoencoder.load(tmp_path / "a.safetensors")
    attributes = {n for n in vars(one) if n.endswith("_") and n not in ("model_", "path_")}
    for name in attributes | {
        "n_components",
        "random_state",
        "learning_rate",
        "standardize",
        "density",
        "latent",
    }:
        found, expected = (as_array(getattr(each, name)) for each in (again, one))
        np.testing.assert_equal(found, expected, err_msg=name)
    assert attributes <= set(vars(again))
    assert again.path_ == []  # the models of a walk are not kept
    for key, tensor in one.model_.state_dict().items():
        assert torch.equal(again.model_.state_dict()[key], tensor), key
    assert again.score(X) == one.score(X)
    np.testing.assert_array_equal(again.score_samples(X), one.score_samples(X))
    assert list(again.get_feature_names_out()) == list(one.get_feature_names_out())
    # What was saved can be saved again, and is the same.
    again.save(tmp_path / "b.safetensors")
    written = [(tmp_path / f"{name}.safetensors").read_bytes() for name in "ab"]
    assert written[0] == written[1]


def test_a_generator_is_not_kept(tmp_path):
    fitted(random_state=np.random.RandomState(0)).save(tmp_path / "a.safetensors")
    assert LowRankAutoencoder.load(tmp_path / "a.safetensors").random_state is None


def test_modules_of_the_user_are_asked_for_and_must_fit(tmp_path):
    own = modules()
    one = fitted(width=1.0, **own)
    path = tmp_path / "a.safetensors"
    one.save(path)
    for given_ in ({}, {"encoder": own["encoder"]}, {"decoder": own["decoder"]}):
        assert_refused(path, "modules of the user's own: give encoder and decoder", **given_)
    wrong = {**own, "encoder": nn.Sequential(nn.Linear(5, 3), nn.Tanh())}
    assert_refused(path, "these modules, can take up", **wrong)
    again = LowRankAutoencoder.load(path, **modules())
    np.testing.assert_array_equal(again.transform(X), one.transform(X))
