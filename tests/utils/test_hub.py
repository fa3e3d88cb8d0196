"""Downloads from and uploads to a Hugging Face hub that runs on this machine."""

import builtins
import re

import pytest
import torch

import lorae
from lorae.errors import InputError
from lorae.utils import hub as ours

pytest_plugins = ["fake_hub"]


@pytest.fixture
def model():
    return lorae.build(lorae.Architecture("mlp", (6,), 3, "low-rank", width=0.1)).eval()


@pytest.fixture
def missing(monkeypatch):
    """Hide the package huggingface-hub."""
    real = builtins.__import__

    def refuse(name, *arguments, **named):
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)


GOOD = ("a/b", "someone/lorae-mnist", "Some_One/x.y-z", "0/1", "a/" + "b" * 96)
BAD = (
    "",
    "a",
    "a/b/c",
    "/b",
    "a/",
    "a b/c",
    "a/-b",
    "a/b.",
    "a/b--c",
    "a/b..c",
    "../b",
    "./b",
    "a/b.git",
    "ä/b",
    "a/" + "b" * 97,
    "~/b",
    "C:/b",
    "a/b\n",
)


@pytest.mark.parametrize("name", GOOD + BAD)
def test_valid_names_of_repositories_are_those_of_the_hub(name):
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
        theirs = name.count("/") == 1
    except HFValidationError:
        theirs = False
    assert ours.is_repository(name) == (name in GOOD)
    assert theirs or name not in GOOD


def test_a_model_is_loaded_from_a_repository(hub, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model.save(tmp_path / "model.safetensors")
    hub.repositories["someone/wines"] = {
        "model.safetensors": (tmp_path / "model.safetensors").read_bytes()
    }
    x = torch.randn(4, 6)
    assert torch.equal(lorae.load("someone/wines")(x), model(x))
    assert torch.equal(lorae.load("someone/wines", revision="main")(x), model(x))
    hub.shutdown()
    hub.server_close()  # the file is in the cache
    assert torch.equal(lorae.load("someone/wines")(x), model(x))


def test_a_path_takes_precedence_over_a_repository(hub, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub.repositories["here/model"] = {"model.safetensors": b"not this one"}
    model.save(tmp_path / "here" / "model")
    x = torch.randn(4, 6)
    assert torch.equal(lorae.load("here/model")(x), model(x))
    with pytest.raises(InputError, match="there is no file 'here/other'"):
        lorae.load("here/other")


def test_an_uploaded_folder_can_be_loaded(hub, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model.save(tmp_path / "out" / "model.safetensors")
    (tmp_path / "out" / "README.md").write_text("# A model\n")
    address = ours.push(tmp_path / "out", "someone/new", private=True)
    assert address == f"{hub.address}/someone/new"
    assert hub.private == {"someone/new": True}
    assert set(hub.repositories["someone/new"]) == {"model.safetensors", "README.md"}
    x = torch.randn(4, 6)
    assert torch.equal(lorae.load("someone/new")(x), model(x))


def assert_refused(call, pattern):
    with pytest.raises(InputError, match=pattern) as error:
        call()
    assert re.fullmatch(r"[^\n]+", str(error.value))


def test_a_missing_model_is_reported(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub.repositories["a/pickled"] = {"model.pt": b""}
    hub.repositories["a/strange"] = {"model.safetensors": b"PK"}
    hub.repositories["a/b"] = {"model.safetensors": b""}
    assert_refused(
        lambda: lorae.load("a/nothing"), "'a/nothing' is not a path, and its download failed"
    )
    assert_refused(lambda: lorae.load("a/pickled"), "is not a path, and its download failed")
    assert_refused(
        lambda: lorae.load("a/b", revision="v2"), "is not a path, and its download failed"
    )
    assert_refused(lambda: lorae.load("a/strange"), "cut short or not a safetensors file")


@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_refusal_of_the_hub_is_reported(hub, status, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    hub.refuses = status
    assert_refused(lambda: ours.push(tmp_path / "out", "a/b"), "uploading .* to 'a/b' failed")
    assert_refused(lambda: lorae.load("a/b"), "is not a path, and its download failed")


def test_an_unreachable_hub_is_reported(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub.shutdown()
    hub.server_close()
    (tmp_path / "out").mkdir()
    assert_refused(lambda: lorae.load("a/b"), "is not a path, and its download failed")
    assert_refused(lambda: ours.push(tmp_path / "out", "a/b"), "uploading .* failed")


@pytest.mark.usefixtures("missing")
def test_a_missing_package_is_reported_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(
        lambda: lorae.load("a/b"), r"'a/b' is not a file or folder; .* pip install 'lorae\[hub\]'"
    )
    assert_refused(
        lambda: ours.check_repository("a/b"), r"huggingface-hub: pip install 'lorae\[hub\]'"
    )
    assert_refused(lambda: ours.check_repository("a"), "a repository must be OWNER/NAME.* got 'a'")
    assert_refused(lambda: lorae.load("a"), "there is no file 'a'")
    assert not list(tmp_path.iterdir())
